"""By which link a peer can be told something now."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.pair import Mode

if TYPE_CHECKING:
    from clan.mesh.link import LinkId
    from clan.mesh.pair import Pair

HEARD_FOR = 75.0
"""Seconds: a peer that keeps a link open asks on it once a minute."""


def way(pair: Pair, now: float) -> LinkId | None:
    """Return the path if it lives, or the link on which the peer was heard last; None for neither.

    Towards a peer that keeps a link open to here, this end asks nothing, and yet it lives.
    """
    path = pair.links.get(pair.path) if pair.path else None
    if path is not None and pair.mode is not Mode.COLD and path.alive_since is not None:
        return pair.path
    last = max(pair.links.values(), key=lambda each: each.health.heard, default=None)
    if last is not None and now - last.health.heard < HEARD_FOR:
        return last.link.id
    return None
