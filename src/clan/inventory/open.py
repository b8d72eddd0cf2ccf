"""From the clan's file to the resolved clan in one step, which is how all faults come in one go.

`load` and `resolve` by themselves stop after their own: whoever has both to do does it here.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clan.errors import InventoryError
from clan.inventory.faults import Faults
from clan.inventory.load import read
from clan.inventory.registry import Registry
from clan.inventory.resolve import resolve_noting
from clan.inventory.source import read_source

if TYPE_CHECKING:
    from pathlib import Path

    from clan.model.clan import Clan
    from clan.model.inventory import Source


def open_clan(path: Path) -> Clan:
    """Return the clan that the file describes; an InventoryError has all of its faults."""
    source = read_source(path)
    return open_source(source, Registry(source.directory))


def open_source(source: Source, registry: Registry) -> Clan:
    """Return the clan that these bytes would describe, with all faults of file and clan."""
    faults = Faults()
    clan = resolve_noting(read(source, faults), registry, faults)
    if not faults.faults and not faults.warnings:
        return clan
    from clan.inventory.locate import located

    if faults.faults:
        raise InventoryError(located(faults.faults, source))
    return replace(clan, warnings=located(faults.warnings, source))
