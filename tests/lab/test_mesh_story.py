"""What the mesh is for, step by step, with real agents: machines reach each other, always."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.links import until

if TYPE_CHECKING:
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

CONTACT = 3.0
"""Seconds from first need to the first answer; a test waits up to five times as long."""


def test_two_homes_behind_masquerade_are_joined_directly(town: Town) -> None:
    vps, desk, laptop = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    for each in (desk, laptop):
        town.home().plug(each)
    chart = meet([vps, desk, laptop], addresses)
    until(lambda: desk.serial() == laptop.serial() == chart.serial)
    until(lambda: desk.alive("vps") and laptop.alive("vps"), 60)
    talk = Talk(desk, laptop)
    begun = time.monotonic()
    while not talk.answered:
        talk.go(0.1)
        assert time.monotonic() < begun + 5 * CONTACT
    path = lives(desk, laptop)
    assert path["kind"] == "internet"
    talk.close()
