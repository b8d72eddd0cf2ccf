"""Which streams a machine is to have now: by its links, and by who takes streams. Pure.

A stream costs some 15 MB a month, and both ends of a pair need one at the same relay. So there is
none while UDP does. There is one, at one relay, where UDP gets nowhere: by it a machine hears of
the map, and is called. While a pair that has something to say is connected by nothing else, both
ends call the same relays, those that come first for everybody.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh.link import Endpoint, Kind
from clan.mesh.pair import Mode
from clan.mesh.tls.wants import Relay

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

    from clan.mesh.chart.content import Machine
    from clan.mesh.chart.links import LinkRecord
    from clan.mesh.pair import Pair

MOST_RELAYS = 2
"""Relays that are called at a time: one may be gone."""
OUTSIDE = frozenset({Kind.INTERNET, Kind.RELAY})
HEARD_FOR = 75.0
"""Seconds: who keeps a link open to here asks on it once a minute."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Streams:
    """What is to be called, for which slots."""

    relays: tuple[Relay, ...] = ()
    """The first choice first."""
    slots: frozenset[str] = frozenset()
    """Ids of this machine's interfaces."""


def relays(
    machines: Iterable[Machine], records: Mapping[bytes, LinkRecord], own: bytes
) -> dict[str, Relay]:
    """Return who takes streams, by name, in an order that is the same for everybody."""

    def place(machine: Machine) -> bytes:
        return hashlib.sha256(b"clan mesh streams 1\0" + machine.identity).digest()

    found = {}
    for machine in sorted(machines, key=place):
        record = records.get(machine.identity)
        relay = _relay(machine, record) if record and machine.identity != own else None
        if relay is not None and relay.places:
            found[machine.name] = relay
    return found


def _relay(machine: Machine, record: LinkRecord) -> Relay | None:
    served = record.served
    if served is None:
        return None
    if served.name:
        return Relay(
            identity=machine.identity,
            places=(Endpoint(host=served.name, port=served.port),),
            sni=served.name,
            path=served.path,
        )
    known = [each.host for each in machine.addresses]
    hosts = dict.fromkeys([*known, *(each.host for each in record.reached)])
    return Relay(
        identity=machine.identity,
        places=tuple(Endpoint(host=host, port=served.port) for host in hosts),
        certificate=record.certificate,
        # What is asked for can be read on the way: what leads there anyway, or nothing.
        sni=next((host for host in known if not _is_numeric(host)), ""),
    )


def _is_numeric(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def blocked(pairs: Mapping[str, Pair], kept: Iterable[str], now: float) -> bool:
    """Say whether UDP gets to nobody outside, as far as is known.

    Links to those that are kept open are asked all the time. Where there are none, only what is
    heard says that something gets through.
    """
    awake = [pair for pair in pairs.values() if pair.mode is not Mode.COLD]
    outside = [s for pair in awake for s in pair.links.values() if s.link.slot.kind in OUTSIDE]
    if any(s.alive_since is not None for s in outside):
        return False
    asked = any(
        s.link.slot.kind in OUTSIDE
        for name in kept
        if name in pairs
        for s in pairs[name].links.values()
    )
    heard = any(
        now - s.health.heard < HEARD_FOR
        for pair in pairs.values()
        for s in pair.links.values()
        if s.link.slot.kind in OUTSIDE
    )
    return asked or not heard


def alone(pair: Pair) -> bool:
    """Say whether a pair that has something to say is connected by a stream, or by nothing."""
    if pair.mode not in {Mode.FAST, Mode.SLOW}:
        return False
    links = pair.links.values()
    return any(s.link.slot.kind is Kind.TLS for s in links) and not any(
        s.alive_since is not None for s in links if s.link.slot.kind is not Kind.TLS
    )


def held(pairs: Mapping[str, Pair], relays: Iterable[str]) -> tuple[str, str] | None:
    """Return a relay's name and the slot of a stream by which it answers; None if none does."""
    found = [
        (s.alive_since, name, s.link.id.own)
        for name in relays
        if name in pairs and pairs[name].mode is not Mode.COLD
        for s in pairs[name].links.values()
        if s.link.slot.kind is Kind.TLS and s.alive_since is not None
    ]
    return min(found)[1:] if found else None


def streams(
    there: Mapping[str, Relay],
    slots: Iterable[str],
    *,
    kept: Iterable[str],
    held: tuple[str, str] | None,
    peers: Collection[str],
) -> Streams:
    """Return what is to be called where streams are needed; `peers` are those that they are for.

    While there are none, one stream is enough, the one that is `held`.
    """
    if peers:
        names = dict.fromkeys([*(name for name in there if name in peers)])
        if any(name not in there for name in peers):
            names |= dict.fromkeys(list(there)[:MOST_RELAYS])
        if held is not None:
            names |= dict.fromkeys(held[:1])
        return Streams(relays=tuple(there[n] for n in names), slots=frozenset(slots))
    if held is not None:
        return Streams(relays=(there[held[0]],), slots=frozenset(held[1:]))
    kept = set(kept)
    # Those that are kept are asked all the time, so that it shows whether a stream works.
    first = [name for name in there if name in kept] or list(there)
    return Streams(
        relays=tuple(there[name] for name in first[:MOST_RELAYS]), slots=frozenset(slots)
    )
