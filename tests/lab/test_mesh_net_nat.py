"""Routers that translate, twice, for several, otherwise after a while: those behind them talk."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Transfer, lives, meet
from tests.lab.internet import SYMMETRIC, Town
from tests.lab.paths import goes_on, know_server, reach, settles

from clan.mesh import slots
from clan.mesh.link import Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.agents import Box
    from tests.lab.internet import Home

    from clan.mesh.slots import Own

pytestmark = pytest.mark.lab

SLOTS = "var/lib/clan/mesh/home/slots"
RATE = 4_000_000
"""Bits a second of a slow uplink."""
AGAIN = 60.0
"""Seconds within which packets pass again."""
PATIENT = 180.0
"""Seconds within which a link is taken again that was lost several times: it has to last first."""


class Street:
    """A server; a desk behind a provider's translation and a home's; a laptop and a tablet in one
    other home, which like the first has 192.168.1.0/24."""

    def __init__(self, town: Town) -> None:
        self.vps, self.desk, self.laptop, self.tablet = all_ = town.boxes(
            "vps", "desk", "laptop", "tablet"
        )
        self.internet = town.internet
        self.addresses = {"vps": town.internet.plug(self.vps)}
        provider = town.home(network="100.64.7")
        self.near: Home = town.home(provider=provider)
        self.near.plug(self.desk)
        self.home: Home = town.home()
        self.home.plug(self.laptop)
        self.home.plug(self.tablet)
        meet(all_, self.addresses)
        know_server(self.desk, self.laptop, self.tablet)


@pytest.fixture(scope="module")
def street(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Street]:
    del lab_ready
    town = Town(tmp_path_factory.mktemp("street"))
    try:
        yield Street(town)
    finally:
        town.remove()


def test_a_provider_s_translation_and_a_home_s_are_passed(street: Street) -> None:
    talk = reach(street.desk, street.laptop)
    settles(talk, kind="internet")
    talk.close()


def test_two_of_one_home_are_both_reached_and_need_no_router_themselves(street: Street) -> None:
    for each in (street.laptop, street.tablet):
        talk = reach(street.desk, each)
        settles(talk, kind="internet")
        talk.close()
    ports = [each.ask()["interfaces"][0]["port"] for each in (street.laptop, street.tablet)]
    assert ports[0] != ports[1]
    talk = reach(street.laptop, street.tablet)
    settles(talk, kind="lan")
    talk.close()


def test_two_of_one_home_that_drew_one_port_are_both_reached_directly(street: Street) -> None:
    """Their router gives the second of them another port, and the same one wherever it sends."""
    laptop, tablet = street.laptop, street.tablet
    port = outer(laptop).port
    tablet.crash()
    own = outer(tablet)
    others = [each for each in slots.load(tablet.folder / SLOTS) if each.slot != own.slot]
    slots.keep(tablet.folder / SLOTS, [*others, replace(own, port=port)])
    tablet.reboot()
    know_server(tablet)
    talks = [reach(street.desk, each, AGAIN) for each in (laptop, tablet)]
    assert outer(laptop).port == outer(tablet).port == port
    for each in talks:
        settles(each, kind="internet")
        goes_on(each)
        each.close()


def outer(box: Box) -> Own:
    """Return the slot of a machine's way to the internet."""
    known = slots.load(box.folder / SLOTS)
    return next(each for each in known if (each.slot.kind, each.slot.family) == (Kind.INTERNET, 4))


def test_a_router_reboots_under_open_sessions(street: Street) -> None:
    """It forgets all, and then it gives everyone other ports too."""
    desk, laptop, vps = street.desk, street.laptop, street.vps
    talk = reach(desk, laptop)
    settles(talk, kind="internet")
    session = Transfer(laptop, desk, 22, every=0.05, size=500)
    session.moves()
    for ports in ("", "to :20000-20999"):
        street.home.reboot(ports)
        session.moves(AGAIN)
        settles(talk, kind="internet")
    session.end()
    talk.close()
    session = Transfer(laptop, vps, 22, every=0.05, size=500)
    session.moves()
    street.home.reboot("to :20000-20999")
    session.moves(AGAIN)
    session.end()
    street.home.reboot()


def test_symmetric_routers_are_gone_round_for_as_long_as_there_is_one(street: Street) -> None:
    """Over a relay, or after that was lost for a moment a way over members, in one session."""
    desk, laptop = street.desk, street.laptop
    for home in (street.near, street.home):
        home.reboot(SYMMETRIC)
    talk = reach(desk, laptop, AGAIN)
    settles(talk, PATIENT, kind="relay")
    session = Transfer(laptop, desk, 22, every=0.05, size=500)
    session.moves()
    assert lives(desk, laptop)["kind"] == "relay"
    street.home.reboot()
    session.moves(AGAIN)
    talk.go(5)
    for one, other in ((desk, laptop), (laptop, desk)):
        assert lives(one, other)["kind"] in {"relay", "hops"}
    street.near.reboot()
    session.moves(AGAIN)
    settles(talk, PATIENT, kind="internet")
    session.moves()
    session.end()
    talk.close()


def test_an_uplink_with_a_second_of_queue_moves_nobody(street: Street) -> None:
    """The direct path and the relayed one both go through it: no other is any better."""
    desk, laptop = street.desk, street.laptop
    talk = reach(desk, laptop)
    settles(talk, kind="internet")
    talk.go(3)
    paths = [box.path(other.name) for box, other in ((desk, laptop), (laptop, desk))]
    router, begun = street.home.space, time.time()
    router.run(f"tc qdisc add dev wan root tbf rate {RATE}bit burst 10kb latency 1s")
    with flood(laptop, street.addresses["vps"], RATE * 1.03):
        talk.go(8)
        talk.begin()
        talk.go(8)
        assert len(talk.answered) > len(talk.sent) / 2
        waits = [talk.answered[n] - talk.sent[n] for n in talk.answered]
        assert max(waits) > 0.5, "there is no queue"
    router.run("tc qdisc del dev wan root")
    talk.go(3)
    for box, other, path in ((desk, laptop, paths[0]), (laptop, desk, paths[1])):
        now = box.path(other.name)
        assert now is not None
        assert path is not None
        assert now["id"] == path["id"]
        said = box.ask("log", peer=other.name)["decisions"]
        assert not [e for e in said if e["at"] > begun and e["what"].startswith("path")]
    talk.close()


def test_a_way_of_1280_bytes_of_which_nobody_says_so_is_called_narrow(street: Street) -> None:
    """With what WireGuard adds, not even IPv6's shortest longest packet passes; small ones do."""
    desk, laptop = street.desk, street.laptop
    for each in (desk, laptop):
        each.space.run("ethtool -K eth0 gso off tx-udp-segmentation off gro off")
    talk = reach(desk, laptop)
    settles(talk, kind="internet")
    street.internet.narrow(street.home, 1280)
    settles(talk, narrow=True, mtu=1280)
    talk.begin()
    talk.go(2)
    assert not talk.lost()
    street.internet.narrow(street.home, 1500)
    settles(talk, narrow=False)
    talk.close()


@contextlib.contextmanager
def flood(box: Box, to: str, bits: float) -> Iterator[None]:
    """Send so many bits a second from a machine to an address, beside the mesh."""
    stop = threading.Event()
    with box.space.inside():
        out = socket.socket(type=socket.SOCK_DGRAM)

    def send() -> None:
        begun, sent = time.monotonic(), 0
        while not stop.wait(0.02):
            due = (time.monotonic() - begun) * bits / 8
            while sent < due:
                out.sendto(bytes(1200), (to, 9))
                sent += 1228

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
        out.close()
