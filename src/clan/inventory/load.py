"""From the clan's file to its Inventory: read, parse, and read by the schema."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clan.errors import InventoryError
from clan.inventory.collector import paused
from clan.inventory.faults import Faults
from clan.inventory.schema import read_tree
from clan.inventory.source import parse, read_source
from clan.model.inventory import Source

if TYPE_CHECKING:
    from pathlib import Path

    from clan.model.inventory import Inventory


def load(path: Path) -> Inventory:
    """Read the clan's file. InventoryError has every fault; ClanError when it cannot be read."""
    return load_source(read_source(path))


def load_bytes(path: Path, language: str, text: bytes) -> Inventory:
    """Read what the file would say with these bytes; `language` is toml, json or nix.

    Nothing is read from `path` (Nix reads what the text imports, beside it).
    """
    return load_source(Source(path=path, language=language, text=text))


def read(source: Source, faults: Faults) -> Inventory:
    """Return what can be read of the file, noting every fault on the way.

    What keeps the file from having keys at all is an InventoryError at once.
    """
    with paused():
        return read_tree(parse(source), source, faults)


def load_source(source: Source) -> Inventory:
    """Turn a file's bytes into the Inventory, or into all its faults."""
    faults = Faults()
    inventory = read(source, faults)
    if not faults.faults and not faults.warnings:
        return inventory
    from clan.inventory.locate import located

    if faults.faults:
        raise InventoryError(located(faults.faults, source))
    return replace(inventory, warnings=located(faults.warnings, source))
