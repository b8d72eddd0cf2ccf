"""The mesh beside others' doings: frozen for long, moved meanwhile, and Yggdrasil alongside."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from ipaddress import IPv6Network, ip_address
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.links import until
from tests.lab.test_mesh_story import talks

from clan.lab import image

if TYPE_CHECKING:
    from collections.abc import Iterator

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
    assert talks(laptop, desk)
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


@contextlib.contextmanager
def yggdrasil(box: Box) -> Iterator[str]:
    """Run Yggdrasil as it is by default: it meets others on all interfaces. Yields its address."""
    program = image.cache() / "beside" / "yggdrasil"
    if not program.exists():
        pytest.skip("yggdrasil is not built (scripts/bench builds it)")
    made = subprocess.run([program, "-genconf", "-json"], capture_output=True, check=True)
    said = json.loads(made.stdout) | {"AdminListen": "none", "IfName": "ygg0"}
    file = box.folder / "yggdrasil.conf"
    file.write_text(json.dumps(said))
    with (box.folder / "yggdrasil.log").open("ab") as log, box.space.inside():
        process = subprocess.Popen([program, "-useconffile", file], stdout=log, stderr=log)
    try:
        shown = until(lambda: "ygg0" in box.space.run("ip -br link") and ygg_address(box))
        yield shown
    finally:
        process.kill()
        process.wait()


def ygg_address(box: Box) -> str:
    shown = json.loads(box.space.run("ip -6 -j addr show dev ygg0"))
    found = [e["local"] for e in shown[0]["addr_info"] if ip_address(e["local"]) in YGGDRASIL]
    return str(found[0]) if found else ""


def pings(box: Box, address: str) -> bool:
    words = ["ip", "netns", "exec", box.space.name, "ping", "-6", "-c1", "-W2", address]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def test_yggdrasil_beside_it_is_no_uplink_and_both_go_on(town: Town) -> None:
    """Neither goes by way of the other, though each looks for ways on all interfaces."""
    vps, desk = boxes = town.boxes("vps", "desk")
    lan = town.switch()
    addresses = {"vps": town.internet.plug(vps)}
    town.home().plug(desk)
    for each in boxes:
        lan.plug(each, "lan0")
    with yggdrasil(vps) as there, yggdrasil(desk):
        meet(boxes, addresses)
        until(lambda: desk.links("vps") >= 2, 60)
        assert talks(desk, vps)
        assert until(lambda: pings(desk, there), 60)
        for each in boxes:
            assert {e["uplink"] for e in each.ask()["peers"].popitem()[1]["links"]} <= REAL
            log = (each.folder / "yggdrasil.log").read_text()
            assert "Connected" in log
            assert "clan-" not in log
            ends = [e["endpoint"] for e in each.ask()["peers"].popitem()[1]["links"]]
            hosts = [ip_address(e.rpartition(":")[0].strip("[]")) for e in ends if e]
            assert hosts
            assert not any(host in YGGDRASIL for host in hosts)
        # Its agent is started anew while the other's interface is there, and the LAN is gone.
        desk.stop()
        desk.start()
        for each in boxes:
            each.cut("lan0")
        assert talks(desk, vps)
        assert talks(vps, desk)
    assert talks(desk, vps)
