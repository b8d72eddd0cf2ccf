"""Whether this machine can be reached from outside, so that it may offer itself as a relay. Pure.

Its own word counts for nothing: a member somewhere else is asked to send something to a place, and
it has to arrive, from outside of every network that this machine is attached to. No port of a relay
sends before it is spoken to, so what arrives was let in by nothing but the way itself. The first
and the last of its ports are tried: a firewall may let in a part of them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh.link import Endpoint
from clan.mesh.outside.address import is_outside
from clan.mesh.relay.message import Try
from clan.mesh.relay.ports import PORTS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from ipaddress import IPv4Network, IPv6Network

AGAIN = 6 * 3600.0
"""Seconds after which a place that worked is tried again."""
VALID = 2 * AGAIN + 600
"""Seconds that it counts for: a member that is asked may be away."""
FIRST, LAST = 2.0, 24 * 3600.0
"""Seconds until a place that did not work is tried again, at first and at most; each is double."""
APART = 1.0
"""Seconds between two tries of one machine: twice what who is asked takes for too often."""
MOST = 4
"""Addresses of one machine."""
HURRIED = 2
"""Members that try a place, one after the other, when somebody waits to hear of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """An address with a port, at which this machine may be reached from outside."""

    nonce: bytes = b""
    asked: float = -math.inf
    tries: int = 0
    """How often it was tried since something arrived last."""
    arrived: float = -math.inf
    hurried: int = 0
    """Tries that somebody waits for."""

    @property
    def due(self) -> float:
        """When it is to be tried, in seconds of the monotonic clock."""
        if self.hurried:
            return -math.inf
        if not self.tries:
            return self.arrived + AGAIN
        return self.asked + min(LAST, FIRST * 2.0 ** (self.tries - 1))

    def is_reached(self, now: float) -> bool:
        """Whether something arrived there, not too long ago."""
        return now - self.arrived < VALID

    def is_on_trial(self, now: float) -> bool:
        """Whether somebody waits for a try that has not been made, or for what may yet arrive."""
        return self.hurried > 0 or (self.nonce != b"" and now < self.asked + APART)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All places by where they are."""

    places: Mapping[Endpoint, Place] = field(default_factory=dict)

    @property
    def due(self) -> float:
        """When there is something to try."""
        places = self.places.values()
        last = max((each.asked for each in places), default=-math.inf)
        return max(min((each.due for each in places), default=math.inf), last + APART)


def settle(state: State, candidates: Iterable[Endpoint]) -> State:
    """Have just these places, those of a few addresses.

    Where a router has come to lead to another part of an address's ports, all begins anew there.
    """
    all_ = tuple(dict.fromkeys(candidates))
    hosts = tuple(dict.fromkeys(each.host for each in all_))[:MOST]
    wanted = [each for each in all_ if each.host in hosts]
    if list(state.places) == wanted:
        return state
    before, after = _ports(state.places), _ports(wanted)
    same = {host for host in hosts if before.get(host) == after[host]}
    return State(
        places={each: state.places[each] if each.host in same else Place() for each in wanted}
    )


def _ports(places: Iterable[Endpoint]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = {}
    for each in places:
        found.setdefault(each.host, set()).add(each.port)
    return found


def ask(
    state: State, members: Sequence[bytes], nonce: bytes, now: float
) -> tuple[State, Try | None]:
    """Return whom to ask to try which place now, if any: each time the next of the members."""
    if not members or state.due > now:
        return state, None
    where, place = min(state.places.items(), key=lambda item: item[1].due)
    tries = place.tries + 1
    hurried = max(0, place.hurried - 1)
    asked = replace(place, nonce=nonce, asked=now, tries=tries, hurried=hurried)
    to = members[tries % len(members)]
    query = Try(to=to, host=where.host, port=where.port, nonce=nonce)
    return State(places={**state.places, where: asked}), query


def hurry(state: State, members: int) -> State:
    """Have each place to which the internet could send tried at once, also one that is reached.

    `members` is how many there are to do it.
    """
    tries = min(HURRIED, members)
    return State(
        places={
            where: replace(place, hurried=tries) if is_outside(ip_address(where.host)) else place
            for where, place in state.places.items()
        }
    )


def arrive(
    state: State,
    nonce: bytes,
    source: str,
    own: Collection[IPv4Network | IPv6Network],
    now: float,
) -> State:
    """Take in that something arrived; from one of this machine's `own` networks it says nothing."""
    address = ip_address(source)
    if any(address.version == net.version and address in net for net in own):
        return state
    places = {
        where: replace(place, arrived=now, tries=0, nonce=b"", hurried=0)
        if nonce and place.nonce == nonce
        else place
        for where, place in state.places.items()
    }
    return State(places=places)


def reached(state: State, now: float) -> list[Endpoint]:
    """Return where this machine is reached from outside, as far as is known.

    Of an address it is the first place, if all are reached.
    """
    first: dict[str, Endpoint] = {}
    closed = set()
    for where, place in state.places.items():
        first.setdefault(where.host, where)
        if not place.is_reached(now):
            closed.add(where.host)
    return [where for host, where in first.items() if host not in closed]


def candidates(addresses: Iterable[str], mapped: Iterable[Endpoint] = ()) -> list[Endpoint]:
    """Return the places to try: where routers lead to it, and both ends at addresses of its own.

    By IPv6 that can be the same address: then no more of its ports than the router opened.
    """
    mapped, ends = tuple(mapped), (PORTS[0], PORTS[-1])
    led = {each.host for each in mapped}
    own = [each for each in addresses if each not in led]
    return [*mapped, *(Endpoint(host=each, port=port) for each in own for port in ends)]
