"""This machine's own interfaces: one for each slot, with an id, a key and a port that stay.

A slot is what can fail on its own: an uplink, a version of IP, and whether it is the LAN, the
internet or another network behind it. Which there are follows from the uplinks; what each was given
is kept, also while its uplink is away, so that a laptop that comes home is known there by what it
had. Every machine draws its ports: two that have one port behind one router are translated
differently to different servers, and no hole can be punched for them.

Keys do not stay for ever. A WireGuard interface has one, so a slot gets another interface beside
the first, with an id, a key and a port of its own. Paths move over, and the one that is leaving
goes when every member knows the other.

Pure but for `drawn`, `load` and `keep`. What makes interfaces of it is the agent.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from clan.machine.layout import write
from clan.mesh.chart.canonical import Fields, base64_of, bytes_of, decode, encode
from clan.mesh.chart.content import MOST as MOST_MEMBERS
from clan.mesh.chart.links import PublishedInterface
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.link import Kind, Slot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping
    from ipaddress import IPv4Address
    from pathlib import Path

    from clan.mesh.agent.uplinks import Attachment

MOST = 64
"""Slots that are remembered; those away for longest are forgotten."""
KEY_LIFE = 30 * 86400
"""Seconds after which a key is replaced, one slot at a time."""
OVERLAP = 20.0
"""Seconds for which what is leaving stays at least: paths move meanwhile."""
PORTS = range(49152, 65536)
"""The dynamic ports (RFC 6335, section 6)."""
NAMES = "clan-"
"""How the names of the mesh's interfaces begin; the slot's number follows."""
TUNNELS = frozenset({"tun", "wireguard", "ipip", "sit", "gre", "ip6tnl", "vti", "vti6", "xfrm"})
"""Kinds of interfaces that are somebody's tunnels: no LAN, and no way to the internet."""
VERSIONS = (4, 6)
RANKS = ("1", "2")
"""What a slot for relays has for a network: the first of a pair's relays, or the second."""
HOPS = Slot(uplink="hops", family=6, kind=Kind.HOPS)
"""What is behind all uplinks: the other members, where there are some to be in the middle."""
_FAR = 1 << 62


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A slot of this machine with what it was given.

    `number`, from 1, is its mark's and its interface's; `seen` counts up with each change of the
    uplinks and says which were there last.
    """

    id: str
    slot: Slot
    number: int
    port: int
    private: bytes = field(repr=False)
    seen: int
    drawn: int = 0
    """When its key was drawn, in seconds of 1970."""
    leaving: bool = False
    """Whether another one of the slot has taken its place."""
    told: frozenset[bytes] = frozenset()
    """Of one that is leaving: the identities of those who know which one has."""

    @property
    def interface(self) -> str:
        """The interface's name."""
        return f"{NAMES}{self.number}"

    @property
    def published(self) -> PublishedInterface:
        """What others are told of it."""
        private = X25519PrivateKey.from_private_bytes(self.private)
        # Only this machine's process of streams sends anything to such an interface.
        port = 0 if self.slot.kind is Kind.TLS else self.port
        return PublishedInterface(
            id=self.id,
            uplink=self.slot.uplink,
            family=self.slot.family,
            kind=self.slot.kind.value,
            network=self.slot.network,
            key=private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw),
            leaving=self.leaving,
            port=port,
        )


@dataclass(frozen=True, slots=True)
class Fresh:
    """Random values for one new slot: an id, a private key, where to begin to look for a port."""

    id: str
    private: bytes = field(repr=False)
    port: int


def inside(identity: bytes, interface: str) -> IPv6Address:
    """Return the link-local address that an identity's interface has inside the mesh.

    It is fe80::/64 and 64 bits of SHA-256 of `clan mesh inside 1`, a zero byte, the identity and
    the interface's id in ASCII.
    """
    data = b"clan mesh inside 1\0" + identity + interface.encode("ascii")
    return IPv6Address(b"\xfe\x80" + bytes(6) + hashlib.sha256(data).digest()[:8])


def wanted(
    attachments: Iterable[Attachment], *, relayed: bool = False, streams: bool = False
) -> list[Slot]:
    """Return the slots that the uplinks that work give, those of one uplink together.

    `relayed` says whether there are relays: a slot is for the first of a pair's relays, and another
    for the second, as each can fail on its own. `streams` says whether somebody takes streams.

    The LAN is IPv6's where the uplink has a link-local address, which no router has to hand out.
    The internet is behind a default route, for an address that is good beyond the link. Another
    network's tunnel is a way of its own, if it is known whose packets to keep out of the mesh.
    """
    found = []
    for each in attachments:
        if not each.works:
            continue
        usable = {
            version: [a.ip for a in each.addresses if a.version == version] for version in VERSIONS
        }
        if each.kind in TUNNELS:
            found += _overlays(each.name, usable) if each.carrier is not None else []
            continue
        if usable[4] or usable[6]:
            of_link = any(address.is_link_local for address in usable[6])
            lan = 6 if of_link or not usable[4] else 4
            found.append(Slot(uplink=each.name, family=lan, kind=Kind.LAN))
        outside = [
            version
            for version in VERSIONS
            if any(route.to.version == version for route in each.defaults)
            and any(not address.is_link_local for address in usable[version])
        ]
        found += [Slot(uplink=each.name, family=v, kind=Kind.INTERNET) for v in outside]
        if relayed and outside:
            # With room for either version of IP outside: which it is, is the relay's to say.
            found += [
                Slot(uplink=each.name, family=6, kind=Kind.RELAY, network=rank) for rank in RANKS
            ]
        if streams and outside:
            found.append(Slot(uplink=each.name, family=6, kind=Kind.TLS))
    return found


def _overlays(name: str, usable: Mapping[int, Iterable[IPv4Address | IPv6Address]]) -> list[Slot]:
    own = {v: [str(a) for a in there if not a.is_link_local] for v, there in usable.items()}
    return [
        Slot(uplink=name, family=version, kind=Kind.OVERLAY, network=min(own[version]))
        for version in VERSIONS
        if own[version]
    ]


def present(
    known: Iterable[Own],
    attachments: Iterable[Attachment],
    lingering: Collection[Slot] = (),
    *,
    relayed: bool = False,
    streams: bool = False,
) -> list[Slot]:
    """Return the slots to have now: those of `wanted`, and those of a cable that is out just now.

    What an uplink without a carrier had last stays, with its interface and its port, for as long as
    the uplink itself is there: it most likely comes back. So does what is `lingering`.
    """
    attachments = list(attachments)
    known = list(known)
    now = wanted(attachments, relayed=relayed, streams=streams)
    latest = max((own.seen for own in known), default=0)
    last = [
        own.slot for own in known if own.seen == latest and own.slot not in now and not own.leaving
    ]
    there = {each.name: each for each in attachments if each.kind not in TUNNELS}
    return [
        *now,
        *(
            slot
            for slot in last
            if slot.uplink in there and (not there[slot.uplink].works or slot in lingering)
        ),
    ]


def settle(
    known: Iterable[Own],
    slots: Iterable[Slot],
    fresh: Iterable[Fresh],
    taken: Collection[int] = (),
    *,
    today: int = 0,
) -> tuple[Own, ...]:
    """Return all that is remembered, with each of `slots` in it, seen last.

    `fresh` is drawn from, one for each new slot; `taken` are ports that others have; `today` is
    when, in seconds of 1970. Nothing changes when `slots` are those that were seen last. Raises
    StopIteration when `fresh` is too short.
    """
    known = tuple(known)
    kept = {own.slot: own for own in known if not own.leaving}
    leaving = {own.slot: own for own in known if own.leaving}
    slots = list(slots)
    latest = max((own.seen for own in kept.values()), default=0)
    if {slot for slot, own in kept.items() if own.seen == latest} == set(slots):
        return known
    drawn = iter(fresh)
    for slot in slots:
        if slot in kept:
            kept[slot] = replace(kept[slot], seen=latest + 1)
            continue
        if len(kept) + len(leaving) >= MOST:
            oldest = min(kept.values(), key=lambda own: own.seen).slot
            del kept[oldest]
            leaving.pop(oldest, None)
        others = (*kept.values(), *leaving.values())
        kept[slot] = _made(slot, next(drawn), others, taken, seen=latest + 1, today=today)
    return (*kept.values(), *leaving.values())


def outlived(known: Iterable[Own], slots: Collection[Slot], today: int) -> Own | None:
    """Return which of these slots is to get another key, if one is.

    One after the other: not while one of them is leaving. A key that was drawn later than today was
    drawn under a clock that was wrong.
    """
    known = tuple(known)
    there = in_use(known, slots)
    if any(own.leaving for own in there) or len(known) >= MOST:
        return None
    old = [own for own in there if not 0 <= today - own.drawn < KEY_LIFE]
    return min(old, key=lambda own: own.drawn, default=None)


def replaced(
    known: Iterable[Own], own: Own, fresh: Fresh, taken: Collection[int] = (), *, today: int = 0
) -> tuple[Own, ...]:
    """Give a slot another id, key and port beside what it has, which is leaving from now on."""
    others = tuple(known)
    made = _made(own.slot, fresh, others, taken, seen=own.seen, today=today)
    left = replace(own, leaving=True)
    return (*(left if each == own else each for each in others), made)


def without(known: Iterable[Own], own: Own) -> tuple[Own, ...]:
    """Forget what was leaving."""
    return tuple(each for each in known if each.id != own.id)


def _made(
    slot: Slot,
    value: Fresh,
    others: Iterable[Own],
    taken: Collection[int],
    *,
    seen: int,
    today: int,
) -> Own:
    others = tuple(others)
    used = {own.number for own in others}
    return Own(
        id=value.id,
        slot=slot,
        number=next(number for number in range(1, MOST + 1) if number not in used),
        port=_free(value.port, {*taken, *(own.port for own in others)}),
        private=value.private,
        seen=seen,
        drawn=today,
    )


def in_use(known: Iterable[Own], slots: Collection[Slot]) -> tuple[Own, ...]:
    """Return those of what is remembered that are of these slots, by id."""
    return tuple(sorted((own for own in known if own.slot in slots), key=lambda own: own.id))


def moved(known: Iterable[Own], own: Own, port: int, taken: Collection[int]) -> tuple[Own, ...]:
    """Give a slot another port, as somebody else has the one it had; look from `port` on."""
    known = tuple(known)
    used = {*taken, own.port, *(each.port for each in known)}
    other = replace(own, port=_free(port, used))
    return tuple(other if each.id == own.id else each for each in known)


def drawn() -> Iterator[Fresh]:
    """Draw random values without end."""
    while True:
        yield Fresh(secrets.token_hex(4), secrets.token_bytes(SIZE), secrets.choice(PORTS))


def keep(path: Path, known: Iterable[Own]) -> None:
    """Write what is remembered, for root alone. Raises OSError."""
    write(path, encode({"slots": [_value(own) for own in known]}), 0o600)


def load(path: Path) -> tuple[Own, ...]:
    """Return what `keep` wrote, nothing if it never did. Raises MeshError for anything else."""
    with contextlib.suppress(FileNotFoundError):
        fields = decode(path.read_bytes(), str(path))
        found = tuple(_own(Fields(each, str(path))) for each in fields.several("slots", MOST))
        fields.end()
        distinct = (
            {(own.slot, own.leaving) for own in found},
            {own.number for own in found},
            {own.id for own in found},
        )
        if any(len(values) < len(found) for values in distinct):
            raise MeshError(f"{path}: has a slot, a number or an id twice")
        return found
    return ()


def _value(own: Own) -> dict[str, Any]:
    return {
        "id": own.id,
        "uplink": own.slot.uplink,
        "family": own.slot.family,
        "kind": own.slot.kind.value,
        "network": own.slot.network,
        "number": own.number,
        "port": own.port,
        "private": base64_of(own.private),
        "seen": own.seen,
        "drawn": own.drawn,
        "leaving": int(own.leaving),
        "told": sorted(base64_of(each) for each in own.told),
    }


def _own(fields: Fields) -> Own:
    kind = fields.text("kind", 16)
    if kind not in set(Kind):
        raise MeshError(f"{kind!r} is no kind of a slot")
    own = Own(
        id=fields.text("id", 8),
        slot=Slot(
            uplink=fields.text("uplink", 15),
            family=fields.number("family", 4, 6),
            kind=Kind(kind),
            network=fields.text("network", 63),
        ),
        number=fields.number("number", 1, MOST),
        port=fields.number("port", 1, 65535),
        private=fields.data("private", SIZE, SIZE),
        seen=fields.number("seen", 0, _FAR),
        drawn=fields.number("drawn", 0, _FAR),
        leaving=bool(fields.number("leaving", 0, 1)),
        told=frozenset(
            bytes_of(each, SIZE, SIZE, "who was told")
            for each in fields.texts("told", MOST_MEMBERS, 44)
        ),
    )
    fields.end()
    return own


def _free(port: int, taken: Collection[int]) -> int:
    begin = PORTS.index(port) if port in PORTS else port % len(PORTS)
    return next(
        PORTS[(begin + step) % len(PORTS)]
        for step in range(len(PORTS))
        if PORTS[(begin + step) % len(PORTS)] not in taken
    )
