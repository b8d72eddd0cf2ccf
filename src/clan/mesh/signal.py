"""A signal: one member asks another to open holes, by way of a third that both reach. Pure.

It is signed by the sender's identity (`signed.py`, purpose `signal`), as whoever hands it on could
otherwise send anybody's datagrams anywhere. What it says is where the sender believes to be found.
That is a candidate, and no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh.chart import signed
from clan.mesh.chart.canonical import base64_of, check, decode, encode, row
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.link import Endpoint
from clan.mesh.wire import LONGEST_LETTER

if TYPE_CHECKING:
    from clan.mesh.identity import Key

PURPOSE = "signal"
MOST = 8
"""Places in one signal."""
_LATEST = 1 << 62
_ID = re.compile(r"[0-9a-f]{8}")
_WHAT = "the signal"


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where one of the sender's interfaces may be found."""

    interface: str
    """Its id."""
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class Signal:
    """What one says."""

    sender: bytes
    to: bytes
    number: int
    """Another one for each signal of a sender: milliseconds of 1970, by its clock."""
    answers: bool = False
    """Whether it answers one, so that it needs no answer itself."""
    places: tuple[Place, ...] = ()
    """The likeliest first."""


def write(signal: Signal, key: Key, longest: int = LONGEST_LETTER) -> bytes:
    """Sign a signal; places that would make it too long are left out."""
    places = signal.places[:MOST]
    while True:
        data = signed.sign(PURPOSE, encode(_value(signal, places)), key).raw
        if len(data) <= longest or not places:
            return data
        places = places[:-1]


def read(data: bytes) -> Signal:
    """Read and verify a signal; whether its sender is a member is not asked. Raises MeshError."""
    proof = signed.only(data, PURPOSE, LONGEST_LETTER, _WHAT)
    body = proof.check((proof.signer,), _WHAT)
    fields = decode(body, _WHAT)
    made = Signal(
        sender=fields.data("sender", SIZE, SIZE),
        to=fields.data("to", SIZE, SIZE),
        number=fields.number("number", 0, _LATEST),
        answers=bool(fields.number("answers", 0, 1)),
        places=tuple(
            _place(*row(each, (str, str, int), _WHAT)) for each in fields.several("places", MOST)
        ),
    )
    fields.end()
    check(body, _value(made, made.places), _WHAT)
    if made.sender != proof.signer:
        raise MeshError(f"{_WHAT} is signed by another identity than it names")
    return made


def _place(interface: str, host: str, port: int) -> Place:
    try:
        numeric = ip_address(host)
    except ValueError:
        numeric = None
    if not _ID.fullmatch(interface) or str(numeric) != host or not 0 < port < 1 << 16:
        raise MeshError(f"{_WHAT} has a place that there cannot be")
    return Place(interface=interface, endpoint=Endpoint(host=host, port=port))


def _value(signal: Signal, places: tuple[Place, ...]) -> dict[str, object]:
    return {
        "sender": base64_of(signal.sender),
        "to": base64_of(signal.to),
        "number": signal.number,
        "answers": int(signal.answers),
        "places": [[e.interface, e.endpoint.host, e.endpoint.port] for e in places],
    }
