"""Keys of links are replaced while machines talk; who was away for that is not forgotten."""

from __future__ import annotations

import itertools
import json
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.agents import Talk, Transfer, lives, meet
from tests.lab.internet import SYMMETRIC
from tests.lab.links import until
from tests.lab.test_mesh_streams import WALL

from clan.mesh import slots
from clan.mesh.chart.canonical import encode
from clan.mesh.chart.links import Served
from clan.mesh.link import Kind
from clan.mesh.tls.told import Told

if TYPE_CHECKING:
    from tests.lab.agents import Box
    from tests.lab.internet import Town

    from clan.mesh.slots import Own

pytestmark = pytest.mark.lab

PATIENCE = slots.OVERLAP * 5


@pytest.fixture
def pair(town: Town) -> tuple[Box, Box]:
    """A server and a machine behind a router, which has no way but that to it."""
    vps, desk = town.boxes("vps", "desk")
    addresses = {"vps": town.internet.plug(vps)}
    town.home().plug(desk)
    meet([vps, desk], addresses)
    until(lambda: desk.alive("vps"), 60)
    return vps, desk


def outlive(box: Box, id_: str) -> Own:
    """Have the key of one of a machine's interfaces be a month old; return the interface."""
    box.stop()
    file = box.folder / "var/lib/clan/mesh/home/slots"
    known = slots.load(file)
    (own,) = (each for each in known if each.id == id_)
    old = replace(own, drawn=own.drawn - slots.KEY_LIFE)
    slots.keep(file, [old if each == own else each for each in known])
    box.start()
    return own


def interfaces(box: Box, kind: Kind = Kind.INTERNET) -> dict[str, dict[str, Any]]:
    """Return a machine's interfaces of a kind, by id."""
    try:
        found = box.ask()["interfaces"]
    except OSError:
        return {}
    return {each["id"]: each for each in found if each["kind"] == kind}


def internet(box: Box) -> str:
    """Return the id of a machine's one interface for the internet."""
    (found,) = interfaces(box)
    return found


def test_a_key_is_replaced_while_they_talk(pair: tuple[Box, Box]) -> None:
    vps, desk = pair
    session = Transfer(desk, vps, 22, every=0.1, size=64)
    talk = Talk(desk, vps)
    talk.go(5)
    talk.begin()
    old = outlive(vps, internet(vps)).id
    end = time.monotonic() + PATIENCE
    while not (there := interfaces(vps)) or old in there:
        talk.go(1)
        assert time.monotonic() < end, there
    talk.go(5)
    (new,) = interfaces(vps)
    for one, other in (pair, pair[::-1]):
        link = one.path(other.name)
        assert link is not None
        assert new in link["id"]
        assert old not in str(one.ask()["peers"])
    # The other end lets in one of the two keys at a time: what is on its way just then is lost.
    assert talk.gap() < 1
    assert len(talk.lost()) < 25
    talk.close()
    session.moves()
    session.end()


def test_who_was_away_finds_it_by_what_it_had(pair: tuple[Box, Box]) -> None:
    vps, desk = pair
    desk.crash()
    old = outlive(vps, internet(vps)).id
    until(lambda: len(interfaces(vps)) > 1, 60)
    time.sleep(slots.OVERLAP + 20)
    assert interfaces(vps)[old]["leaving"]
    vps.stop()
    vps.start()
    until(lambda: old in interfaces(vps), 60)
    desk.start()
    until(lambda: desk.links("vps"), 60)
    talk = Talk(desk, vps)
    end = time.monotonic() + PATIENCE
    while not talk.answered:
        talk.go(1)
        assert time.monotonic() < end
    until(lambda: interfaces(vps) and old not in interfaces(vps), PATIENCE)
    begun = time.monotonic()
    talk.begin()
    while not talk.answered:
        talk.go(1)
        assert time.monotonic() < begun + 20
    talk.close()


class Detours:
    """A NAS, and three others who have each but one kind of way to it.

    The desk is relayed by a server, as hole punching fails; the laptop, which gets nothing out but
    TCP 443, goes by a stream to that; the phone, which has a cable to the desk alone, over it.
    """

    def __init__(self, town: Town) -> None:
        self.nas, vps, desk, laptop, phone = self.all = town.boxes(
            "nas", "vps", "desk", "laptop", "phone"
        )
        town.internet.plug(laptop)
        with town.internet.space.inside():
            subprocess.run(["nft", "-f", "-"], input=WALL.format(port="to1").encode(), check=True)
        addresses = {"vps": town.internet.plug(vps)}
        for each in (self.nas, desk):
            town.home(SYMMETRIC).plug(each)
        cable = town.switch()
        for each in (desk, phone):
            cable.plug(each, "lan0")
        for each in self.all:
            each.tell(Told(served=Served(port=443)) if each is vps else Told())
        # Or the laptop could as well go over the server.
        setting = vps.folder / "etc/clan/mesh/home.json"
        setting.write_bytes(encode(json.loads(setting.read_bytes()) | {"transit": 0}))
        meet(self.all, addresses)
        self.by = {Kind.RELAY: desk, Kind.TLS: laptop, Kind.HOPS: phone}
        self.talks = {kind: Talk(self.nas, each) for kind, each in self.by.items()}

    def go(self, seconds: float) -> None:
        """Let all talk at the same time."""
        with ThreadPoolExecutor(len(self.talks)) as pool:
            list(pool.map(lambda talk: talk.go(seconds), self.talks.values()))

    def are_right(self) -> bool:
        """Whether all talk by their kinds of ways, as both ends say, after a second of it."""
        self.go(1)
        return all(
            path is not None and path["kind"] == kind
            for kind, each in self.by.items()
            for path in (each.path("nas"), self.nas.path(each.name))
        )

    def own(self, kind: Kind) -> str:
        """Return by which interface one talks that has such a way, by id."""
        link = lives(self.by[kind], self.nas)["id"]
        return str(link).partition("/")[2].partition("-")[0]

    def greet(self) -> None:
        """Have all be met by all once: they hear what is new, and are not called one a minute."""
        for one, other in itertools.combinations(self.by.values(), 2):
            with one.udp(0) as greeting:
                greeting.sendto(b"", (str(other.address), 9))


def test_keys_are_replaced_on_ways_by_relays_and_streams_and_over_members(town: Town) -> None:
    ways = Detours(town)
    until(ways.are_right, 90)
    sessions = [
        Transfer(each, ways.nas, port, every=0.1, size=64)
        for port, each in enumerate(ways.by.values(), 2200)
    ]
    for talk in ways.talks.values():
        talk.begin()
    old = {kind: outlive(each, ways.own(kind)) for kind, each in ways.by.items()}
    end = time.monotonic() + PATIENCE
    while not all(
        (there := interfaces(each, kind)) and old[kind].id not in there
        for kind, each in ways.by.items()
    ):
        ways.greet()
        ways.go(1)
        assert time.monotonic() < end, {k: interfaces(each, k) for k, each in ways.by.items()}
    until(ways.are_right, 60)
    for (kind, each), session in zip(ways.by.items(), sessions, strict=True):
        assert f" {old[kind].interface}: " not in each.space.run("ip -o link show")
        assert interfaces(each, kind)[ways.own(kind)]["network"] == old[kind].slot.network
        assert old[kind].id not in str(ways.nas.ask()["peers"][each.name])
        talk = ways.talks[kind]
        assert len(talk.lost()) < 50, kind
        session.moves()
        session.end()
        talk.close()
