"""LANs of homes and cafés that are not as they should be: machines talk all the same."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Transfer, lives, meet
from tests.lab.leases import leases
from tests.lab.links import until
from tests.lab.login import login
from tests.lab.paths import goes_on, know_server, reach, settles

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.agents import Box
    from tests.lab.internet import Home, Town

pytestmark = pytest.mark.lab

AGAIN = 60.0
"""Seconds within which packets pass again."""
HAIRPIN = """
table inet hairpin {{
    chain pre {{
        type nat hook prerouting priority -100;
        iifname "lan" ip daddr {outside} udp dport {port} dnat ip to {inside}
    }}
    chain post {{
        type nat hook postrouting priority 90;
        iifname "lan" oifname "lan" masquerade
    }}
}}
"""


def hairpin(home: Home, box: Box) -> None:
    """Have a router send back what its own machines send to where it shows a machine outside."""
    (port,) = [each["port"] for each in box.ask()["interfaces"] if each["kind"] == "internet"]
    (inside,) = [
        each["local"]
        for each in json.loads(box.space.run("ip -4 -j addr show dev eth0"))[0]["addr_info"]
    ]
    home.rules(HAIRPIN.format(outside=home.address, port=port, inside=inside))


def test_a_bare_switch_gives_nobody_an_address(town: Town) -> None:
    desk, nas = boxes = town.boxes("desk", "nas")
    lan = town.switch()
    for each in boxes:
        lan.plug(each)
        each.space.run("ip -4 addr flush dev eth0")
    meet(boxes)
    until(lambda: desk.links("nas") and nas.links("desk"), 60)
    talk = reach(desk, nas)
    settles(talk, kind="lan", family=6)
    talk.close()


def test_dhcp_gives_another_address_under_open_sessions(town: Town, tmp_path: Path) -> None:
    """On the LAN and at home with somebody outside; the other's home has the same network."""
    vps, desk, laptop, far = boxes = town.boxes("vps", "desk", "laptop", "far")
    addresses = {"vps": town.internet.plug(vps)}
    home = town.home()
    for each in (desk, laptop):
        home.plug(each)
        each.space.run("ip -6 addr flush dev eth0")  # or the LAN does not notice
    town.home().plug(far)
    with leases(home, laptop, "eth0", tmp_path) as dhcp:
        meet(boxes, addresses)
        know_server(desk, laptop, far)
        talks = reach(laptop, desk), reach(far, laptop)
        settles(talks[0], kind="lan", family=4)
        settles(talks[1], kind="internet")
        copy = Transfer(desk, laptop, 873, every=0.05, size=500)
        with login(far, laptop) as session:
            session.answers()
            copy.moves()
            before = dhcp.address()
            dhcp.serve(70)
            dhcp.renew()
            until(lambda: dhcp.address() not in {"", before})
            session.answers(AGAIN)
            copy.moves(AGAIN)
            settles(talks[0], kind="lan", family=4)
            settles(talks[1], kind="internet")
            session.answers(AGAIN)
            copy.moves(AGAIN)
        copy.end()
        for talk in talks:
            talk.close()


def test_guests_who_are_kept_apart_go_by_the_router_or_a_server(town: Town) -> None:
    """First the router sends back what came by the same side, then it does not any more."""
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    home = town.home()
    for each in (desk, laptop):
        home.plug(each)
    home.isolate()
    meet(boxes, addresses)
    know_server(desk, laptop)
    hairpin(home, laptop)
    talk = reach(desk, laptop)
    settles(talk, kind="internet")
    home.space.run("nft delete table inet hairpin")
    home.reboot()
    goes_on(talk, AGAIN)
    settles(talk, kind="relay")
    talk.close()


def test_a_router_that_leads_back_is_not_preferred_to_the_lan(town: Town) -> None:
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    home = town.home()
    for each in (desk, laptop):
        home.plug(each)
    meet(boxes, addresses)
    know_server(desk, laptop)
    hairpin(home, laptop)
    talk = reach(desk, laptop)
    settles(talk, kind="lan")
    talk.go(5)
    assert lives(desk, laptop)["kind"] == "lan"
    talk.close()


def test_a_cable_with_a_dead_upstream_does_not_hide_wifi_that_works(town: Town) -> None:
    """Both when that happens, and for a machine that boots so."""
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    office, phone = town.home(), town.home(network="192.168.43")
    town.home().plug(desk)
    office.plug(laptop)
    phone.plug(laptop, "wlan0")
    meet(boxes, addresses)
    know_server(desk, laptop)
    talk = reach(laptop, desk)
    settles(talk, kind="internet")
    session = Transfer(laptop, desk, 22, every=0.05, size=500)
    session.moves()
    office.die()
    goes_on(talk, AGAIN)
    session.moves(AGAIN)
    assert lives(laptop, desk)["uplink"] == "wlan0"
    session.end()
    talk.close()
    laptop.reboot()
    until(lambda: laptop.serial() > 0, 30)
    talk = reach(laptop, desk, 60)
    settles(talk, kind="internet")
    assert lives(laptop, desk)["uplink"] == "wlan0"
    talk.close()
