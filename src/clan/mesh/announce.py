"""What a machine calls out on a LAN, as bytes: the payload that `seal` seals. Pure.

    identity   who it is
    at         the id of its interface for this LAN; empty if it has none there
    serial     of its record of interfaces
    record     that record, signed; empty in the regular call, which is short
    map        epoch, serial and hash of its map: who has an older one asks for it
    asks       whether everyone is to say the same in return
    calls      identities that are to open holes towards this machine

Whoever has the discovery secret can say all of it, and what was said once can be played again. So
it is a candidate for where a machine may be, and no more: who is there is known when its key shakes
hands, and of its interfaces when its signature is right.
"""

from __future__ import annotations

from dataclasses import dataclass

from clan.mesh.chart import links
from clan.mesh.chart.canonical import base64_of, bytes_of, check, decode, encode, row
from clan.mesh.chart.chart import HIGHEST
from clan.mesh.chart.mandate import HIGHEST_EPOCH
from clan.mesh.identity import SIZE
from clan.mesh.seal import LONGEST

MOST_CALLED = 16
"""Identities in one call."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """One call; the fields are as the module says."""

    identity: bytes
    at: str
    serial: int
    record: bytes = b""
    map: tuple[int, int, bytes] = (0, 0, b"")
    asks: bool = False
    calls: tuple[bytes, ...] = ()


def write(call: Call) -> bytes:
    """Return the payload; without the record where it would be too long."""
    data = encode(_value(call))
    if len(data) < LONGEST:
        return data
    short = _value(call) | {"record": ""}
    return encode(short)


def read(payload: bytes) -> Call:
    """Read a payload. Raises MeshError. The record in it is not verified yet."""
    what = "the call"
    fields = decode(payload, what)
    epoch, serial, hash_ = row(fields.several("map", 3), (int, int, str), what)
    call = Call(
        identity=fields.data("identity", SIZE, SIZE),
        at=fields.text("at", 8),
        serial=fields.number("serial", 0, links.HIGHEST),
        record=fields.data("record", 0, links.LARGEST),
        map=(
            min(max(epoch, 0), HIGHEST_EPOCH),
            min(max(serial, 0), HIGHEST),
            bytes_of(hash_, 0, SIZE, what),
        ),
        asks=bool(fields.number("asks", 0, 1)),
        calls=tuple(
            bytes_of(each, SIZE, SIZE, what) for each in fields.texts("calls", MOST_CALLED, 44)
        ),
    )
    fields.end()
    check(payload, _value(call), what)
    return call


def _value(call: Call) -> dict[str, object]:
    epoch, serial, hash_ = call.map
    return {
        "identity": base64_of(call.identity),
        "at": call.at,
        "serial": call.serial,
        "record": base64_of(call.record),
        "map": [epoch, serial, base64_of(hash_)],
        "asks": int(call.asks),
        "calls": [base64_of(each) for each in call.calls],
    }
