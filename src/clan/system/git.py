"""Staging in git: what a command changed is in the index afterwards. It never commits.

A flake sees only what git knows of, so a new file that is not staged does not exist for Nix.
Where the folder is in no work tree, or git is not installed, nothing happens.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

# Set by git for its hooks: they would turn `-C` to another repository or index.
_HOOK_VARIABLES = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_PREFIX")
_LITERAL = ["--literal-pathspecs"]  # a `*` in a file's name is no pattern; check-ignore refuses it


def work_tree(directory: Path) -> Path | None:
    """Return the nearest folder upwards that has a `.git`, without running git."""
    start = directory.resolve()
    return next((folder for folder in (start, *start.parents) if (folder / ".git").exists()), None)


def stage(directory: Path, paths: Iterable[Path]) -> str | None:
    """Stage the paths as they are now: new, changed or gone. Ignored ones are left alone.

    Returns None when all is staged or there is nothing to stage in, otherwise git's complaint:
    the files are written by then, and git's trouble is no reason to fail.
    """
    if work_tree(directory) is None:
        return None
    here = [Path(os.path.realpath(path.parent), path.name) for path in paths]
    present = [str(path) for path in here if path.exists() or path.is_symlink()]
    gone = [str(path) for path in here if not (path.exists() or path.is_symlink())]
    try:
        ignored = _git(directory, ["check-ignore", "-z", "--stdin"], stdin="\0".join(present))
        kept = sorted(set(present) - set(ignored.stdout.split("\0")))
        done = [_git(directory, [*_LITERAL, "add", "--", *kept])] if kept else []
        if gone:
            forget = ["rm", "-r", "--cached", "--quiet", "--ignore-unmatch", "--", *gone]
            done.append(_git(directory, [*_LITERAL, *forget]))
    except FileNotFoundError:
        return None
    complaints = [result.stderr.strip() for result in done if result.returncode]
    return "\n".join(complaints) or None


def _git(
    directory: Path, arguments: Sequence[str], *, stdin: str = ""
) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key not in _HOOK_VARIABLES}
    return subprocess.run(
        ["git", "-C", str(directory), *arguments],
        check=False,
        capture_output=True,
        text=True,
        errors="surrogateescape",
        input=stdin,
        env=environment,
    )
