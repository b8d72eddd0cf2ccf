"""What a clock is set to at a boot: never back, and never to what cannot be believed."""

from __future__ import annotations

import pytest

from clan.mesh.clock import CREDIBLE, EVERY, raised

NOW, YEAR = 1_800_000_000.0, 365.25 * 86400
NEVER = 0.0
IN_2099 = NOW + 73 * YEAR


@pytest.mark.parametrize(
    ("now", "noted", "made", "expected"),
    [
        (0.0, NOW, NOW, NOW + EVERY),  # no battery
        (NOW - 3600, NOW, NOW - YEAR, NOW + EVERY),  # it goes slow, or was saved an hour ago
        (NOW + 3600, NOW, NOW, NOW + 3600),  # it is right
        (0.0, NEVER, NOW, 0.0),  # the first boot: nobody knows it, nobody refuses it
        (NOW, IN_2099, NOW, NOW),  # it was in 2099 once
        (0.0, IN_2099, NOW, 0.0),
        (0.0, NOW, NOW - CREDIBLE - YEAR, 0.0),
        (NOW, 0.0, IN_2099, NOW),  # an admin's clock moves none
    ],
)
def test_what_a_clock_is_set_to(now: float, noted: float, made: float, expected: float) -> None:
    assert raised(now, noted, made) == expected
