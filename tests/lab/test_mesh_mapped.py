"""A machine has its home's router let others in, and is reached where no hole can be punched."""

from __future__ import annotations

import contextlib
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.beside import beside
from tests.lab.gateways import Gateway, lying, said
from tests.lab.links import until

from clan.mesh.relay.pick import FEW

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.lab.agents import Box
    from tests.lab.internet import Home, Town

pytestmark = pytest.mark.lab

CONTACT = 3.0
DEAF = """
table ip deaf {
    chain input {
        type filter hook input priority -10;
        udp dport 5351 drop
    }
}
"""
"""What keeps a router from hearing what it is asked by IPv4."""


@contextlib.contextmanager
def counting(box: Box) -> Iterator[Callable[[], int]]:
    """Count what comes to the port that the lie is about."""
    with box.space.inside(), socket.socket(type=socket.SOCK_DGRAM) as made:
        made.bind(("", 40000))
        made.setblocking(False)

        def count() -> int:
            found = 0
            with contextlib.suppress(BlockingIOError):
                while made.recv(2000):
                    found += 1
            return found

        yield count


class Story:
    """A server, and two machines behind routers that translate anew for each destination."""

    def __init__(self, town: Town, folder: Path) -> None:
        self.vps, self.desk, self.laptop = self.boxes = town.boxes("vps", "desk", "laptop")
        self.homes: list[Home] = [town.home("random"), town.home("random")]
        self.addresses = {"vps": town.internet.plug(self.vps)}
        for home, each in zip(self.homes, self.boxes[1:], strict=True):
            home.plug(each)
        self.gateway = Gateway(self.homes[0], folder / "router")


@pytest.fixture
def story(town: Town, tmp_path: Path) -> Iterator[Story]:
    made = Story(town, tmp_path)
    try:
        meet(made.boxes, made.addresses)
        yield made
    finally:
        made.gateway.remove()


def mapped(box: Box, family: int = 4) -> str:
    """Return where an agent's one interface for the internet of a version is led to from."""
    (found,) = [
        each
        for each in box.ask()["interfaces"]
        if (each["kind"], each["family"]) == ("internet", family)
    ]
    return str(found["mapped"] or "")


def port_of(place: str) -> int:
    return int(place.rpartition(":")[2])


def verified(box: Box) -> bool:
    """Whether a member reached it there."""
    return any(each["verified"] for each in box.ask()["interfaces"])


def direct(one: Box, other: Box) -> dict[str, Any]:
    """Have one talk to the other, until they do with nobody in between; return the path."""
    talk = Talk(one, other)
    begun = time.monotonic()
    try:
        while not talk.answered or lives(one, other)["kind"] != "internet":
            talk.go(0.1)
            assert time.monotonic() < begun + 5 * CONTACT
    finally:
        talk.close()
    return lives(one, other)


def test_one_whose_router_lets_others_in_is_reached_from_behind_any_other(story: Story) -> None:
    desk, laptop = story.desk, story.laptop
    with beside(desk, "doors"):
        until(lambda: mapped(desk), 90)
        assert mapped(desk).partition(":")[0] == story.homes[0].address
        until(lambda: desk.alive("vps") and laptop.alive("vps"), 60)
        until(lambda: verified(desk), 60)
        path = direct(laptop, desk)
        assert path["endpoint"] == mapped(desk)


def test_one_word_that_a_router_knows_is_enough(town: Town, tmp_path: Path) -> None:
    """At home one knows UPnP and nothing else; at the other, NAT-PMP."""
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    homes = [town.home("random"), town.home("random")]
    for home, each in zip(homes, (desk, laptop), strict=True):
        home.plug(each)
    with contextlib.ExitStack() as stack:
        upnp = Gateway(homes[0], tmp_path / "upnp", natpmp=False)
        stack.callback(upnp.remove)
        natpmp = Gateway(homes[1], tmp_path / "natpmp", pcp=False, upnp=False)
        stack.callback(natpmp.remove)
        meet(boxes, addresses)
        for each in (desk, laptop):
            stack.enter_context(beside(each, "doors"))
        comes_in(desk, homes[0], "UPnP")
        comes_in(laptop, homes[1], "NAT-PMP")
        assert port_of(mapped(desk)) in upnp.open()
        assert port_of(mapped(laptop)) in natpmp.open()


def comes_in(box: Box, home: Home, by: str) -> None:
    """See that a machine's router leads to it as it was asked to in this way, and it is true."""
    until(lambda: mapped(box), 60)
    assert mapped(box).partition(":")[0] == home.address
    assert f"by {by}\n" in (box.folder / "doors").read_text()
    until(lambda: verified(box), 60)


def test_one_whose_router_opens_nothing_but_its_firewall_of_ipv6_relays_by_that(
    town: Town, tmp_path: Path
) -> None:
    vps, desk = boxes = town.boxes("vps", "desk")
    addresses = {"vps": town.internet.plug(vps)}
    home = town.home("random")
    town.internet.six(home)
    vps.space.run("ip -6 addr add 2001:db8:e::2/64 dev eth0")
    vps.space.run("ip -6 route add default via 2001:db8:e::1 dev eth0")
    town.internet.space.run("ip -6 addr add 2001:db8:e::1/64 dev to1")
    home.plug(desk)
    home.rules(DEAF)
    gateway = Gateway(home, tmp_path / "router", upnp=False)
    try:
        meet(boxes, addresses)
        until(lambda: desk.alive("vps"), 60)
        assert desk.offers() == ()
        with beside(desk, "doors"):
            until(lambda: mapped(desk, 6), 60)
            assert mapped(desk) == ""
            until(lambda: verified(desk), 60)
            (offered,) = until(desk.offers, 90)
            assert (offered.host, offered.seats) == (f"{home.six}:2", FEW)
    finally:
        gateway.remove()


def test_one_whose_router_lets_others_in_relays_for_them_and_no_server_has_to(
    town: Town, tmp_path: Path
) -> None:
    """The server only has to knock, once, to see that others do come in."""
    vps, desk, laptop, phone = boxes = town.boxes("vps", "desk", "laptop", "phone")
    homes = [town.home(how) for how in ("", "random", "random")]
    addresses = {"vps": town.internet.plug(vps)}
    for home, each in zip(homes, boxes[1:], strict=True):
        home.plug(each)
    gateway = Gateway(homes[0], tmp_path / "router")
    try:
        meet(boxes, addresses)
        with beside(desk, "doors"):
            until(lambda: all(each.alive("vps") for each in boxes[1:]), 60)
            (offered,) = until(desk.offers, 120)
            assert (offered.host, offered.seats) == (homes[0].address, FEW)
            # Who has not heard of the desk's place by the time the server goes cannot learn it.
            until(lambda: all("desk" in each.ask()["kept"] for each in (laptop, phone)), 60)
            vps.space.run("ip link set eth0 down")
            talk = Talk(laptop, phone)
            until(lambda: relayed(talk, laptop, phone).startswith(homes[0].address), 60)
            talk.begin()
            talk.go(3)
            assert talk.gap() < 1
            talk.close()
    finally:
        gateway.remove()


def relayed(talk: Talk, one: Box, other: Box) -> str:
    """Return by which relay's port two machines talk."""
    talk.go(0.5)
    path = one.path(other.name)
    talks = path is not None and path["kind"] == "relay" and talk.answered
    return str(path["endpoint"]) if path and talks else ""


def test_a_router_that_restarts_is_asked_anew(story: Story) -> None:
    desk = story.desk
    with beside(desk, "doors"):
        before = until(lambda: mapped(desk), 90)
        story.gateway.forget()
        assert story.gateway.open() == []
        story.gateway.start()
        until(lambda: port_of(before) in story.gateway.open(), 30)
        assert mapped(desk) == before


def test_a_door_outlives_its_process_but_not_its_router(story: Story) -> None:
    desk = story.desk
    with beside(desk, "doors"):
        before = until(lambda: mapped(desk), 90)
    assert port_of(before) in story.gateway.open()
    assert mapped(desk) == before
    with beside(desk, "doors"):
        desk.stop()
        desk.start()
        assert until(lambda: desk.serial() >= 0 and mapped(desk), 60) == before
        assert port_of(before) in story.gateway.open()
        desk.space.run("ip route del default")
        until(lambda: port_of(before) not in story.gateway.open(), 30)
        until(lambda: not mapped(desk))


def test_a_router_that_lies_costs_nothing_but_a_try(town: Town) -> None:
    """It says that it leads there from an address of somebody who has nothing to do with it."""
    boxes = vps, desk, laptop = town.boxes("vps", "desk", "laptop")
    (stranger,) = town.boxes("stranger")
    addresses = {"vps": town.internet.plug(vps)}
    victim = town.internet.plug(stranger)
    homes = [town.home(), town.home()]
    for home, each in zip(homes, (desk, laptop), strict=True):
        home.plug(each)
    with lying(homes[0].space, partial(said, address=victim)), counting(stranger) as sent:
        meet(boxes, addresses)
        with beside(desk, "doors"):
            until(lambda: mapped(desk), 90)
            assert mapped(desk) == f"{victim}:40000"
            until(lambda: desk.alive("vps") and laptop.alive("vps"), 60)
            assert direct(laptop, desk)["endpoint"].partition(":")[0] == homes[0].address
            time.sleep(5)
            assert not verified(desk)
        assert 0 < sent() < 20
