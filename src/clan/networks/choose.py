"""Which network first: a pure function of the routes, what is wanted and what is remembered."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clan.model.route import Route
    from clan.networks.memory import Memory
    from clan.networks.technology import Traits

FIRST_PENALTY = 60.0
"""Seconds that a network goes behind after failing once; doubles with each further failure."""
LONGEST_PENALTY = 1800.0
"""Seconds after which even a network that always fails is tried in its place again."""


class Action(enum.StrEnum):
    """What the connection is for."""

    INTERACTIVE = "interactive"
    """Typing: the lowest latency."""
    BULK = "bulk"
    """Copying: the highest throughput."""
    PRIVATE = "private"
    """Only over networks that hide where both ends are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """A route in its place, and why it is there."""

    route: Route
    why: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranking:
    """The routes to try, best first, and those that the action rules out."""

    allowed: tuple[Ranked, ...]
    excluded: tuple[Ranked, ...]


def penalty(failures: int) -> float:
    """Return for how many seconds a network goes behind after `failures` failures in a row."""
    if failures <= 0:
        return 0.0
    return min(LONGEST_PENALTY, FIRST_PENALTY * 2.0 ** min(failures - 1, 16))


def rank(
    routes: Sequence[Route],
    *,
    traits: Mapping[str, Traits],
    action: Action,
    memory: Memory,
    underlay: str,
    now: float,
) -> Ranking:
    """Order the routes.

    What the action rules out is set aside. Then, in this order: networks that failed lately from
    this underlay go behind; the higher priority; what was measured, by action (latency, or
    throughput class and then latency), unmeasured ones after; the name, so that equals keep one
    order. `traits` is by technology reference, `now` in seconds as `time.time()` gives them.
    """
    keyed = []
    excluded = []
    for route in routes:
        trait = traits[route.network.technology]
        if action is Action.PRIVATE and not trait.hides_location:
            excluded.append(Ranked(route=route, why="does not hide where the machines are"))
            continue
        mark = memory.mark(route.network.name, underlay)
        waits = mark.failed_at + penalty(mark.failures) - now if mark.failures else 0.0
        behind = 0 < waits <= LONGEST_PENALTY
        latency = math.inf if mark.rtt is None else mark.rtt
        throughput = -int(trait.throughput) if action is Action.BULK else 0
        key = (behind, -route.network.priority, throughput, latency, route.network.name)
        keyed.append((key, Ranked(route=route, why=_why(route, behind=behind, latency=latency))))
    return Ranking(
        allowed=tuple(ranked for _, ranked in sorted(keyed, key=lambda pair: pair[0])),
        excluded=tuple(excluded),
    )


def _why(route: Route, *, behind: bool, latency: float) -> str:
    reasons = [f"priority {route.network.priority}"]
    if behind:
        reasons.insert(0, "failed here lately")
    if latency < math.inf:
        reasons.append(f"{latency * 1000:.1f} ms when last measured here")
    return ", ".join(reasons)
