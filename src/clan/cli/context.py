"""From the `--clan` option to the clan: find its file, load it, resolve it.

Every command that needs the clan gets it here, so that all say the same of a missing or faulty
one. Warnings go to standard error, once.
"""

from __future__ import annotations

import os
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from clan.inventory.find import find_clan

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.errors import Fault
    from clan.model.clan import Clan
    from clan.model.module import Opening
    from clan.vars.graph import Graph


def clan_file(option: str | None) -> Path:
    """Return the path of the clan's file; `option` is what `--clan` says."""
    return find_clan(option, os.environ, Path.cwd())


def load_clan(option: str | None) -> Clan:
    """Find, load and resolve the clan. InventoryError has all faults of its file."""
    from clan.inventory.open import open_clan

    clan = open_clan(clan_file(option))
    show_warnings(clan.warnings)
    return clan


def generators(option: str | None, clan: Clan) -> Graph:
    """Ask the clan's modules for their generators. InventoryError has all faults, with lines."""
    from clan.vars.graph import graph

    with _lines(option):
        return graph(clan)


def openings(option: str | None, clan: Clan) -> list[tuple[str, Opening]]:
    """Ask them what is to be let in to machines, by machine, each with its instance's name.

    InventoryError has all faults, with lines.
    """
    from clan.inventory.openings import openings as ask

    with _lines(option):
        return ask(clan)


@contextmanager
def _lines(option: str | None) -> Iterator[None]:
    """Add to the faults of an InventoryError the lines of the clan's file."""
    from clan.errors import InventoryError

    try:
        yield
    except InventoryError as error:
        from clan.inventory.locate import located
        from clan.inventory.source import read_source

        faults = located(list(error.faults), read_source(clan_file(option)))
        raise InventoryError(faults) from None


def user_name(given: str | None) -> str:
    """Return what this person is called as an admin: as given, or as the system knows them."""
    import getpass

    return given or getpass.getuser()


def show_warnings(warnings: tuple[Fault, ...]) -> None:
    """Print what does not keep the clan from being used."""
    if warnings:
        from clan.cli.output import warn

        for warning in warnings:
            warn(str(warning))


def vars_folder(directory: Path) -> Path:
    """Return where the vars of the clan in `directory` are."""
    from clan.vars.store import Store

    return Store.of(directory, os.environ).folder
