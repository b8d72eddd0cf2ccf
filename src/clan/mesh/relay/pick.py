"""Which relays: the two that a pair is relayed by, and the seat at which both ends begin. Pure.

Both ends of a pair, and whoever else has their records, come to the same two in the same order.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from clan.mesh.relay.ports import SEATS

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from clan.mesh.relay.desk import Side

FEW = 4
"""Seats of a relay behind a router that was asked to lead there: it has other things to do. A seat
is enough for any number of pairs of which no two share an interface."""
BOTH = 2
"""Relays of a pair."""


def of_pair(
    ends: tuple[str, str], relays: Mapping[str, Sequence[str]], offers: Collection[str]
) -> tuple[str, ...]:
    """Return the relays of a pair of machines, the first one first.

    `relays` are those that each machine keeps a link to, by its record; `offers` are all that offer
    themselves. What both ends keep comes first, then what one of them does, then any.
    """
    one, other = sorted(ends)
    named = {end: [r for r in relays.get(end, ()) if r in offers] for end in ends}

    def rank(relay: str) -> tuple[int, int, bytes]:
        places = [named[end].index(relay) for end in (one, other) if relay in named[end]]
        return -len(places), sum(places), _hash(one, other, relay)

    candidates = {relay for relay in offers if relay not in ends}
    return tuple(sorted(candidates, key=rank)[:BOTH])


def first_seat(sides: tuple[Side, Side], seats: int = SEATS) -> int:
    """Return the seat, of so many, at which both ends of a flow ask first.

    The relay may give another one.
    """
    one, other = sorted(sides)
    digest = hashlib.sha256(b"clan mesh seat 1\0" + one[0] + one[1].encode("ascii"))
    digest.update(other[0] + other[1].encode("ascii"))
    return int.from_bytes(digest.digest()[:4], "big") % seats


def _hash(*words: str) -> bytes:
    return hashlib.sha256("\0".join(words).encode()).digest()
