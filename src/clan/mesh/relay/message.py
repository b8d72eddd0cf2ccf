"""What machines and relays say to each other outside of links, as bytes. Pure.

    magic     8 bytes, by which the kernel tells these datagrams from those that are relayed
    sealed    as an announcement is (`seal`): noise to all that lack the discovery secret
      signed  by the sender's identity (`chart.signed`), for the one it is meant for

Nothing is parsed before the seal and the signature of a member are right. A message names whom it
is to, so that none can be shown to another; what a replay must not do is the receiver's to see to.

    ask     be relayed to a machine: the two ends' interfaces, the seat that the datagram was sent
            to, the token that the relay gave, and a serial that only rises
    answer  what became of it
    call    a machine asked to be relayed to the receiver, and waits
    try     send something to this place, where the sender hopes to be reached
    tried   that something
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any

from clan.mesh import seal
from clan.mesh.chart import signed
from clan.mesh.chart.canonical import base64_of, check, decode, encode
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.relay.ports import MAGIC, SEATS

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from clan.mesh.chart.canonical import Fields
    from clan.mesh.chart.content import Secret
    from clan.mesh.identity import Key

PURPOSE = "relay"
LARGEST = 1024
"""Bytes of a body."""
TOKEN = 24
"""Bytes of a token, or of what is tried."""
HIGHEST = (1 << 63) - 1


class Outcome(enum.StrEnum):
    """What became of an ask."""

    TOKEN = "token"  # noqa: S105 (a word)
    """Ask again with this token: it shows that the answer arrived where the ask came from."""
    SEAT = "seat"
    """Ask again at another seat: this one is taken."""
    WAITING = "waiting"
    """One is registered; the other end is not yet."""
    READY = "ready"
    """Both are: datagrams pass."""
    OLD = "old"
    """The serial is lower than `serial`, the last that was taken: the clock went back."""
    FULL = "full"
    """There is no seat left."""
    REFUSED = "refused"
    """This relay does not join the two, or relays nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ask:
    """To a relay; the sender's end is `own`, the other is `peer`'s interface `their`."""

    to: bytes
    peer: bytes
    own: str
    their: str
    seat: int
    serial: int
    token: bytes = b""
    leaves: bool = False
    """Whether the sender wants to be relayed no longer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """From a relay; the first four fields are the ask's, and the serial but for `OLD`."""

    to: bytes
    peer: bytes
    own: str
    their: str
    serial: int
    outcome: Outcome
    seat: int
    token: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """From a relay: `peer` waits at its interface `their` for the receiver's `own`."""

    to: bytes
    peer: bytes
    own: str
    their: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Try:
    """To any member: send `Tried` with this nonce to that place."""

    to: bytes
    host: str
    port: int
    nonce: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """To who asked for it."""

    to: bytes
    nonce: bytes


Message = Ask | Answer | Call | Try | Tried
_KINDS: dict[str, type[Message]] = {
    "ask": Ask,
    "answer": Answer,
    "call": Call,
    "try": Try,
    "tried": Tried,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
WHAT = "a relay's message"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """A message whose seal and signature are right."""

    sender: bytes
    message: Message


def write(message: Message, key: Key, secret: bytes) -> bytes:
    """Return the datagram: sealed under a discovery secret, signed by the sender."""
    made = signed.sign(PURPOSE, encode(_value(message)), key)
    return MAGIC + seal.announce(secret, made.raw)


def read(
    data: bytes,
    *,
    to: bytes,
    members: Container[bytes],
    secrets: Iterable[Secret],
    now: float,
) -> Heard | None:
    """Read a datagram for the identity `to`; None for what is not by a member and for it.

    Earlier secrets are good, too: who asks may have an older map, and the signature of one who is
    a member still says who it is. `now` is in seconds of 1970.
    """
    if not data.startswith(MAGIC):
        return None
    opened = seal.recognise(secrets, data[len(MAGIC) :], now)
    if opened is None or not opened.payload:
        return None
    try:
        proof = signed.only(opened.payload, PURPOSE, LARGEST, WHAT)
        body = proof.check(members, WHAT)
        message = _read(decode(body, WHAT))
        check(body, _value(message), WHAT)
    except MeshError:
        return None
    if message.to != to:
        return None
    return Heard(sender=proof.signer, message=message)


def _value(message: Message) -> dict[str, Any]:
    found: dict[str, Any] = {"kind": _NAMES[type(message)]}
    for each in fields(message):
        value = getattr(message, each.name)
        if isinstance(value, bytes):
            value = base64_of(value)
        found[each.name] = int(value) if isinstance(value, bool) else value
    return found


def _read(given: Fields) -> Message:
    name = given.text("kind", 8)
    kind = _KINDS.get(name)
    if kind is None:
        raise MeshError(f"{WHAT} is of a kind that is not known")
    made = kind(**{each.name: _field(given, each.name) for each in fields(kind)})
    given.end()
    return made


def _field(given: Fields, name: str) -> Any:
    match name:
        case "to" | "peer":
            return given.data(name, SIZE, SIZE)
        case "own" | "their":
            return given.text(name, 8)
        case "seat":
            return given.number(name, 0, SEATS - 1)
        case "serial":
            return given.number(name, 1, HIGHEST)
        case "token" | "nonce":
            return given.data(name, 0, TOKEN)
        case "leaves":
            return bool(given.number(name, 0, 1))
        case "outcome":
            return _outcome(given.text(name, 8))
        case "port":
            return given.number(name, 1, 65535)
        case _:
            return given.text(name, 45)


def _outcome(word: str) -> Outcome:
    try:
        return Outcome(word)
    except ValueError:
        raise MeshError(f"{WHAT} has an outcome that is not known") from None
