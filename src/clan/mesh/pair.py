"""The state of one pair of machines: what is remembered between two steps, as frozen values."""

from __future__ import annotations

import enum
import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.mesh.measure import Health
from clan.mesh.width import Width
from clan.mesh.wire import About, Choice

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.mesh.link import Link, LinkId

FAST_FOR = 30.0
"""Seconds after the last traffic that a pair is watched closely."""
FOLLOW_FOR = 3.0
"""Seconds that the peer's word that it has traffic holds."""
SLOW_FOR = 900.0
"""Seconds after the last traffic that a path and a standby are held open."""
AWAY_AFTER = 10.0
"""Seconds of silence on every link after which the peer counts as away: it sleeps, most likely."""
COLD_AFTER = 60.0
"""Seconds of the same after which nothing is sent to it any more, unless someone wants it."""


PATH_EVERY = 0.1
"""Seconds between two questions on a fast pair's path, from each end."""
FEW = 10
"""Fast pairs that are asked as often as that. With more of them each is asked less often, so that
all together cost the same: a server that a whole clan talks to would do little else."""
SELDOM = 1.0
"""Seconds between two such questions, at most."""


def path_every(fast: int) -> float:
    """Return the seconds between two questions on a path, for a machine with so many fast pairs."""
    return min(SELDOM, PATH_EVERY * max(1.0, fast / FEW))


class Mode(enum.StrEnum):
    """How much is sent."""

    FAST = "fast"
    SLOW = "slow"
    KEPT = "kept"
    """The path alone is held open."""
    COLD = "cold"
    """Nothing is sent."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A link, and what it has been through."""

    link: Link
    health: Health = field(default_factory=Health)
    width: Width = field(default_factory=Width)
    about: About | None = None
    """What the peer said of it last."""
    alive_since: float | None = None
    """Since when it has answered without being lost; None while it does not."""
    failures: int = 0
    """How often it was lost lately."""
    failed_at: float = -math.inf
    asked: float = -math.inf
    """When the last probe was sent."""
    tries: int = 0
    """How often it was looked for since it lived last."""
    looked: float = -math.inf
    """When that was."""
    keepalive: int = 0
    """Seconds after which WireGuard holds it open; 0 is never."""
    counted: int | None = None
    """Bytes that WireGuard had received when that was last read."""
    counted_at: float = -math.inf
    """When that was."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """A peer and all links to it."""

    links: Mapping[LinkId, Standing] = field(default_factory=dict)
    path: LinkId | None = None
    """Where the peer's route points; None only while there is no link at all."""
    mtu: int = 0
    """What the route was given."""
    choice: Choice = field(default_factory=Choice)
    """The last that both ends are to follow."""
    chosen: float = -math.inf
    """When the path was taken."""
    sequence: int = 0
    round: int = 0
    round_at: float = -math.inf
    """When the last round was."""
    traffic: float = -math.inf
    """When traffic was last noticed here."""
    busy: float = -math.inf
    """When the peer last said that it has some."""
    woken: float = -math.inf
    """When all links were last looked for at once."""
    floor: float = -math.inf
    """Silence before this does not count: this machine was not attentive, or the path is new."""
    doubt: float | None = None
    """Since when the path has been in doubt."""
    sought: float = -math.inf
    """When the peer last asked on another link than the path, as whoever is in doubt does."""
    beaten: float | None = None
    """Since when another link has been proved to live while the path has not."""
    announced: float = -math.inf
    """When the choice was last said without being part of a probe."""
    called: float = -math.inf
    """When the peer was last called by another way."""
    calls: int = 0
    """How often in a row that was because only a detour leads to it."""
    told: float = -math.inf
    """When the summary was last sent."""
    mode: Mode = Mode.COLD
    wake: float = -math.inf
    """When the pair has to be looked at again though nothing happens; infinity is never."""


def mode(pair: Pair, *, kept: bool, now: float) -> tuple[Mode, float]:
    """Return how much is to be sent to a peer now, and until when that holds if nothing happens."""
    fast = max(pair.traffic + FAST_FOR, pair.busy + FOLLOW_FOR)
    if now < fast:
        return Mode.FAST, fast
    slow = max(pair.traffic, pair.busy) + SLOW_FOR
    if now < slow and (pair.doubt is None or now < pair.doubt + COLD_AFTER):
        return Mode.SLOW, slow if pair.doubt is None else min(slow, pair.doubt + COLD_AFTER)
    return (Mode.KEPT if kept else Mode.COLD), math.inf
