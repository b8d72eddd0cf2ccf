"""Machines that share no network are joined by those that share one with each."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.agents import Talk, meet
from tests.lab.links import until

if TYPE_CHECKING:
    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

CONNECTED = 3.0
"""Seconds within which two that share only a third are to be joined; a test waits longer."""


def cable(town: Town, *pairs: tuple[Box, Box]) -> None:
    """Lay a LAN of its own between each two machines."""
    for number, pair in enumerate(pairs):
        lan = town.switch(f"10.{number + 1}.0")
        for each in pair:
            lan.plug(each, f"lan{number}")


def joined(one: Box, other: Box, seconds: float = 5 * CONNECTED) -> Talk:
    """Talk until there is an answer."""
    talk = Talk(one, other)
    end = time.monotonic() + seconds
    while not talk.answered and time.monotonic() < end:
        talk.go(0.1)
    assert talk.answered, "nothing was answered"
    return talk


def way(one: Box, other: Box) -> dict[str, Any]:
    """Wait until the path to a machine is over others, and return it."""

    def seen() -> dict[str, Any]:
        path = one.path(other.name)
        return path if path is not None and path["kind"] == "hops" else {}

    return until(seen, 30)


def test_two_that_share_only_a_third_are_joined(town: Town) -> None:
    left, middle, right = boxes = town.boxes("left", "middle", "right")
    cable(town, (left, middle), (middle, right))
    meet(boxes)
    until(lambda: left.links("middle") and right.links("middle"), 60)
    talk = joined(left, right)
    assert way(left, right)["hops"] == ["middle"]
    assert way(right, left)["hops"] == ["middle"]
    before = len(talk.answered)
    talk.go(2)
    talk.close()
    assert len(talk.answered) > before + 80
