"""What a machine holds of the members' lists, and what it hands on to whom. Pure.

A list that is newer than the one held is taken in and handed to every neighbour but the one that it
came from: so it reaches all that can be reached, and stops. Whoever shows an older one is shown the
newer: a machine whose clock went back so learns how to be believed again. What is held is bounded,
and so is how much of one member's is listened to.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.hops import lists
from clan.mesh.hops.graph import Graph, graph

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.mesh.hops.lists import NeighbourList

MOST = 1024
"""Lists that are held."""
MOST_IN_A_ROW, PER_SECOND = 150.0, 30.0
"""Lists from one neighbour that are looked at: so many at once, and then so many a second."""
MOST_OF_ONE, OF_ONE_PER_SECOND = 20.0, 4.0
"""The same for lists of one member, whoever brings them."""
GIVEN_UP = 3600.0
"""Seconds after which the serial of a list that has expired is forgotten too."""


@dataclass(slots=True)
class _Budget:
    left: float
    at: float

    def spend(self, most: float, per_second: float, now: float) -> bool:
        self.left = min(most, self.left + (now - self.at) * per_second)
        self.at = now
        if self.left < 1:
            return False
        self.left -= 1
        return True


@dataclass(frozen=True, slots=True)
class _Held:
    said: NeighbourList
    until: float


@dataclass(frozen=True, slots=True)
class News:
    """What came of a list: to be handed on, or to be shown to whom it came from; or neither."""

    taken: NeighbourList | None = None
    shown: NeighbourList | None = None
    """What the other is to be shown instead."""


class Flood:
    """One machine's; `identity` is its own."""

    def __init__(self, identity: bytes) -> None:
        self._identity = identity
        self._held: dict[bytes, _Held] = {}
        self._from: dict[bytes, _Budget] = {}
        self._of: dict[bytes, _Budget] = {}
        self.own_serial = 0
        """The highest that was ever heard of this machine."""

    def put(self, said: NeighbourList, now: float) -> None:
        """Hold this machine's own list."""
        self._held[self._identity] = _Held(said, now + said.life)
        self.own_serial = max(self.own_serial, said.serial)

    def hear(self, data: bytes, neighbour: bytes, members: Mapping[bytes, int], now: float) -> News:
        """Take in a list that a neighbour hands on. Raises MeshError for what is no list.

        `members` are those whose lists count, with their labels.
        """
        held = self._held.get(lists.author(data))
        if held is not None and held.said.raw == data:
            return News()  # most come from several: what was verified once is not read again
        if not self._from.setdefault(neighbour, _Budget(MOST_IN_A_ROW, now)).spend(
            MOST_IN_A_ROW, PER_SECOND, now
        ):
            return News()
        said = lists.read(data)
        if said.identity == self._identity:
            self.own_serial = max(self.own_serial, said.serial)
            return News()
        if said.identity not in members:
            raise MeshError("a list of neighbours is of a machine that is no member")
        held = self._held.get(said.identity)
        if held is not None and held.said.serial >= said.serial:
            older = held.said.serial > said.serial and now < held.until
            return News(shown=held.said if older else None)
        if held is None and len(self._held) >= MOST:
            return News()
        if not self._of.setdefault(said.identity, _Budget(MOST_OF_ONE, now)).spend(
            MOST_OF_ONE, OF_ONE_PER_SECOND, now
        ):
            return News()
        self._held[said.identity] = _Held(said, now + said.life)
        return News(taken=said)

    def forget(self, members: Mapping[bytes, int], now: float) -> None:
        """Forget machines that are no members any more, and what nobody has spoken of for long."""
        self._held = {
            who: held
            for who, held in self._held.items()
            if (who in members or who == self._identity) and now < held.until + GIVEN_UP
        }
        for budgets in (self._from, self._of):
            for who in [each for each in budgets if each not in members]:
                del budgets[who]

    def lists(self, now: float) -> Iterator[NeighbourList]:
        """Yield the lists that have not expired."""
        for held in self._held.values():
            if now < held.until:
                yield held.said

    def graph(self, members: Mapping[bytes, int], now: float) -> Graph:
        """Return what all of them say."""
        return graph(
            (members[said.identity], said) for said in self.lists(now) if said.identity in members
        )

    def expires(self, now: float) -> float | None:
        """Return when the next list expires, if there is one."""
        return min((held.until for held in self._held.values() if held.until > now), default=None)
