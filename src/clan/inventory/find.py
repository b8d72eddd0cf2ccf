"""Finds the clan's file: `--clan DIR`, else `CLAN_DIR`, else upwards from where one stands.

A folder has one clan file. Two are refused rather than ranked: whoever edits the one that is not
read would wonder for hours.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.errors import ClanError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

FILES = ("clan.toml", "clan.json", "clan.nix")
HINT = "`clan init` makes one; `--clan DIR` or CLAN_DIR names another folder"


def find_clan(explicit: str | None, environ: Mapping[str, str], start: Path) -> Path:
    """Return the path of the clan's file; a ClanError when there is none, or more than one.

    `explicit` and `CLAN_DIR` are a folder, or the file itself; relative ones start at `start`.
    """
    named = explicit or environ.get("CLAN_DIR")
    if not named:
        for folder in (start, *start.parents):
            found = clan_file(folder)
            if found:
                return found
        raise ClanError(f"no clan in {start} or above", hint=HINT)
    origin = "--clan" if explicit else "CLAN_DIR"
    folder = start / named
    if folder.is_file() and folder.name in FILES:
        return folder
    if not folder.is_dir():
        raise ClanError(f"{origin}: {folder} is no folder", hint=HINT)
    found = clan_file(folder)
    if not found:
        raise ClanError(f"{origin}: no clan in {folder} ({', '.join(FILES)})", hint=HINT)
    return found


def clan_file(folder: Path) -> Path | None:
    """Return the folder's clan file, None when it has none; two are an error."""
    found = [folder / name for name in FILES if (folder / name).is_file()]
    if len(found) > 1:
        names = " and ".join(path.name for path in found)
        raise ClanError(f"{folder} has {names}", hint="keep one of them")
    return found[0] if found else None
