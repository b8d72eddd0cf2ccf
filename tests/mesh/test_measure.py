"""What is known of a link: round trips as TCP knows them, silence from when something was due."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh import measure
from clan.mesh.measure import Health


def probed(*trips: float | None, every: float = 0.1) -> Health:
    """Return what is known after probes with these round trips, None for a lost one."""
    health = Health()
    for number, trip in enumerate(trips):
        now = number * every
        health = measure.send(health, sequence=number, now=now, number=number + 1)
        if trip is not None:
            health = measure.hear(health, now + trip)
            health, _ = measure.answer(health, sequence=number, held=0.0, at=now + trip)
    return health


def test_the_round_trip_is_smoothed_as_in_rfc_6298() -> None:
    health = probed(0.1)
    assert health.round_trip == pytest.approx(0.1)
    assert health.variation == pytest.approx(0.05)
    health = probed(0.1, 0.2)
    assert health.round_trip == pytest.approx(7 / 8 * 0.1 + 0.2 / 8)
    assert health.variation == pytest.approx(3 / 4 * 0.05 + 0.1 / 4)


def test_the_time_that_a_probe_was_held_is_not_the_links() -> None:
    health = measure.send(Health(), sequence=1, now=0.0)
    health, flight = measure.answer(health, sequence=1, held=0.4, at=0.5)
    assert flight is not None
    assert health.round_trip == pytest.approx(0.1)


def test_an_answer_counts_once_and_only_if_it_was_asked_for() -> None:
    health = probed(0.1)
    late = measure.hear(health, 9.0)
    assert measure.answer(health, sequence=0, held=0.0, at=9.0) == (late, None)
    assert measure.answer(health, sequence=77, held=0.0, at=9.0) == (late, None)


def test_silence_begins_when_something_was_due() -> None:
    health = probed(*[0.1] * 20)
    last = health.heard
    health = measure.send(health, sequence=99, now=last)
    assert measure.overdue(health, floor=0.0, now=last + 0.1) == []
    late = last + 0.1 + measure.tolerance(health) + 0.001
    assert [f.sequence for f in measure.overdue(health, floor=0.0, now=late)] == [99]
    heard = measure.hear(health, last + 0.15)
    assert measure.overdue(heard, floor=0.0, now=late) == []
    assert [f.sequence for f in measure.unanswered(heard, floor=0.0, now=late)] == [99]


def test_silence_that_this_machine_slept_through_does_not_count() -> None:
    health = measure.send(probed(*[0.1] * 20), sequence=99, now=2.0)
    assert measure.overdue(health, floor=0.0, now=60.0)
    assert not measure.overdue(health, floor=59.9, now=60.0)


def test_one_missing_packet_is_no_doubt_and_two_are() -> None:
    health = probed(*[0.1] * 20)
    assert measure.doubtful_at(health, floor=0.0) == math.inf
    health = measure.send(health, sequence=98, now=2.0)
    assert measure.doubtful_at(health, floor=0.0) == math.inf
    health = measure.send(health, sequence=99, now=2.1)
    late = 2.1 + (health.round_trip or 0.0) + measure.tolerance(health)
    assert measure.doubtful_at(health, floor=0.0) == pytest.approx(late)


def test_what_the_peer_promised_is_missed_too() -> None:
    health = measure.promise(probed(*[0.1] * 20), at=2.0, every=0.1)
    slack = measure.tolerance(health) + 0.1 / 8
    assert measure.doubtful_at(health, floor=0.0) == pytest.approx(2.2 + slack)
    later = measure.hear(health, 2.15)
    assert measure.doubtful_at(later, floor=0.0) == pytest.approx(2.3 + slack)
    assert measure.doubtful_at(measure.promise(health, at=2.0, every=0.0), floor=0.0) == math.inf


@pytest.mark.parametrize(("loss", "probes"), [(0.0, 4), (0.1, 6), (0.3, 12), (0.5, 20), (1.0, 28)])
def test_the_more_a_link_loses_the_more_must_be_missing(loss: float, probes: int) -> None:
    assert measure.needed(Health(loss=loss)) == probes


@pytest.mark.parametrize(
    ("missing", "answered", "lost", "chance"),
    [(1, 0, 5, 1.0), (7, 6, 0, 1 / 1716), (23, 3, 7, 120 / 5456), (10, 1, 0, 1 / 11)],
)
def test_luck_is_fishers(missing: int, answered: int, lost: int, chance: float) -> None:
    assert measure.luck(missing, answered, lost) == pytest.approx(chance)


def test_the_loss_is_that_of_the_last_seconds() -> None:
    health = probed(*[0.05, None] * 100, every=0.1)
    health, lost = measure.forget_overdue(health, now=100.0)
    assert len(lost) == 100
    assert measure.revive(health).loss == 0.0
    for number in range(200, 400):
        health = measure.send(health, sequence=number, now=100 + number / 10)
        health, _ = measure.answer(health, sequence=number, held=0.0, at=100.05 + number / 10)
    assert health.loss < 0.01


@given(
    st.lists(st.one_of(st.none(), st.floats(0, 3)), max_size=200),
    st.floats(0, 30),
)
def test_what_is_remembered_is_bounded_and_sane(trips: list[float | None], now: float) -> None:
    health, _ = measure.forget_overdue(probed(*trips), now)
    assert len(health.flying) <= measure.MOST_FLYING
    assert len(health.rounds) <= measure.MOST_ROUNDS
    assert len(health.proofs) <= measure.MOST_PROOFS
    assert 0 <= health.loss <= 1
    assert health.round_trip is None or 0 <= health.round_trip <= 3
    assert len(list(measure.common_rounds(health, health))) == len(health.rounds)
