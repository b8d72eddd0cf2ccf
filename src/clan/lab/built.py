"""Static programs for labs: built once with the image, and there for each lab's admin.

The admin's place has no way to Go modules: what is not built yet cannot be built there.
"""

from __future__ import annotations

import platform
import shutil
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.lab import image
from clan.static import TABLE
from clan.static.build import Builds
from clan.system.places import cache_home

if TYPE_CHECKING:
    from collections.abc import Callable

    from clan.lab.state import State


def kept() -> Builds:
    """Return the builds that all labs share."""
    return Builds(folder=image.cache() / "static")


def build(report: Callable[[str], None]) -> None:
    """Build all for this computer's architecture; a word to `report` where that fails."""
    for name, source in TABLE.items():
        try:
            kept().build(name, platform.machine(), report, fetch=True)
        except (ClanError, OSError) as fault:
            report(f"{fault}; the lab's machines use the package {source.debian}, which is slower")


def at_admin(state: State) -> Builds:
    """Return the builds of a lab's admin."""
    variables = {name: str(folder) for name, folder in state.private.items()}
    return Builds(folder=cache_home(variables) / "static")


def lend(state: State) -> None:
    """Have what is built in the cache of a lab's admin."""
    own = at_admin(state)
    own.folder.mkdir(parents=True)
    for name in TABLE:
        program = kept().find(name, platform.machine())
        if program is not None:
            for file in program.parent.glob(f"{program.name}*"):
                shutil.copy2(file, own.folder)
