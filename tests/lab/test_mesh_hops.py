"""Machines that share no network are joined by those that share one with each."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.agents import Talk, content, meet
from tests.lab.links import until
from tests.mesh.signers import signed

if TYPE_CHECKING:
    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

LIAR = Path(__file__).parent / "programs" / "liar.py"
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
    assert len(talk.answered) > before + 50


def test_four_in_a_row_lose_a_middle_one_and_go_round_or_wait(town: Town) -> None:
    """Beside the row of four there is a second machine in the middle, at first."""
    first, left, right, last, other = boxes = town.boxes("first", "left", "right", "last", "other")
    cable(town, (first, left), (left, right), (right, last), (left, other), (other, last))
    meet(boxes)
    talk = joined(first, last)
    hops = way(first, last)["hops"]
    assert hops in (["left", "right"], ["left", "other"])
    gone = right if hops[1] == "right" else other
    stays = other if gone is right else right
    talk.go(5)

    gone.crash()
    before = len(talk.answered)
    begun = time.monotonic()
    while len(talk.answered) < before + 50 and time.monotonic() < begun + 5 * CONNECTED:
        talk.go(0.2)
    assert len(talk.answered) >= before + 50
    assert way(first, last)["hops"] == ["left", stays.name]

    stays.crash()
    talk.go(3)
    before = len(talk.answered)
    talk.go(2)
    assert len(talk.answered) == before
    stays.reboot()
    begun = time.monotonic()
    while len(talk.answered) < before + 50 and time.monotonic() < begun + 60:
        talk.go(0.5)
    talk.close()
    assert len(talk.answered) >= before + 50
    assert way(first, last)["hops"] == ["left", stays.name]


def test_a_machine_in_the_middle_that_was_removed_is_cut_off(town: Town) -> None:
    left, one, other, right = boxes = town.boxes("left", "one", "other", "right")
    cable(town, (left, one), (one, right), (left, other), (other, right))
    first = meet(boxes)
    talk = joined(left, right)
    gone, stays = (one, other) if way(left, right)["hops"] == ["one"] else (other, one)
    second = signed(content([left, right, stays]), after=[first])
    assert stays.take(second)["outcome"] == "newer"
    until(lambda: left.serial() == right.serial() == second.serial, 60)
    talk.go(3)
    before = len(talk.answered)
    talk.go(2)
    assert len(talk.answered) > before + 50
    assert way(left, right)["hops"] == [stays.name]
    assert gone.serial() == first.serial

    third = signed(content([left, right]), after=[second])
    for each in (left, right):
        each.take(third)
    until(lambda: left.serial() == right.serial() == third.serial, 60)
    talk.go(1)
    before = len(talk.answered)
    talk.go(2)
    talk.close()
    assert len(talk.answered) == before


def test_who_does_not_want_to_pass_on_does_not(town: Town) -> None:
    """Neither is it chosen, nor does it pass on what comes all the same."""
    left, middle, right = boxes = town.boxes("left", "middle", "right")
    cable(town, (left, middle), (middle, right))
    middle.set(transit=0)
    meet(boxes)
    for each in (left, right):
        joined(each, middle, 60).close()
    talk = Talk(left, right)
    talk.go(5 * CONNECTED)
    talk.close()
    assert not talk.answered
    assert "clan_ways" not in middle.space.run("nft list tables")


def test_nothing_is_passed_on_by_an_uplink_on_which_bytes_cost(town: Town) -> None:
    left, middle, dear, right = boxes = town.boxes("left", "middle", "dear", "right")
    cable(town, (left, middle), (middle, right), (left, dear), (dear, right))
    dear.meter("lan3")
    meet(boxes)
    talk = joined(left, right)
    assert way(left, right)["hops"] == ["middle"]
    until(lambda: left.links("dear") and right.links("dear"), 60)
    middle.crash()
    talk.go(5 * CONNECTED)
    before = len(talk.answered)
    talk.go(2)
    talk.close()
    assert len(talk.answered) == before


def test_a_member_that_lies_spoils_no_way_but_its_own(town: Town) -> None:
    """It is the nearest, says that it is next to everyone for nothing, and passes nothing on."""
    left, one, other, liar, right = boxes = town.boxes("left", "one", "other", "liar", "right")
    cable(town, (left, one), (one, other), (other, right), (left, liar), (liar, right))
    liar.program = [str(LIAR)]
    meet(boxes)
    talk = joined(left, right, 60)
    talk.go(3)
    before = len(talk.answered)
    talk.go(2)
    talk.close()
    assert len(talk.answered) > before + 50
    assert way(left, right)["hops"] == ["one", "other"]
