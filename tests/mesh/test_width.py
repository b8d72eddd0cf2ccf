"""How large a packet a link takes is found by climbing, and given up only for good reason."""

from __future__ import annotations

import pytest

from clan.mesh import width
from clan.mesh.width import Width


def climb(limit: int, *, start: Width | None = None, seconds: float = 60.0) -> Width:
    """Return what is found on a link that takes `limit` bytes."""
    found, now = start or Width(), 0.0
    while now < seconds:
        now = max(now + 0.05, found.next)
        size = width.size(found, now)
        found = width.asked(found, size, now, path=True)
        if size <= limit:
            found = width.passed(found, size, now + 0.02)
        else:
            found = width.vanished(found, size, now + 0.2, needed=4)
    return found


@pytest.mark.parametrize(
    ("limit", "mtu"), [(1280, 1280), (1339, 1280), (1350, 1340), (1412, 1412), (9000, 1420)]
)
def test_it_climbs_to_what_passes(limit: int, mtu: int) -> None:
    found = climb(limit)
    assert (found.mtu, found.narrow) == (mtu, False)


def test_it_falls_to_the_least_when_the_link_takes_less_and_climbs_below_that() -> None:
    found = climb(1385, start=Width(mtu=1420))
    assert (found.mtu, found.ceiling) == (1380, 1400)


def test_a_size_that_did_not_pass_is_tried_again_after_a_while() -> None:
    found = climb(1350)
    assert width.size(found, found.tried + 1) == 1340
    assert width.size(found, found.tried + width.AGAIN) == 1380


def test_where_not_even_the_least_passes_the_link_is_narrow_until_it_does() -> None:
    found = climb(1000)
    assert (found.mtu, found.narrow) == (1280, True)
    assert not width.passed(found, 1280, 99.0).narrow


def test_a_few_losses_are_luck() -> None:
    found = Width(mtu=1420)
    for _ in range(3):
        found = width.vanished(width.asked(found, 1420, 0.0, path=True), 1420, 0.2, needed=4)
    assert found.mtu == 1420
    assert width.passed(found, 1420, 1.0).misses == 0
