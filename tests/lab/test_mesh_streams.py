"""A laptop in a network that lets nothing out but TCP 443: its agent finds the way by streams."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.agents import Box, Talk, lives, meet
from tests.lab.internet import Town
from tests.lab.links import until

from clan.mesh.agent import status
from clan.mesh.chart.links import Served
from clan.mesh.tls.told import Told

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

WALL = """\
table inet wall {{
    chain forward {{
        type filter hook forward priority 0;
        iifname "{port}" tcp dport 443 accept
        oifname "{port}" tcp sport 443 ct state established accept
        iifname "{port}" drop
        oifname "{port}" drop
    }}
}}
"""
BOUND = 20
"""Seconds in which two machines talk that have to find the only way there is."""


class Walled:
    """A laptop behind a firewall, a server that takes streams, and a NAS behind its router."""

    def __init__(self, town: Town) -> None:
        self.town = town
        self.laptop, self.nas, self.vps = self.all = town.boxes("laptop", "nas", "vps")
        town.internet.plug(self.laptop)
        self.wall("to1")
        self.addresses = {"vps": town.internet.plug(self.vps)}
        town.home().plug(self.nas)
        for each in self.all:
            each.tell(Told(served=Served(port=443)) if each is self.vps else Told())
        meet(self.all, self.addresses)

    def wall(self, port: str) -> None:
        with self.town.internet.space.inside():
            subprocess.run(["nft", "-f", "-"], input=WALL.format(port=port).encode(), check=True)

    def lift(self) -> None:
        self.town.internet.space.run("nft delete table inet wall")


@pytest.fixture
def walled(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Walled]:
    del lab_ready
    town = Town(tmp_path_factory.mktemp("walled"))
    try:
        yield Walled(town)
    finally:
        town.remove()


def streams(box: Box) -> list[dict[str, Any]]:
    return list(status.ask(box.folder / "run/clan/mesh-home-tls.sock", {})["streams"])


def asked(box: Box) -> dict[str, Any]:
    """What `clan mesh status` is told."""
    words = [sys.executable, "-m", "clan.mesh", "--root", str(box.folder), "ask", "home"]
    done = subprocess.run(words, input=b'{"ask": "status"}', capture_output=True, check=True)
    return dict(json.loads(done.stdout))


def test_who_gets_nothing_out_but_443_is_connected(walled: Walled) -> None:
    laptop, nas, _ = walled.all
    # It can be called by its stream though it has nothing to say.
    until(lambda: any(each["machine"] == "vps" for each in streams(laptop)), 60)
    until(lambda: laptop.alive("vps"), 60)
    # A datagram every 20 ms: from then on it is seconds until one is answered.
    talk = Talk(laptop, nas)
    talk.go(BOUND)
    assert min(talk.answered.values()) - min(talk.sent.values()) < BOUND

    def goes_by(kind: str) -> bool:
        talk.go(1)
        return bool(lives(laptop, nas)["kind"] == kind)

    # Or by way of the server as a member, until rounds have compared the two.
    until(lambda: goes_by("tls"), 60)
    path = lives(laptop, nas)
    (seen,) = [e for e in asked(laptop)["peers"]["nas"]["links"] if e["id"] == path["id"]]
    assert seen["relay"] == "vps"
    # The agents hang, then they die: traffic goes on, and the next ones go on with it.
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in walled.all:
            assert each.agent is not None
            each.agent.send_signal(number)
        before = len(talk.answered)
        talk.go(3)
        assert len(talk.answered) > before + 100
    for each in walled.all:
        each.upgrade()
    before, (stream,) = len(talk.answered), streams(laptop)
    talk.go(5)
    assert len(talk.answered) > before + 100
    assert streams(laptop)[0]["seconds"] > stream["seconds"] + 5  # it is the same one
    until(lambda: goes_by("tls"), 60)
    # And when the firewall goes, so does the detour.
    walled.lift()
    until(lambda: goes_by("internet"), 90)
    talk.close()
