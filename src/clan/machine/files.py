"""Files of a generation at their places: links into it, so that one rename changes them all.

What stood at such a place is moved aside and put back when the place is given up. Every place is
written down before it is touched, so that nothing is forgotten by a machine that loses power.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from typing import TYPE_CHECKING, Any

from clan.machine.layout import CURRENT, Layout, write
from clan.machine.system import StepError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def places(layout: Layout, manifest: Mapping[str, Any]) -> dict[str, str]:
    """Return path -> where its link leads, for all files of a generation."""
    return {
        file["path"]: str(
            layout.secrets / file["secret"]
            if "secret" in file
            else layout.state / CURRENT / "files" / file["path"].lstrip("/")
        )
        for file in manifest.get("files", ())
    }


def place_files(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Have exactly the links that a generation wants, and what was displaced put back elsewhere."""
    wanted = places(layout, manifest)
    touched = _touched(layout)
    _note(layout, sorted({*touched, *wanted}))
    for path in touched:
        if path not in wanted:
            _give_up(layout, path)
    for file in manifest.get("files", ()):
        if "secret" not in file:
            own(layout.state / CURRENT / "files" / file["path"].lstrip("/"), file)
    for path, target in wanted.items():
        _link(layout, path, target)
    _note(layout, sorted(wanted))


def own(path: Path, file: Mapping[str, Any]) -> None:
    """Give a file its owner and permissions. Raises StepError when there is no such user."""
    try:
        shutil.chown(path, file["owner"], file["group"])
    except LookupError as fault:
        raise StepError(f"{file['path']}: {fault}") from None
    path.chmod(file["mode"])


def _touched(layout: Layout) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        read: list[str] = json.loads(layout.touched.read_bytes())
        return read
    return []


def _note(layout: Layout, paths: list[str]) -> None:
    if paths != _touched(layout):
        write(layout.touched, json.dumps(paths).encode())


def _at(layout: Layout, path: str) -> Path:
    return layout.root / path.lstrip("/")


def _displaced(layout: Layout, path: str) -> Path:
    return layout.state / "displaced" / path.lstrip("/")


def _is_ours(layout: Layout, place: Path) -> bool:
    if not place.is_symlink():
        return False
    target = str(place.readlink())
    return target.startswith((f"{layout.state}/", f"{layout.run}/"))


def _link(layout: Layout, path: str, target: str) -> None:
    place = _at(layout, path)
    if _is_ours(layout, place) and str(place.readlink()) == target:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if not _is_ours(layout, place) and os.path.lexists(place):
        kept = _displaced(layout, path)
        kept.parent.mkdir(parents=True, exist_ok=True)
        # Copied first: killed before the link is made, the place still has what it had.
        if place.is_symlink() or not place.is_dir():
            shutil.copy2(place, kept, follow_symlinks=False)
        else:
            raise IsADirectoryError(f"{path} is a folder here, and the plan has a file there")
    draft = place.with_name(f".{place.name}.clan-new")
    draft.unlink(missing_ok=True)
    draft.symlink_to(target)
    draft.replace(place)


def _give_up(layout: Layout, path: str) -> None:
    place, kept = _at(layout, path), _displaced(layout, path)
    if not _is_ours(layout, place):
        return
    if os.path.lexists(kept):
        shutil.move(kept, place)
    else:
        place.unlink()
        # Folders that are empty now go too, but none of the system's own: /etc and /etc/tor stay.
        depth = len(place.relative_to(layout.root).parts)
        with contextlib.suppress(OSError):
            for folder in list(place.parents)[: max(0, depth - 3)]:
                folder.rmdir()
