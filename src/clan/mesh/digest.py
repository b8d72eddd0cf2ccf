"""What a machine has of maps and records, in short; and what another one lacks of it. Pure.

Two agents that meet inside a link each send a digest, then what the other's shows to be missing
there, then an end. As frames: a type in one byte, the length in four, the body.

| type | body |
|---|---|
| 1 digest | canonical JSON: see `Digest` |
| 2 map | as it was signed |
| 3 record | the identity (32 bytes), and the record as it was signed |
| 4 end | nothing |
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.mesh.chart import chart as charts
from clan.mesh.chart import links
from clan.mesh.chart.canonical import base64_of, bytes_of, check, decode, encode, row
from clan.mesh.chart.chart import HIGHEST
from clan.mesh.chart.content import MOST
from clan.mesh.chart.mandate import HIGHEST_EPOCH
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.mesh.chart.accept import Held
    from clan.mesh.chart.links import LinkRecord

DIGEST, MAP, RECORD, END = 1, 2, 3, 4
_LARGEST = {
    DIGEST: 1 << 20,
    MAP: charts.LARGEST + (1 << 20),
    RECORD: SIZE + links.LARGEST + 200,
    END: 0,
}
LARGEST = max(_LARGEST.values()) + 5
"""Bytes of a frame."""
MOST_HEADS = 16
_HEAD = 5
_TELLS = 8
"""Bytes of a record's hash that tell two of one serial apart."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Digest:
    """What one machine has."""

    maps: tuple[bytes, ...] = ()
    """Hashes of those that count."""
    records: Mapping[bytes, tuple[int, bytes]] = field(default_factory=dict)
    """Serial, and the beginning of the hash, of each member's record of interfaces."""
    has: Mapping[bytes, tuple[int, int]] = field(default_factory=dict)
    """Which map, by epoch and serial, members have at least, as far as is known; and the sender."""


def of(
    held: Held, records: Mapping[bytes, LinkRecord], has: Mapping[bytes, tuple[int, int]]
) -> Digest:
    """Return the digest of what is held."""
    return Digest(
        maps=tuple(sorted(each.hash for each in held.heads)),
        records={who: (each.serial, _tells(each.raw)) for who, each in records.items()},
        has=dict(has),
    )


def missing(theirs: Digest, held: Held, records: Mapping[bytes, LinkRecord]) -> Iterator[bytes]:
    """Yield as frames what another machine lacks, by its digest: maps first."""
    for chart in held.heads:
        if chart.hash not in theirs.maps:
            yield frame(MAP, chart.raw)
    for who, record in sorted(records.items()):
        serial, tells = theirs.records.get(who, (0, b""))
        if record.serial > serial or (record.serial == serial and _tells(record.raw) != tells):
            yield frame(RECORD, who + record.raw)


def frame(kind: int, body: bytes = b"") -> bytes:
    """Return a frame."""
    return bytes([kind]) + len(body).to_bytes(4, "big") + body


def take(data: bytes) -> tuple[int, bytes, bytes] | None:
    """Return the first frame's type and body, and what follows; None while it is not whole.

    Raises MeshError for what no agent sends.
    """
    if len(data) < _HEAD:
        return None
    kind, size = data[0], int.from_bytes(data[1:_HEAD], "big")
    if kind not in _LARGEST or size > _LARGEST[kind]:
        raise MeshError(f"a frame of type {kind} with {size} bytes is not known here")
    end = _HEAD + size
    return (kind, data[_HEAD:end], data[end:]) if len(data) >= end else None


def write(digest: Digest) -> bytes:
    """Return its bytes."""
    return encode(_value(digest))


def read(data: bytes) -> Digest:
    """Read what `write` wrote. Raises MeshError."""
    what = "the digest"
    fields = decode(data, what)
    made = Digest(
        maps=tuple(
            bytes_of(each, SIZE, SIZE, what) for each in fields.texts("maps", MOST_HEADS, 44)
        ),
        records={
            bytes_of(who, SIZE, SIZE, what): (
                _within(serial, links.HIGHEST),
                bytes_of(tells, _TELLS, _TELLS, what),
            )
            for who, serial, tells in (
                row(each, (str, int, str), what) for each in fields.several("records", MOST)
            )
        },
        has={
            bytes_of(who, SIZE, SIZE, what): (
                _within(epoch, HIGHEST_EPOCH),
                _within(serial, HIGHEST),
            )
            for who, epoch, serial in (
                row(each, (str, int, int), what) for each in fields.several("has", MOST)
            )
        },
    )
    fields.end()
    check(data, _value(made), what)
    return made


def _value(digest: Digest) -> dict[str, object]:
    return {
        "maps": [base64_of(each) for each in digest.maps],
        "records": [
            [base64_of(who), serial, base64_of(tells)]
            for who, (serial, tells) in sorted(digest.records.items())
        ],
        "has": [
            [base64_of(who), epoch, serial] for who, (epoch, serial) in sorted(digest.has.items())
        ],
    }


def _tells(record: bytes) -> bytes:
    return hashlib.sha256(record).digest()[:_TELLS]


def _within(number: int, most: int) -> int:
    if not 0 <= number <= most:
        raise MeshError(f"the digest has {number} where there is at most {most}")
    return number
