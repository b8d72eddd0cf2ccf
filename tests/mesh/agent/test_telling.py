"""Of news an agent tells at once; of probes within a quarter of a second, and not more often."""

from __future__ import annotations

import itertools
import math

from clan.mesh.agent.telling import TELL_EVERY, Telling


def told(telling: Telling, times: list[float]) -> list[float]:
    """Return at which of these times it is told, when all that happens is a probe at each."""
    return [now for now in times if telling.is_time(now, is_news=False)]


def test_of_many_probes_it_is_told_once_in_a_while() -> None:
    found = told(Telling(), [10 + number * 0.03 for number in range(100)])
    assert found[0] == 10
    gaps = [b - a for a, b in itertools.pairwise(found)]
    assert gaps
    assert all(TELL_EVERY <= gap < TELL_EVERY + 0.03 for gap in gaps)


def test_of_the_last_probe_it_is_told_though_nothing_more_comes() -> None:
    telling = Telling()
    assert told(telling, [10, 10.1]) == [10]
    assert telling.due == 10 + TELL_EVERY
    assert told(telling, [telling.due]) == [10 + TELL_EVERY]
    assert telling.due == math.inf


def test_of_news_it_is_told_at_once_and_of_the_probes_before_with_it() -> None:
    telling = Telling()
    assert told(telling, [10, 10.1]) == [10]
    assert telling.is_time(10.11, is_news=True)
    assert telling.due == math.inf
    assert told(telling, [10.26, 10.35, 10.37]) == [10.37]
