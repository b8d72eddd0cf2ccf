"""Files of a generation at their places: links into it, so that one rename changes them all.

What stood at such a place is kept aside and put back when the place is given up. Every place, and
every folder that is made for one, is written down before it is touched, so that nothing is
forgotten by a machine that loses power.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.machine.layout import CURRENT, Layout, draft_of, sync, write
from clan.machine.system import StepError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What is ours outside of our own folders: links, and folders that were made for them."""

    links: tuple[str, ...] = ()
    folders: tuple[str, ...] = ()


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


def give_up_others(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Put back what stood where a generation wants no file, while the links still lead somewhere.

    It comes before that generation is chosen, so that no place is without its file for a moment.
    """
    wanted = places(layout, manifest)
    for path in _touched(layout).links:
        if path not in wanted:
            _give_up(layout, path)


def place_files(layout: Layout, manifest: Mapping[str, Any]) -> None:
    """Have exactly the links that a generation wants, once it is chosen."""
    wanted = places(layout, manifest)
    before = _touched(layout)
    folders = sorted({*before.folders, *_missing_folders(layout, wanted)})
    _note(layout, Touched(links=tuple(sorted({*before.links, *wanted})), folders=tuple(folders)))
    give_up_others(layout, manifest)
    for file in manifest.get("files", ()):
        if "secret" not in file:
            own(layout.state / CURRENT / "files" / file["path"].lstrip("/"), file)
    for path, target in wanted.items():
        _link(layout, path, target)
    # The innermost first. What is not empty is still needed, by us or by someone else.
    left = [folder for folder in reversed(folders) if not _is_gone(_at(layout, folder))]
    _note(layout, Touched(links=tuple(sorted(wanted)), folders=tuple(sorted(left))))


def own(path: Path, file: Mapping[str, Any]) -> None:
    """Give a file its owner and permissions. Raises StepError when there is no such user."""
    try:
        shutil.chown(path, file["owner"], file["group"])
    except LookupError as fault:
        raise StepError(f"{file['path']}: {fault}") from None
    path.chmod(file["mode"])


def _touched(layout: Layout) -> Touched:
    with contextlib.suppress(FileNotFoundError):
        read = json.loads(layout.touched.read_bytes())
        return Touched(links=tuple(read["links"]), folders=tuple(read["folders"]))
    return Touched()


def _note(layout: Layout, touched: Touched) -> None:
    if touched != _touched(layout):
        shape = {"links": touched.links, "folders": touched.folders}
        write(layout.touched, json.dumps(shape).encode())


def _at(layout: Layout, path: str) -> Path:
    return layout.root / path.lstrip("/")


def _displaced(layout: Layout, path: str) -> Path:
    return layout.state / "displaced" / path.lstrip("/")


def _missing_folders(layout: Layout, paths: Iterable[str]) -> set[str]:
    return {
        f"/{folder.relative_to(layout.root)}"
        for path in paths
        for folder in _at(layout, path).parents
        if layout.root in folder.parents and not folder.exists()
    }


def _is_gone(folder: Path) -> bool:
    """Remove a folder if it is empty; return whether it is there no more."""
    try:
        folder.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True


def _is_ours(layout: Layout, place: Path) -> bool:
    if not place.is_symlink():
        return False
    target = str(place.readlink())
    return target.startswith((f"{layout.state}/", f"{layout.run}/"))


def _link(layout: Layout, path: str, target: str) -> None:
    place, kept = _at(layout, path), _displaced(layout, path)
    draft = draft_of(place)
    draft.unlink(missing_ok=True)
    if _is_ours(layout, place) and str(place.readlink()) == target:
        return
    place.parent.mkdir(parents=True, exist_ok=True)
    if not os.path.lexists(place):
        # Nothing is displaced now; an older copy must not come back in its stead.
        kept.unlink(missing_ok=True)
    elif not _is_ours(layout, place):
        if place.is_dir() and not place.is_symlink():
            raise IsADirectoryError(f"{path} is a folder here, and the plan has a file there")
        # Copied first: killed before the link is made, the place still has what it had.
        _copy(place, kept)
    draft.symlink_to(target)
    draft.replace(place)
    sync(place.parent)


def _give_up(layout: Layout, path: str) -> None:
    place, kept = _at(layout, path), _displaced(layout, path)
    draft_of(place).unlink(missing_ok=True)
    if _is_ours(layout, place):
        if os.path.lexists(kept):
            _copy(kept, place)
        else:
            place.unlink()
            sync(place.parent)
    # Someone put a file of theirs where our link was: it stays, and is what is there now.
    kept.unlink(missing_ok=True)


def _copy(source: Path, target: Path) -> None:
    """Copy a file, or a link as such, with its owner, permissions and times; all of it or none."""
    target.parent.mkdir(parents=True, exist_ok=True)
    draft = draft_of(target)
    draft.unlink(missing_ok=True)
    shutil.copy2(source, draft, follow_symlinks=False)
    found = source.lstat()
    os.chown(draft, found.st_uid, found.st_gid, follow_symlinks=False)
    if not draft.is_symlink():
        # Changing the owner takes set-user-id away.
        draft.chmod(found.st_mode & 0o7777)
        descriptor = os.open(draft, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
    draft.replace(target)
    sync(target.parent)
