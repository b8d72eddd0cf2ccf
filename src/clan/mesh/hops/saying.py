"""When a machine says again whom it reaches: at once of a change, seldom of many in a row. Pure.

Each list goes to every member that can be reached. Of changes that follow each other the first is
told at once and the later ones less and less often, as routers do that flood what they see (OSPF's
throttle of link states): in a crowd where much changes at once, telling must not become the load.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clan.mesh.hops.lists import Neighbour, NeighbourList

EVERY, SELDOM = 0.3, 5.0
"""Seconds between two lists that differ: the first, doubled with each up to the second."""
CALM = 10.0
"""Seconds without a change after which the next one is told at once again."""
REPEAT_EVERY, SEEK_EVERY = 60.0, 5.0
"""Seconds after which a list is told again; the second as long as a way is sought in vain."""
CHANGE, CHANGE_SHARE = 20, 0.5
"""Milliseconds, and share, by which a cost must differ to be told of."""


class Saying:
    """One machine's. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self.last: NeighbourList | None = None
        """What was said last; None while nothing is."""
        self.at = -math.inf
        """When that was."""
        self._every = EVERY

    def due(self) -> float:
        """Return when the same is to be said again."""
        return math.inf if self.last is None else self.at + REPEAT_EVERY

    def steady(self, neighbour: Neighbour) -> Neighbour:
        """Return what to say of a neighbour: at the cost told last, if that has hardly changed."""
        named = self.last.neighbours if self.last else ()
        old = next((each.cost for each in named if each.label == neighbour.label), None)
        if old is None or abs(old - neighbour.cost) > max(CHANGE, CHANGE_SHARE * old):
            return neighbour
        return replace(neighbour, cost=old)

    def is_time(self, said: NeighbourList, now: float, *, in_vain: bool) -> bool:
        """Say whether to say this now; `in_vain` is whether a way is sought and none is known."""
        return now >= self.at + self._rest(said, in_vain=in_vain)

    def _rest(self, said: NeighbourList, *, in_vain: bool) -> float:
        last = self.last
        if last is None or set(said.sought) - set(last.sought):
            return EVERY
        if replace(said, serial=last.serial) != last:
            return self._every
        return SEEK_EVERY if in_vain else REPEAT_EVERY

    def say(self, said: NeighbourList, now: float) -> None:
        """Note that this is said now."""
        is_calm = now >= self.at + CALM
        self._every = EVERY if is_calm else min(SELDOM, 2 * self._every)
        self.last, self.at = said, now

    def stop(self) -> None:
        """Note that nothing is said any more."""
        self.last = None
