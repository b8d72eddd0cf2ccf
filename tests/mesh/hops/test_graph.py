"""Ways go by machines that are there, that want it and that both sides know; and never round."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.hops.graph import OFFERED, graph, holds, ways
from clan.mesh.hops.labels import MOST
from clan.mesh.hops.lists import Neighbour, NeighbourList


def said(
    *neighbours: tuple[int, int] | tuple[int, int, bool], transit: bool = True
) -> NeighbourList:
    return NeighbourList(
        identity=b"",
        serial=1,
        life=60,
        transit=transit,
        neighbours=tuple(
            Neighbour(label=each[0], cost=each[1], free=each[2] if len(each) > 2 else True)
            for each in neighbours
        ),
    )


ROWS = st.dictionaries(
    st.integers(1, 9),
    st.builds(
        lambda neighbours, transit: said(*neighbours, transit=transit),
        st.lists(
            st.tuples(st.integers(1, 9), st.integers(1, 50), st.booleans()),
            max_size=6,
            unique_by=lambda each: each[0],
        ),
        st.booleans(),
    ),
)
A, B, C, D, E, F = range(1, 7)


def row(*machines: int, cost: int = 10) -> dict[int, NeighbourList]:
    """Return what machines say who are cabled one to the next."""
    near: dict[int, set[int]] = {each: set() for each in machines}
    for one, other in itertools.pairwise(machines):
        near[one].add(other)
        near[other].add(one)
    return {one: said(*((other, cost) for other in them)) for one, them in near.items()}


@given(ROWS, st.integers(1, 9), st.integers(1, 9))
def test_whatever_is_said_a_way_is_one(
    lists: dict[int, NeighbourList], source: int, target: int
) -> None:
    known = graph(lists.items())
    found = ways(known, source, target)
    assert len(found) <= OFFERED
    for way in found:
        assert (way[0], way[-1]) == (source, target)
        assert len(set(way)) == len(way) <= MOST + 1
        assert holds(known, way)
        for one, other in itertools.pairwise(way):
            assert other in {each.label for each in lists[one].neighbours}
            assert one in {each.label for each in lists[other].neighbours}
        for before, middle, after in zip(way, way[1:], way[2:], strict=False):
            free = {each.label for each in lists[middle].neighbours if each.free}
            assert lists[middle].transit
            assert {before, after} <= free
    assert found == [way[::-1] for way in ways(known, target, source)]


@given(ROWS, st.integers(1, 9), st.integers(1, 9), st.integers(1, 9))
def test_no_way_goes_by_a_machine_that_is_gone_or_does_not_want_it(
    lists: dict[int, NeighbourList], source: int, target: int, gone: int
) -> None:
    rest = {one: each for one, each in lists.items() if one != gone}
    assert all(gone not in way for way in ways(graph(rest.items()), source, target))
    if gone in lists:
        rest[gone] = said(
            *((e.label, e.cost, e.free) for e in lists[gone].neighbours), transit=False
        )
        assert all(gone not in way[1:-1] for way in ways(graph(rest.items()), source, target))


@given(ROWS, st.integers(1, 9), st.integers(1, 9))
def test_the_first_way_is_the_cheapest_there_is(
    lists: dict[int, NeighbourList], source: int, target: int
) -> None:
    known = graph(lists.items())

    def cost(way: tuple[int, ...]) -> int:
        return sum(known.edges[a][b].cost + 5 for a, b in itertools.pairwise(way))

    between = [each for each in lists if each not in {source, target}]
    all_ways = [
        (source, *middle, target)
        for hops in range(1, MOST)
        for middle in itertools.permutations(between, hops)
        if holds(known, (source, *middle, target))
    ]
    found = ways(known, source, target)
    assert bool(found) == bool(all_ways and source != target)
    if found:
        assert cost(found[0]) == min(map(cost, all_ways))


def test_a_neighbourhood_that_one_end_makes_up_is_none() -> None:
    lists = row(A, B, C) | {D: said((A, 1), (C, 1))}
    assert ways(graph(lists.items()), A, C) == [(A, B, C)]


def test_a_liar_is_no_cheaper_than_those_next_to_it_say() -> None:
    lists = {
        A: said((B, 10), (D, 30)),
        B: said((A, 10), (C, 10)),
        C: said((B, 10), (D, 30)),
        D: said((A, 1), (C, 1)),
    }
    assert ways(graph(lists.items()), A, C) == [(A, B, C), (A, D, C)]


def test_where_one_machine_is_on_every_way_but_one_that_one_is_offered() -> None:
    lists = {
        A: said((B, 1), (C, 1), (F, 40)),
        B: said((A, 1), (D, 1)),
        C: said((A, 1), (D, 1)),
        D: said((B, 1), (C, 1), (E, 1)),
        E: said((D, 1), (F, 40)),
        F: said((A, 40), (E, 40)),
    }
    found = ways(graph(lists.items()), A, E)
    assert found[:2] == [(A, B, D, E), (A, F, E)]
    assert (A, C, D, E) in found


def test_four_in_the_middle_are_as_many_as_there_can_be() -> None:
    assert ways(graph(row(1, 2, 3, 4, 5, 6).items()), 1, 6) == [(1, 2, 3, 4, 5, 6)]
    assert ways(graph(row(1, 2, 3, 4, 5, 6, 7).items()), 1, 7) == []


def test_a_metered_uplink_is_used_at_the_ends_and_not_between() -> None:
    lists = {
        A: said((B, 10, False)),
        B: said((A, 10), (C, 10)),
        C: said((B, 10, False)),
    }
    assert ways(graph(lists.items()), A, C) == [(A, B, C)]
    lists[B] = said((A, 10), (C, 10, False))
    assert ways(graph(lists.items()), A, C) == []


def test_a_neighbour_needs_no_way() -> None:
    lists = row(A, B, C) | {A: said((B, 10), (C, 500)), C: said((B, 10), (A, 500))}
    assert (A, C) not in ways(graph(lists.items()), A, C)
