"""Static programs that were sent here: where they lie, which are used, which nothing needs now.

    /var/lib/clan/static/NAME-VERSION        the programs
    /var/lib/clan/generations/N/static/NAME  link to the one that a generation uses

A program is sent once, whichever generations use it.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.machine.layout import write

if TYPE_CHECKING:
    import zipfile
    from collections.abc import Iterable, Mapping

    from clan.machine.layout import Layout

FOLDER = "static"
CURRENT = Path("/var/lib/clan/current") / FOLDER


def find(name: str) -> str | None:
    """Return the program that is used here: the current generation's, else the system's own."""
    # Not by way of `current`, which may lead elsewhere by the time it is run; and under its own
    # name, which is what the system calls it while it runs.
    own = CURRENT.resolve() / name
    return str(own) if os.access(own, os.X_OK) else shutil.which(name)


def has(layout: Layout, program: Mapping[str, Any]) -> bool:
    """Whether a program of a manifest was sent here."""
    return _place(layout, program).is_file()


def sent(archive: zipfile.ZipFile) -> list[str]:
    """List the programs that lie in an archive, as NAME-VERSION."""
    return [name.removeprefix(f"{FOLDER}/") for name in archive.namelist()
            if name.startswith(f"{FOLDER}/")]  # fmt: skip


def take(layout: Layout, archive: zipfile.ZipFile) -> None:
    """Keep the programs that lie in an archive."""
    for name in sent(archive):
        write(layout.state / FOLDER / Path(name).name, archive.read(f"{FOLDER}/{name}"), 0o755)


def link(layout: Layout, generation: Path, wanted: Iterable[Mapping[str, Any]]) -> None:
    """Let a generation that is being laid down lead to those of its programs that are here."""
    for program in wanted:
        if has(layout, program):
            (generation / FOLDER).mkdir(exist_ok=True)
            place = f"../../../{FOLDER}/{_place(layout, program).name}"
            (generation / FOLDER / program["name"]).symlink_to(place)


def collect(layout: Layout) -> None:
    """Remove the programs that no generation leads to."""
    links = layout.generations.glob(f"*/{FOLDER}/*")
    used = {link.readlink().name for link in links if link.is_symlink()}
    with contextlib.suppress(FileNotFoundError):
        for program in (layout.state / FOLDER).iterdir():
            if program.name not in used:
                program.unlink()


def _place(layout: Layout, program: Mapping[str, Any]) -> Path:
    return layout.state / FOLDER / f"{program['name']}-{program['version']}"
