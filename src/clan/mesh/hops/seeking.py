"""On whose behalf a machine wakes others: of all who seek a way in vain, by what lists say. Pure.

Whoever hears of it wakes the one who is sought. Others, that may be nearer, are woken at once where
this machine knows no place to look for that one, and after a while where it does: a machine that
many call in one moment is slow to answer, and slower if all of these call all others too.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from clan.mesh.hops.graph import ways

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from clan.mesh.hops.graph import Graph

WAKE_EVERY = 2.0
"""Seconds between two times that members are woken."""
PATIENCE = 1.5
"""Seconds for which one who is sought is given time where there is a place to look for it."""

Sought = tuple[int, int]
"""Who seeks whom, by labels."""


class Seeking:
    """One machine's view of it. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._since: dict[Sought, float] = {}
        self._wake: set[Sought] = set()
        self._woke = self._looked = -math.inf

    def due(self) -> float:
        """Return when somebody may have to be woken; infinity is never."""
        if self._wake:
            return self._woke + WAKE_EVERY
        ripe = (at + PATIENCE for at in self._since.values())
        return min((at for at in ripe if at > self._looked), default=math.inf)

    def said(self, author: int, sought: Iterable[int]) -> None:
        """Note what a list says that is new, or is said again."""
        self._wake |= {(author, each) for each in sought}

    def whom(
        self,
        sought: Iterable[Sought],
        graph: Graph,
        reached: Collection[int],
        hopeful: Collection[int],
        now: float,
    ) -> tuple[set[int], bool]:
        """Return who is to be woken now because it is sought, and whether others are to be as well.

        `sought` is what all lists say, `reached` are this machine's neighbours, and for those in
        `hopeful` it knows a place to look.
        """
        self._since = {each: self._since.get(each, now) for each in sought}
        ripe = (e for e, at in self._since.items() if self._looked < at + PATIENCE <= now)
        self._wake |= {e for e in ripe if e[1] in hopeful}
        self._wake &= self._since.keys()
        self._looked = now
        if not self._wake or now < self._woke + WAKE_EVERY:
            return set(), False
        vain = {e for e in self._wake if e[1] not in reached and not ways(graph, *e)}
        self._wake.clear()
        if vain:
            self._woke = now
        is_late = any(e[1] not in hopeful or self._since[e] + PATIENCE <= now for e in vain)
        return {label for _, label in vain}, is_late
