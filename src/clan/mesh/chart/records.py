"""The newest record of interfaces that a machine knows of each member, its own too, on its disk.

    FOLDER/records/IDENTITY    the record as it was signed; IDENTITY in hexadecimal

The map carries records as well; this is for those that came later. Whoever reads one verifies it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from clan.machine.layout import write
from clan.mesh.chart import links
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

PLACE = "records"


class Records:
    """Records in a folder, that of the maps (`store.Store`)."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / PLACE

    def all(self) -> dict[bytes, bytes]:
        """Return identity -> record, as signed. What is damaged or of nobody is left out."""
        found: dict[bytes, bytes] = {}
        with contextlib.suppress(FileNotFoundError):
            for path in sorted(self._folder.iterdir()):
                with contextlib.suppress(ValueError, MeshError, OSError):
                    identity = bytes.fromhex(path.name)
                    found[identity] = links.read(path.read_bytes(), identity).raw
        return found

    def offer(self, identity: bytes, raw: bytes) -> bool:
        """Keep an identity's record if it is newer than the one here; say whether it was.

        Raises MeshError for what is none, or is signed by somebody else.
        """
        links.read(raw, identity)
        before = self.all().get(identity, b"")
        if links.newer(before, raw) == before:
            return False
        write(self._folder / identity.hex(), raw, 0o600)
        return True

    def forget(self, members: Iterable[bytes]) -> None:
        """Remove the records of all but these identities."""
        kept = {identity.hex() for identity in members if len(identity) == SIZE}
        with contextlib.suppress(FileNotFoundError):
            for path in self._folder.iterdir():
                if path.name not in kept:
                    path.unlink(missing_ok=True)
