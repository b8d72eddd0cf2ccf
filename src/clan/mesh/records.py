"""The latest record of interfaces of each machine that was heard of, on this machine's disk.

The map carries what its signer knew; a machine tells newer ones itself. Each was verified before it
is kept, and the higher serial counts, wherever it came from. What is lost is heard again.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from clan.machine.layout import write
from clan.mesh.chart import links
from clan.mesh.chart.canonical import base64_of, bytes_of, decode, encode, row
from clan.mesh.chart.content import MOST
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from clan.mesh.chart.content import Machine
    from clan.mesh.chart.links import LinkRecord


class Records:
    """Those of a file."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._held: dict[bytes, LinkRecord] = {}
        with contextlib.suppress(FileNotFoundError, MeshError):
            for entry in decode(path.read_bytes(), str(path)).several("records", MOST):
                identity, raw = row(entry, (str, str), str(path))
                self.take(
                    bytes_of(identity, SIZE, SIZE, str(path)),
                    bytes_of(raw, 0, links.LARGEST + 200, str(path)),
                )

    @property
    def held(self) -> Mapping[bytes, LinkRecord]:
        """By identity."""
        return self._held

    def take(self, identity: bytes, raw: bytes) -> bool:
        """Take a record in if it is newer than what is held; say whether it was.

        Raises MeshError for one that is not the identity's.
        """
        known = self._held.get(identity)
        if known is not None and links.newer(known.raw, raw) == known.raw:
            return False
        self._held[identity] = links.read(raw, identity)
        return True

    def take_all(self, machines: Iterable[Machine]) -> bool:
        """Take in what a map says, and say whether one was newer."""
        newer = [each for each in machines if each.links and self.take(each.identity, each.links)]
        return bool(newer)

    def keep(self, members: Collection[bytes]) -> None:
        """Write those of the members, and forget the others. Raises OSError."""
        self._held = {key: record for key, record in self._held.items() if key in members}
        entries = [[base64_of(key), base64_of(self._held[key].raw)] for key in sorted(self._held)]
        write(self._path, encode({"records": entries}), 0o600)
