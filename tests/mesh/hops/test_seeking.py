"""Who is woken because a way is sought: the one who is sought, and when it is time the others."""

from __future__ import annotations

import math

from clan.mesh.hops.graph import Edge, Graph
from clan.mesh.hops.seeking import PATIENCE, WAKE_EVERY, Seeking

NOBODY = Graph()
SEEKER, SOUGHT, OTHER = 1, 2, 3
PAIR = (SEEKER, SOUGHT)


def test_where_no_place_to_look_is_known_others_are_woken_at_once() -> None:
    seeking = Seeking()
    seeking.said(SEEKER, [SOUGHT])
    assert seeking.whom([PAIR], NOBODY, (), {OTHER}, 10) == ({SOUGHT}, True)
    assert seeking.whom([PAIR], NOBODY, (), {OTHER}, 20) == (set(), False)


def test_where_a_place_is_known_others_are_woken_after_a_while_and_once() -> None:
    seeking = Seeking()
    seeking.said(SEEKER, [SOUGHT])
    assert seeking.whom([PAIR], NOBODY, (), {SOUGHT}, 10) == ({SOUGHT}, False)
    assert seeking.due() == 10 + PATIENCE
    seen = {}
    for tenth in range(1, 100):
        at = 10 + tenth / 10
        seen[at] = seeking.whom([PAIR], NOBODY, (), {SOUGHT}, at)
    woken = {at: whom for at, whom in seen.items() if whom != (set(), False)}
    assert list(woken.values()) == [({SOUGHT}, True)]
    assert 10 + max(PATIENCE, WAKE_EVERY) <= min(woken) <= 10.2 + max(PATIENCE, WAKE_EVERY)
    seeking.said(SEEKER, [SOUGHT])  # again, and still in vain
    assert seeking.whom([PAIR], NOBODY, (), {SOUGHT}, 30) == ({SOUGHT}, True)


def test_nobody_is_woken_for_one_whom_this_machine_or_a_way_reaches() -> None:
    for graph, reached in (
        (NOBODY, {SOUGHT}),
        (
            Graph(
                {
                    SEEKER: {OTHER: Edge(1, free=True)},
                    OTHER: {SEEKER: Edge(1, free=True), SOUGHT: Edge(1, free=True)},
                    SOUGHT: {OTHER: Edge(1, free=True)},
                },
                frozenset({OTHER}),
            ),
            set[int](),
        ),
    ):
        seeking = Seeking()
        seeking.said(SEEKER, [SOUGHT])
        for at in range(10, 20):
            assert seeking.whom([PAIR], graph, reached, (), at) == (set(), False)


def test_what_is_sought_no_more_wakes_nobody() -> None:
    seeking = Seeking()
    seeking.said(SEEKER, [SOUGHT])
    assert seeking.whom([], NOBODY, (), (), 10) == (set(), False)
    assert seeking.due() == math.inf


def test_members_are_woken_at_most_so_often() -> None:
    seeking = Seeking()
    woken = 0
    for tenth in range(100):
        seeking.said(SEEKER, [SOUGHT])
        woken += bool(seeking.whom([PAIR], NOBODY, (), (), 10 + tenth / 10)[0])
    assert 3 <= woken <= 10 / WAKE_EVERY
