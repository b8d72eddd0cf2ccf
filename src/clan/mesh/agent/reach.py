"""By which links a peer can be told something now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.hear import FRESH
from clan.mesh.pair import Mode

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.link import LinkId
    from clan.mesh.pair import Pair, Standing

HEARD_FOR = 75.0
"""Seconds: a peer that keeps a link open asks on it once a minute."""


def way(pair: Pair, now: float) -> LinkId | None:
    """Return the path if it lives, or the link on which the peer was heard last; None for neither.

    Towards a peer that keeps a link open to here, this end asks nothing, and yet it lives.
    """
    path = pair.links.get(pair.path) if pair.path else None
    if path is not None and pair.mode is not Mode.COLD and path.alive_since is not None:
        return pair.path
    return _last(pair.links.values(), now)


def ways(pair: Pair, now: float) -> list[LinkId]:
    """Return the same, and the next best unless the first was heard a moment ago.

    Where nobody talks a path is asked once a minute: whoever is in between may be gone since.
    """
    first = way(pair, now)
    if first is None:
        return []
    if is_fresh(pair, first, now):
        return [first]
    second = _last((each for each in pair.links.values() if each.link.id != first), now)
    return [first] if second is None else [first, second]


def is_fresh(pair: Pair, link: LinkId, now: float) -> bool:
    """Return whether a peer was heard on a link a moment ago."""
    return now - pair.links[link].health.heard <= FRESH


def _last(links: Iterable[Standing], now: float) -> LinkId | None:
    """Return the link that was heard last, if it was at all lately."""
    last = max(links, key=lambda each: each.health.heard, default=None)
    return last.link.id if last is not None and now - last.health.heard < HEARD_FOR else None
