"""What the mesh is for, step by step, with real agents: machines reach each other, always."""

from __future__ import annotations

import json
import select
import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import PORT, Talk, Transfer, lives, meet
from tests.lab.links import until
from tests.lab.login import login
from tests.lab.paths import goes_on, reach

if TYPE_CHECKING:
    from tests.lab.agents import Box
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
    # By way of the server at first, if that is sooner there.
    while not talk.answered or lives(desk, laptop)["kind"] != "internet":
        talk.go(0.1)
        assert time.monotonic() < begun + 5 * CONTACT
    talk.close()


def test_on_a_lan_without_internet_or_admin_they_talk_also_after_a_reboot(town: Town) -> None:
    admin, desk, nas = boxes = town.boxes("admin", "desk", "nas")
    lan = town.switch()
    for each in boxes:
        lan.plug(each)
    meet(boxes)
    until(lambda: desk.links("nas") and nas.links("desk"), 60)
    talk_on(desk, nas)
    admin.stop()
    desk.reboot()
    nas.reboot()
    until(lambda: desk.links("nas") and nas.links("desk"), 60)
    talk_on(desk, nas)
    assert lives(nas, desk)["kind"] == "lan"


def test_a_laptop_goes_to_a_cafe_and_back_under_an_ssh_session_and_a_transfer(town: Town) -> None:
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    home, cafe = town.home(), town.home()
    home.plug(desk)
    home.plug(laptop, "wlan0")
    meet(boxes, addresses)
    until(lambda: laptop.links("desk") >= 2, 60)
    talk_on(laptop, desk)
    until(lambda: lives(laptop, desk)["kind"] == "lan")
    copy = Transfer(laptop, desk, 873, every=0.02, size=20_000)
    with login(laptop, desk) as session:
        session.answers()
        copy.moves()

        home.move(laptop, "wlan0", cafe)
        until(lambda: lives(laptop, desk)["kind"] == "internet", 60)
        session.answers()
        copy.moves()

        cafe.move(laptop, "wlan0", home)
        session.answers()
        copy.moves()
        until(lambda: lives(laptop, desk)["kind"] == "lan", 60)
        session.answers()
        copy.moves()
    copy.end()


def test_an_agent_is_killed_and_replaced_by_the_next_version_and_no_packet_is_lost(
    town: Town,
) -> None:
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    home = town.home()
    home.plug(desk)
    home.plug(laptop)
    meet(boxes, addresses)
    until(lambda: laptop.links("desk") >= 2, 60)
    for other in (desk, vps):
        talk_on(laptop, other)
    talks_on = [Talk(laptop, desk), Talk(laptop, vps)]
    for each in talks_on:
        each.go(0.5)
    laptop.stop()
    for each in talks_on:
        each.go(1)
    laptop.upgrade()
    for _ in range(6):
        for each in talks_on:
            each.go(0.5)
    for each in talks_on:
        assert each.lost() == set()
        each.close()


def test_a_stolen_name_with_its_own_key_gets_nothing(town: Town) -> None:
    """It even has the map and its secret, and gives itself the address."""
    desk, nas, thief = town.boxes("desk", "nas", "thief")
    lan = town.switch()
    for each in (desk, nas, thief):
        lan.plug(each)
    chart = meet([desk, nas])
    until(lambda: desk.links("nas"), 60)
    talk_on(desk, nas)
    thief.give(chart)
    thief.start()
    until(thief.socket.exists)
    assert thief.ask()["name"] is None
    assert thief.ask()["peers"] == {}
    # Its agent would take the address away again, and its firewall keeps to what is agreed.
    thief.stop()
    thief.space.run("nft flush ruleset")
    thief.space.run(f"ip addr add {nas.address}/128 dev lo")
    thief.space.run(f"ip route add {desk.address} via {link_local(desk)} dev eth0")
    thief.address = nas.address
    with thief.udp(0) as said, desk.udp() as heard:
        for _ in range(100):
            said.sendto(b"it is me", (str(desk.address), PORT))
        assert select.select([heard], [], [], 3)[0] == []
    assert desk.ask()["peers"].keys() == {"nas"}
    talk_on(desk, nas)


def talk_on(one: Box, other: Box) -> None:
    """Wait until two machines talk, and see that they go on."""
    talk = reach(one, other)
    goes_on(talk)
    talk.close()


def link_local(box: Box) -> str:
    shown = json.loads(box.space.run("ip -6 -j addr show dev eth0 scope link"))
    return str(shown[0]["addr_info"][0]["local"])
