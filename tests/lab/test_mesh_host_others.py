"""Hosts that are away for a while: frozen for long, and thawed in another network."""

from __future__ import annotations

import os
import signal
import time
from ipaddress import IPv6Network
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.links import until
from tests.lab.test_mesh_story import talk_on

if TYPE_CHECKING:
    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

YGGDRASIL = IPv6Network("200::/7")
REAL = {"eth0", "lan0", "hops"}


def processes(box: Box) -> list[int]:
    """Return the agent and what carries its interfaces."""
    assert box.agent is not None
    return [box.agent.pid, *(int(e.read_text()) for e in box.daemons.glob("*.service"))]


def test_who_was_frozen_and_is_thawed_elsewhere_goes_on(town: Town) -> None:
    """Nothing of it ran while sessions ended and its home became a café."""
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    home, cafe = town.home(), town.home()
    home.plug(desk)
    home.plug(laptop, "wlan0")
    meet(boxes, addresses)
    until(lambda: laptop.links("desk") >= 2, 60)
    talk_on(laptop, desk)
    until(lambda: lives(laptop, desk)["kind"] == "lan")
    frozen = processes(laptop)
    for each in frozen:
        os.kill(each, signal.SIGSTOP)
    home.move(laptop, "wlan0", cafe)
    time.sleep(8)  # so long that it counts as having been away
    for each in frozen:
        os.kill(each, signal.SIGCONT)
    talk = Talk(laptop, desk)
    begun = time.monotonic()
    while not talk.answered:
        talk.go(0.1)
        assert time.monotonic() < begun + 15
    talk.close()
    until(lambda: lives(laptop, desk)["kind"] == "internet", 60)


def test_without_any_admin_machine_any_two_connect_at_their_next_boot(town: Town) -> None:
    """Far from each other, with a server that is nobody's computer."""
    vps, admin, desk, laptop = boxes = town.boxes("vps", "admin", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    for each in (admin, desk, laptop):
        town.home().plug(each)
    chart = meet(boxes, addresses)
    until(lambda: all(each.serial() == chart.serial for each in boxes), 60)
    admin.stop()
    for each in (desk, laptop, vps):
        each.reboot()
    until(lambda: desk.links("laptop") and vps.links("desk") and laptop.links("desk"), 60)
    talk_on(desk, laptop)
    talk_on(vps, desk)


def test_uplinks_without_ipv6_have_links_over_ipv4(town: Town) -> None:
    boxes = town.boxes("desk", "nas")
    lan = town.switch()
    for each in boxes:
        lan.plug(each)
        each.space.run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")
    desk, nas = boxes
    meet(boxes)
    talk_on(desk, nas)
    path = lives(desk, nas)
    assert (path["kind"], path["family"]) == ("lan", 4)
