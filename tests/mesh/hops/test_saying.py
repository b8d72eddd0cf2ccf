"""How often a machine says whom it reaches: at once, then more and more seldom."""

from __future__ import annotations

import itertools

import pytest

from clan.mesh.hops.lists import Neighbour, NeighbourList
from clan.mesh.hops.saying import (
    CALM,
    CHANGE,
    EVERY,
    REPEAT_EVERY,
    SEEK_EVERY,
    SELDOM,
    Saying,
)

ME = bytes(32)


def around(*near: int, sought: tuple[int, ...] = (), cost: int = 10) -> NeighbourList:
    neighbours = tuple(Neighbour(label=each, cost=cost) for each in near)
    return NeighbourList(identity=ME, serial=1, life=60, neighbours=neighbours, sought=sought)


def said_at(saying: Saying, what: list[NeighbourList], seconds: float) -> list[float]:
    """Look ten times a second, with another list each time, and return when one was said."""
    times = []
    for tenth in range(round(seconds * 10)):
        now, said = 100 + tenth / 10, what[tenth % len(what)]
        if saying.is_time(said, now, in_vain=False):
            saying.say(said, now)
            times.append(now - 100)
    return times


def test_of_changes_in_a_row_the_first_are_told_soon_and_the_rest_seldom() -> None:
    times = said_at(Saying(), [around(1), around(1, 2), around(2)], 60)
    rests = [b - a for a, b in itertools.pairwise(times)]
    assert times[0] == 0
    assert rests[0] == pytest.approx(EVERY, abs=0.11)
    assert all(b >= a - 0.11 for a, b in itertools.pairwise(rests))
    assert rests[-1] == pytest.approx(SELDOM, abs=0.31)
    assert len(times) < 10 + 60 / SELDOM


def test_after_a_calm_the_next_change_is_told_at_once() -> None:
    saying = Saying()
    said_at(saying, [around(1), around(1, 2)], 30)
    at = saying.at + CALM
    saying.say(around(3), at)
    assert not saying.is_time(around(4), at + EVERY / 2, in_vain=False)
    assert saying.is_time(around(4), at + EVERY, in_vain=False)


def test_that_somebody_is_sought_is_told_however_much_was_said_before() -> None:
    saying = Saying()
    said_at(saying, [around(1), around(1, 2)], 30)
    at = saying.at
    assert not saying.is_time(around(1, 3), at + EVERY, in_vain=False)
    assert saying.is_time(around(1, sought=(7,)), at + EVERY, in_vain=False)


def test_the_same_is_told_again_seldom_and_more_often_in_vain() -> None:
    saying = Saying()
    saying.say(around(1), 100)
    assert not saying.is_time(around(1), 99 + REPEAT_EVERY, in_vain=False)
    assert saying.is_time(around(1), 100 + REPEAT_EVERY, in_vain=False)
    assert saying.is_time(around(1), 100 + SEEK_EVERY, in_vain=True)
    assert saying.due() == 100 + REPEAT_EVERY


def test_a_cost_that_hardly_changes_is_told_as_it_was() -> None:
    saying = Saying()
    saying.say(around(1, cost=10), 100)
    assert saying.steady(Neighbour(label=1, cost=10 + CHANGE)).cost == 10
    assert saying.steady(Neighbour(label=1, cost=11 + CHANGE)).cost == 11 + CHANGE
    assert saying.steady(Neighbour(label=2, cost=99)).cost == 99
