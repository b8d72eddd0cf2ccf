from __future__ import annotations

import asyncio
from functools import partial

import pytest

from clan.networks.race import Race, race
from clan.networks.technology import DialError

# Far apart, so that a slow computer changes no order; nothing here waits for the longest.
SOON, LATER, NEVER = 0.02, 0.6, 60.0


class Course:
    """Attempts that take given times, and a record of what was given up or cancelled."""

    def __init__(self, *plan: tuple[float, str]) -> None:
        self.plan = plan
        self.discarded: list[str] = []
        self.cancelled: list[str] = []

    async def attempt(self, seconds: float, result: str) -> str:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(result)
            raise
        if result.startswith("!"):
            raise DialError(result[1:])
        return result

    async def discard(self, value: str) -> None:
        self.discarded.append(value)

    def run(self, *, stagger: float = 0.25, grace: float = 0.1) -> Race[str]:
        attempts = [partial(self.attempt, *step) for step in self.plan]
        return asyncio.run(race(attempts, discard=self.discard, stagger=stagger, grace=grace))


def test_the_best_is_used_at_once_and_the_rest_never_started() -> None:
    course = Course((SOON, "lan"), (SOON, "internet"))
    outcome = course.run()
    assert outcome.value == "lan"
    assert outcome.laps[1].started is None


def test_a_failure_starts_the_next_at_once() -> None:
    outcome = Course((0, "!refused"), (0, "internet")).run(stagger=NEVER)
    assert outcome.value == "internet"
    assert outcome.laps[0].error == "refused"
    assert outcome.seconds < LATER


def test_silence_starts_the_next_after_the_stagger() -> None:
    course = Course((NEVER, "lan"), (NEVER, "vpn"), (SOON, "internet"))
    outcome = course.run(stagger=0.1)
    assert outcome.value == "internet"
    starts = [lap.started or 0.0 for lap in outcome.laps]
    assert starts[1] - starts[0] >= 0.1
    assert starts[2] - starts[1] >= 0.1
    assert sorted(course.cancelled) == ["lan", "vpn"]


def test_a_better_one_that_answers_within_the_grace_is_used_instead() -> None:
    course = Course((0.3, "lan"), (0.0, "internet"))
    outcome = course.run(stagger=0.1, grace=30)
    assert outcome.value == "lan"
    assert course.discarded == ["internet"]


def test_a_better_one_that_stays_silent_costs_no_more_than_the_grace() -> None:
    course = Course((NEVER, "lan"), (0, "internet"))
    outcome = course.run(stagger=0.05, grace=0.1)
    assert outcome.value == "internet"
    assert course.cancelled == ["lan"]
    assert course.discarded == []


def test_a_better_one_that_fails_ends_the_grace() -> None:
    outcome = Course((0.2, "!reset"), (0.0, "internet")).run(stagger=0.05, grace=NEVER)
    assert outcome.value == "internet"
    assert outcome.laps[0].error == "reset"


def test_when_all_fail_each_has_its_reason() -> None:
    outcome = Course((0, "!refused"), (SOON, "!no answer")).run()
    assert outcome.winner is None
    assert [lap.error for lap in outcome.laps] == ["refused", "no answer"]


def test_a_crash_is_a_failure_that_is_called_a_crash() -> None:
    async def crash() -> str:
        raise KeyError("peers")

    async def discard(_: str) -> None:
        pytest.fail("nothing to discard")

    outcome = asyncio.run(race([crash], discard=discard))
    assert outcome.laps[0].error == "crashed: KeyError: 'peers'"


def test_nothing_to_try_is_no_winner() -> None:
    assert Course().run().winner is None


def test_an_interrupted_race_leaves_nothing_open() -> None:
    course = Course((NEVER, "lan"), (SOON, "internet"))

    async def interrupted() -> None:
        attempts = [partial(course.attempt, *step) for step in course.plan]
        async with asyncio.timeout(0.3):
            await race(attempts, discard=course.discard, stagger=0.05, grace=NEVER)

    with pytest.raises(TimeoutError):
        asyncio.run(interrupted())
    assert course.cancelled == ["lan"]
    assert course.discarded == ["internet"]
