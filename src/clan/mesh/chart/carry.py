"""What an admin's `clan` and a machine tell each other at an update: maps and records.

    maps      each with its length in 8 bytes before it
    told      JSON: `held`, the hashes of the maps that the machine has (hexadecimal); `maps`, those
              of them that the admin did not name; `records`, identity -> record; bytes in base64

Nothing here is verified: whoever takes a map or a record does that.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from clan.mesh.chart.accept import MOST_MAPS
from clan.mesh.chart.canonical import base64_of, bytes_of
from clan.mesh.chart.chart import LARGEST
from clan.mesh.chart.content import MOST
from clan.mesh.chart.links import LARGEST as LARGEST_RECORD
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST = 2 * LARGEST
"""Bytes of one map with its mandates."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a machine told; by default nothing, as one does that is in no mesh yet."""

    held: frozenset[str] = frozenset()
    maps: tuple[bytes, ...] = ()
    records: Mapping[bytes, bytes] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "held": sorted(self.held),
            "maps": [base64_of(each) for each in self.maps],
            "records": {base64_of(who): base64_of(raw) for who, raw in self.records.items()},
        }


def read_told(data: bytes) -> Told:
    """Read what a machine told. Raises MeshError for what it cannot have said."""
    what = "what the machine told of its mesh"
    try:
        value = json.loads(data)
        held, maps, records = value["held"], value["maps"], value["records"]
        right = len(held) <= MOST_MAPS and len(maps) <= MOST_MAPS and len(records) <= MOST
        right = right and all(type(each) is str and len(each) == 2 * SIZE for each in held)
        items = list(records.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise MeshError(f"{what} cannot be read") from None
    if not right:
        raise MeshError(f"{what} is too much, or not of its form")
    return Told(
        held=frozenset(held),
        maps=tuple(bytes_of(each, 1, LONGEST, what) for each in maps),
        records={
            bytes_of(who, SIZE, SIZE, what): bytes_of(raw, 1, LARGEST_RECORD + 100, what)
            for who, raw in items
        },
    )


def packed(maps: Iterable[bytes]) -> bytes:
    """Put maps one behind the other."""
    return b"".join(len(each).to_bytes(8, "big") + each for each in maps)


def unpacked(data: bytes) -> list[bytes]:
    """Take apart what `packed` put together. Raises MeshError if it is not whole."""
    maps: list[bytes] = []
    while data:
        size, rest = int.from_bytes(data[:8], "big"), data[8:]
        if not 0 < size <= len(rest) or len(maps) == MOST_MAPS:
            raise MeshError("what should be maps is not whole")
        maps.append(rest[:size])
        data = rest[size:]
    return maps
