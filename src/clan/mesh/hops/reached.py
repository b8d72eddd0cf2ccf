"""Who is a neighbour: whom a machine reaches by a link of its own, and at what cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh import choose
from clan.mesh.hops import lists
from clan.mesh.hops.lists import Neighbour
from clan.mesh.link import Kind
from clan.mesh.pair import Mode

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.mesh.exchange import Desired
    from clan.mesh.link import LinkId
    from clan.mesh.pair import Pair, Standing

HEARD_FOR = 75.0
"""Seconds: a peer that keeps a link open asks on it once a minute."""


def reached(pairs: Mapping[str, Pair], now: float) -> Iterator[tuple[str, LinkId]]:
    """Yield the neighbours: those whose path is a link of their own that lives."""
    for name, pair in pairs.items():
        path = pair.links.get(pair.path) if pair.path else None
        if path is None or path.link.slot.kind is Kind.HOPS:
            continue
        # To one that keeps a link open to here this end asks nothing; else only an answer counts.
        kept = pair.mode is Mode.COLD and now < path.health.heard + HEARD_FOR
        if kept or (pair.mode is not Mode.COLD and path.alive_since is not None):
            yield name, path.link.id


def neighbour(label: int, path: Standing, desired: Desired) -> Neighbour:
    """Return what a machine's list says of the member with this label, reached by this path."""
    uplink = desired.uplinks.get(path.link.slot.uplink)
    cost = round(choose.cost(path, desired) * 1000)
    return Neighbour(
        label=label,
        cost=max(1, min(lists.MOST_COST, cost)),
        free=uplink is not None and not uplink.metered,
    )
