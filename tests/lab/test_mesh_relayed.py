"""Real agents behind symmetric routers: they talk by way of members that offered themselves."""

from __future__ import annotations

import subprocess
import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, content, lives, meet
from tests.lab.internet import SYMMETRIC
from tests.lab.links import until
from tests.mesh.signers import signed

if TYPE_CHECKING:
    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

ONLY_443 = """\
table inet hotel {
    chain hotel {
        type filter hook forward priority -10;
        udp dport 443 accept
        udp sport 443 accept
        meta l4proto udp drop
    }
}
"""
A_PART = """\
table inet cloud {
    chain cloud {
        type filter hook forward priority -10;
        udp dport 23601-23663 drop
    }
}
"""
BOUND = 1.0
"""Seconds until another relay carries a pair; a test waits up to five times as long."""
REMOVED = 5.0
"""Seconds until a removed machine is cut off; the same."""


def test_a_pair_is_relayed_and_a_relay_may_die_and_a_member_be_removed(town: Town) -> None:
    vps, shop, desk, laptop = boxes = town.boxes("vps", "shop", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps), "shop": town.internet.plug(shop)}
    for each in (desk, laptop):
        town.home(SYMMETRIC).plug(each)
    chart = meet(boxes, addresses)
    until(lambda: kinds(desk, laptop).count("relay") == 2, 60)
    until(lambda: kinds(laptop, desk).count("relay") == 2, 60)
    talk = Talk(desk, laptop)
    begun = time.monotonic()
    while not talk.answered and time.monotonic() < begun + 30:
        talk.go(0.2)
    until(lambda: going(talk) and kinds(desk, laptop, alive=True).count("relay") == 2, 30)
    assert lives(desk, laptop)["kind"] == "relay"

    # The one by which the path goes dies, without a word.
    place = lives(desk, laptop)["endpoint"]
    dead = next(each for each in (vps, shop) if addresses[each.name] in place)
    talk.close()
    talk = Talk(desk, laptop)
    talk.go(1)
    dead.cut("eth0")
    talk.go(8)
    assert talk.gap() < 5 * BOUND
    assert lives(desk, laptop)["endpoint"] != place

    other = next(each for each in (vps, shop) if each is not dead)
    rest = [each for each in boxes if each is not laptop]
    other.take(signed(content(rest, addresses), after=[chart]))
    begun = time.monotonic()
    while going(talk):
        assert time.monotonic() < begun + 5 * REMOVED
    talk.close()


def test_where_of_udp_only_443_gets_out_the_kernel_relays_by_that(town: Town) -> None:
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    home, hotel = town.home(SYMMETRIC), town.home(SYMMETRIC)
    home.plug(desk)
    hotel.plug(laptop)
    meet(boxes, addresses)
    until(lambda: "relay" in kinds(desk, laptop) and "relay" in kinds(laptop, desk), 60)
    with hotel.space.inside():
        subprocess.run(["nft", "-f", "-"], input=ONLY_443.encode(), check=True)
    talk = Talk(laptop, desk)
    until(lambda: going(talk), 60)
    talk.begin()
    talk.go(3)
    assert talk.gap() < 1
    assert not talk.lost()
    path = lives(laptop, desk)
    assert (path["kind"], path["endpoint"]) == ("relay", f"{addresses['vps']}:443")
    talk.close()


def kinds(box: Box, other: Box, *, alive: bool = False) -> list[str]:
    """Return what a machine's links to another one run over; or those that live alone."""
    links = box.ask()["peers"][other.name]["links"]
    return [each["kind"] for each in links if each["alive"] or not alive]


def going(talk: Talk) -> bool:
    """Whether something is answered within a moment."""
    before = len(talk.answered)
    talk.go(0.3)
    return len(talk.answered) > before + 5


def test_a_firewall_that_lets_in_a_part_of_a_relay_s_ports_is_found_out(town: Town) -> None:
    """As soon as it lets in all, others find that out, if they are asked to."""
    vps, desk = boxes = town.boxes("vps", "desk")
    addresses = {"vps": town.internet.plug(vps)}
    town.home().plug(desk)
    with town.internet.space.inside():
        subprocess.run(["nft", "-f", "-"], input=A_PART.encode(), check=True)
    meet(boxes, addresses)
    until(lambda: reached(vps) == {23600: True, 23663: False}, 60)
    assert vps.offers() == ()
    town.internet.space.run("nft delete table inet cloud")
    assert vps.ask("outside")["tries"] == 2
    until(lambda: not any(each["trying"] for each in vps.ask()["relay"]), 60)
    assert reached(vps) == {23600: True, 23663: True}
    until(vps.offers, 60)


def reached(box: Box) -> dict[int, bool]:
    """Return at which ports of a relay others reached a machine, and at which they did not."""
    return {each["port"]: each["reached"] for each in box.ask()["relay"]}
