"""A clan's folder for a story: write files into it, open the clan, read its faults."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from clan.errors import InventoryError
from clan.inventory.open import open_source
from clan.inventory.registry import Registry
from clan.model.inventory import Source

if TYPE_CHECKING:
    from pathlib import Path

    from clan.model.clan import Clan


class Desk:
    """A clan's folder that a story writes files into, as a person at a desk would."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def open(self, text: str | bytes, language: str = "toml") -> Clan:
        data = text if isinstance(text, bytes) else text.encode()
        source = Source(path=self.folder / f"clan.{language}", language=language, text=data)
        return open_source(source, Registry(self.folder))

    def faults(self, text: str | bytes, language: str = "toml") -> list[str]:
        with pytest.raises(InventoryError) as caught:
            self.open(text, language)
        return [str(fault) for fault in caught.value.faults]

    def warnings(self, text: str, language: str = "toml") -> list[str]:
        return [str(fault) for fault in self.open(text, language).warnings]

    def peers(self, text: str, network: str, language: str = "toml") -> dict[str, Any]:
        networking = self.open(text, language).exports[network].networking
        assert networking is not None
        peers = networking.to_json()["peers"]
        assert isinstance(peers, dict)
        return peers
