"""How often members are called while a key is replaced, and when this is looked at again."""

from __future__ import annotations

from typing import Any, cast

from clan.mesh.agent.renewal import CALL_EVERY, GO_ON_EVERY, Renewal
from clan.mesh.desire import Wish
from clan.mesh.exchange import Desired

HOUR = 3600.0
DAY = 24 * HOUR


def renewal() -> Renewal:
    nothing = cast("Any", None)
    return Renewal(nothing, nothing, nothing, print)


def called(made: Renewal, names: list[str], begin: float, seconds: float) -> list[float]:
    """When somebody is called, if one looks as often as the agent does."""
    times = [begin + GO_ON_EVERY * number for number in range(int(seconds / GO_ON_EVERY))]
    return [now for now in times for _ in made._call(names, now)]


def test_who_is_away_for_long_is_called_a_few_times_a_day() -> None:
    made = renewal()
    first = called(made, ["phone"], 0.0, DAY)
    assert first[:3] == [0.0, CALL_EVERY, 3 * CALL_EVERY]
    assert len(called(made, ["phone"], DAY, 30 * DAY)) <= 4 * 30 + 1


def test_those_who_answer_are_called_one_a_minute() -> None:
    made = renewal()
    called(made, ["phone"] * 30, 0.0, DAY)
    times = [
        at
        for left in range(29, 0, -1)
        for at in called(made, ["phone"] * left, DAY + (29 - left) * CALL_EVERY, CALL_EVERY)
    ]
    assert 28 <= len(times) <= 29


def test_a_machine_that_no_map_lists_does_not_look_all_the_time() -> None:
    made = renewal()
    assert made.due() < 5.0
    assert made.turn(Wish(desired=Desired(name="")), {}, 5.0) == []
    assert made.due() == 5.0 + GO_ON_EVERY
