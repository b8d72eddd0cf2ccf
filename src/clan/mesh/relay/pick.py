"""Which relays: the two that a machine keeps warm, and the two that a pair is relayed by. Pure.

Both ends of a pair, and whoever else has their records, come to the same two in the same order.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.relay.message import SEATS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from clan.mesh.relay.desk import Side

PORTS = range(23600, 23600 + SEATS)
"""UDP ports of a relay; the only ones that a firewall in front of one has to let in."""
WARM = 2
"""Relays that a machine keeps a link to, and relays of a pair."""
NEARER = 0.75
"""A relay takes another's place as a warm one if its round trip is less than this part of it..."""
NEARER_BY = 0.01
"""...and by more seconds than this: two that are as good as each other do not take turns."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A machine that offers itself. `roundtrip` is in seconds; None where none was measured."""

    name: str
    hosts: tuple[str, ...]
    """Numeric addresses at which it can be reached from outside."""
    roundtrip: float | None = None


def warm(offers: Iterable[Offer], kept: Sequence[str]) -> tuple[str, ...]:
    """Return the relays that a machine is to keep a link to, the better first.

    `kept` are those that it keeps now. They stay while they live, unless another is much nearer.
    Of several machines at one address only one counts: they most likely fail together.
    """
    places: dict[str, list[str]] = {}
    alive = {each.name: each for each in offers if each.roundtrip is not None}
    ranked = sorted(alive.values(), key=lambda each: (_weight(each, kept), each.name))
    for each in ranked:
        places.setdefault(each.hosts[0] if each.hosts else each.name, []).append(each.name)
    apart = [names[0] for names in places.values()]
    more = [each.name for each in ranked if each.name not in apart]
    return tuple([*apart, *more][:WARM])


def _weight(offer: Offer, kept: Sequence[str]) -> float:
    roundtrip = offer.roundtrip or 0.0
    if offer.name in kept:
        return min(roundtrip * NEARER, max(0.0, roundtrip - NEARER_BY))
    return roundtrip


def of_pair(
    ends: tuple[str, str], relays: Mapping[str, Sequence[str]], offers: Collection[str]
) -> tuple[str, ...]:
    """Return the relays of a pair of machines, the first one first.

    `relays` are those that each machine's record names, the better first; `offers` are all that
    offer themselves. What both ends keep warm comes first, then what one of them does, then any.
    """
    one, other = sorted(ends)
    named = {end: [r for r in relays.get(end, ()) if r in offers] for end in ends}

    def rank(relay: str) -> tuple[int, int, bytes]:
        places = [named[end].index(relay) for end in (one, other) if relay in named[end]]
        return -len(places), sum(places), _hash(one, other, relay)

    candidates = {relay for relay in offers if relay not in ends}
    return tuple(sorted(candidates, key=rank)[:WARM])


def first_seat(sides: tuple[Side, Side]) -> int:
    """Return the seat at which both ends of a flow ask first; the relay may give another one."""
    one, other = sorted(sides)
    digest = hashlib.sha256(b"clan mesh seat 1\0" + one[0] + one[1].encode("ascii"))
    digest.update(other[0] + other[1].encode("ascii"))
    return int.from_bytes(digest.digest()[:4], "big") % SEATS


def _hash(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode()).digest()
