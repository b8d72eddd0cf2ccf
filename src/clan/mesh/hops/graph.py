"""From what members say to ways: which machines a datagram goes by. Pure.

That two members are neighbours counts only when both say it, and costs what the worse of the two
says. So a liar can make up nothing but what ends at itself, and can spoil only ways that go by it:
others are offered beside the best one. Ways are worked out from the same end at both ends, so two
machines that have heard the same choose the same way.

No way visits a machine twice, and none goes by a machine, or over an uplink of it, that does not
pass on for others.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.mesh.hops.labels import MOST

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from clan.mesh.hops.lists import NeighbourList

OFFERED = 4
"""Ways to one machine: the best, and others in case that it does not work."""
HOP_COST = 5
"""Milliseconds that a machine in the middle adds: others' processors and bandwidth."""


@dataclass(frozen=True, slots=True)
class Edge:
    """A neighbourhood as one of the two sees it; `free` is that one's word, `cost` the worse's."""

    cost: int
    free: bool


@dataclass(frozen=True, slots=True)
class Graph:
    """Who is whose neighbour, by labels, and who passes on for others."""

    edges: Mapping[int, Mapping[int, Edge]] = field(default_factory=dict)
    transit: frozenset[int] = frozenset()


def graph(lists: Iterable[tuple[int, NeighbourList]]) -> Graph:
    """Put together what members say, each known by its label."""
    said = dict(lists)
    words = {one: {each.label: each for each in them.neighbours} for one, them in said.items()}
    edges: dict[int, dict[int, Edge]] = {}
    for one, named in words.items():
        for other, word in named.items():
            back = words.get(other, {}).get(one)
            if back is not None and other != one:
                edges.setdefault(one, {})[other] = Edge(max(word.cost, back.cost), word.free)
    return Graph(edges, frozenset(one for one, them in said.items() if them.transit))


def holds(known: Graph, way: tuple[int, ...]) -> bool:
    """Say whether a way from its first to its last member goes by what is known."""
    if len(way) - 1 > MOST or len(set(way)) < len(way):
        return False
    if not all(other in known.edges.get(one, {}) for one, other in itertools.pairwise(way)):
        return False
    return all(
        there in known.transit
        and known.edges[there][before].free
        and known.edges[there][after].free
        for before, there, after in zip(way, way[1:], way[2:], strict=False)
    )


def ways(known: Graph, source: int, target: int) -> list[tuple[int, ...]]:
    """Return ways from `source` to `target`, both in them, the best first; none if there is none.

    Those after the first go by other machines, as far as there are others. A neighbour is reached
    by no way.
    """
    if source == target:
        return []
    first, last = min(source, target), max(source, target)
    found = list(dict.fromkeys(_ways(known, first, last)))[:OFFERED]
    return found if first == source else [way[::-1] for way in found]


def _ways(known: Graph, source: int, target: int) -> Iterator[tuple[int, ...]]:
    """Yield the best way, those by none of its machines or each other's, those by not all."""
    best = _best(known, source, target, frozenset())
    if best is None:
        return
    yield best
    shunned = frozenset(best[1:-1])
    for _ in range(OFFERED):
        other = _best(known, source, target, shunned)
        if other is None:
            break
        yield other
        shunned |= frozenset(other[1:-1])
    for middle in best[1:-1]:
        other = _best(known, source, target, frozenset({middle}))
        if other is not None:
            yield other


def _best(
    known: Graph, source: int, target: int, shunned: Collection[int]
) -> tuple[int, ...] | None:
    """Return the cheapest way; of two, the one with fewer hops, then with the lower labels.

    Bellman and Ford's search, a hop a round. Every hop costs something, so no way has a circle.
    """
    best: dict[int, tuple[int, int, tuple[int, ...]]] = {source: (0, 0, (source,))}
    newest = best
    for _ in range(MOST):
        found: dict[int, tuple[int, int, tuple[int, ...]]] = {}
        for one, (cost, hops, way) in newest.items():
            for other, edge in known.edges.get(one, {}).items():
                if other in way or other in shunned or not _passes(known, way, other, target):
                    continue
                made = (cost + edge.cost + HOP_COST, hops + 1, (*way, other))
                before = found.get(other) or best.get(other)
                if before is None or made < before:
                    found[other] = made
        best = best | found
        newest = {one: made for one, made in found.items() if one != target}
    return best[target][2] if target in best else None


def _passes(known: Graph, way: tuple[int, ...], onward: int, target: int) -> bool:
    """Say whether a way may go on: from its last machine, and into the next if it is no end."""
    here = way[-1]
    if len(way) == 1:
        if onward == target:
            return False
    elif not known.edges[here][onward].free:
        return False
    return onward == target or (onward in known.transit and known.edges[onward][here].free)
