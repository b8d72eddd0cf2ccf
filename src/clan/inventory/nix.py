"""Evaluates clan.nix with the `nix-instantiate` of the system: offline, in 30 ms, writing nothing.

A clan.nix is a table, or a function of one (`{ ... }: { … }`). It may import files of its own
folder and nothing else: there is no store, no network, no environment, no configuration of the
computer, so that it says the same everywhere.
"""

from __future__ import annotations

import re
import subprocess
from typing import TYPE_CHECKING, Any

from clan.errors import MissingProgramError
from clan.inventory.source import refused

if TYPE_CHECKING:
    from clan.model.inventory import Source

PROGRAM = "nix-instantiate"
SECONDS = 20
"""An inventory takes milliseconds; what takes longer does not end."""

# A function is called only when there is an argument to give; `{ ... }` takes it and ignores it.
ARGUMENTS = ("--eval", "--strict", "--json", "--restrict-eval", "--argstr", "clan", "1")
ENVIRONMENT = {
    "HOME": "/nonexistent",
    "NIX_CONF_DIR": "/nonexistent",
    "NIX_USER_CONF_FILES": "",
    # A store that holds nothing: evaluation needs none, and no daemon has to be there.
    "NIX_REMOTE": "dummy://",
    "GC_MAXIMUM_HEAP_SIZE": "1G",
    "NO_COLOR": "1",
    "LC_ALL": "C.UTF-8",
}
PLACE = re.compile(r"at (\S.*?):(\d+):\d+:")
STDIN = {"«stdin»", "(string)", "(stdin)"}


def evaluate(source: Source, text: str) -> Any:
    """Return what the text evaluates to, as JSON values."""
    import json
    import shutil

    program = shutil.which(PROGRAM)
    if program is None:
        raise MissingProgramError(
            f"{source.path.name} needs {PROGRAM}, which is not installed",
            hint="Debian: `apt install nix-bin`; or write clan.toml",
        )
    folder = source.directory.resolve()
    try:
        done = subprocess.run(
            [program, *ARGUMENTS, "-I", f"clan={folder}", "-"],
            input=text,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            cwd=folder,
            env=ENVIRONMENT,
            timeout=SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired as late:
        raise refused(source.path, f"was not evaluated within {SECONDS} s") from late
    if done.returncode != 0:
        file, message, line = condensed(done.stderr)
        path = source.path if file in STDIN or not file else source.path.parent / file
        message = re.sub(r"\(string\)|«stdin»", source.path.name, message)
        raise refused(path, f"is not evaluated: {message}", line)
    return json.loads(done.stdout)


def condensed(stderr: str) -> tuple[str | None, str, int | None]:
    """Return file, message and line of what nix printed: its last error, and the place below it."""
    lines = stderr.splitlines()
    starts = [index for index, line in enumerate(lines) if line.strip().startswith("error:")]
    said = [line for line in lines[starts[-1] :] if line.strip()] if starts else lines[-1:]
    message = said[0].strip().removeprefix("error:").strip() if said else "nix failed"
    places = PLACE.findall("\n".join(said)) or PLACE.findall(stderr)
    if not places:
        return None, message, None
    file, line = places[-1]
    return file, message, int(line)
