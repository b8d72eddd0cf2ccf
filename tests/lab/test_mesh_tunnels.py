"""The mesh beside other networks: it goes by them where nothing else does, and never they by it."""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.links import until
from tests.lab.overlay import PORT, TUNNEL, call, peered, yggdrasil

from clan.mesh.agent import marks

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

NO_UDP = """\
table inet no_udp {
    chain cut {
        type filter hook prerouting priority -400;
        iifname "eth0" meta l4proto udp drop
    }
}
"""
FULL = """\
[Interface]
PrivateKey = {private}
Address = 10.99.0.2/32, fd99::2/128

[Peer]
PublicKey = {public}
AllowedIPs = 0.0.0.0/0, ::/0
Endpoint = 198.18.0.1:51820
"""


def test_a_full_tunnel_of_wg_quick_takes_all_but_the_mesh(town: Town, tmp_path: Path) -> None:
    desk, laptop = boxes = town.boxes("desk", "laptop")
    addresses = {each.name: town.internet.plug(each) for each in boxes}
    meet(boxes, addresses)
    until(lambda: desk.alive("laptop") and laptop.alive("desk"), 60)
    talk = Talk(laptop, desk)
    talk.go(1)
    tunnel = tmp_path / "full.conf"
    tunnel.write_text(FULL.format(private=_key(), public=_public(_key())))
    tunnel.chmod(0o600)
    _wg_quick(laptop, "up", tunnel)
    try:
        (route,) = json.loads(laptop.space.run(f"ip -j route get {addresses['desk']}"))
        assert route["dev"] == "full", "the tunnel takes what is not the mesh's"
        talk.begin()
        talk.go(4)
        assert lives(laptop, desk)["kind"] == "internet"
        assert talk.gap() < 2
        ours, others = _by_mark(laptop)
        assert max(ours) < min(others)
    finally:
        _wg_quick(laptop, "down", tunnel)
    talk.begin()
    talk.go(2)
    assert talk.gap() < 2
    talk.close()
    until(lambda: _by_mark(laptop) == ([], []))  # with one interface, nothing leads elsewhere


def test_yggdrasil_carries_the_mesh_while_nothing_else_does_and_never_the_reverse(
    town: Town,
) -> None:
    desk, laptop = boxes = town.boxes("desk", "laptop")
    addresses = {each.name: town.internet.plug(each) for each in boxes}
    with yggdrasil(desk, []), yggdrasil(laptop, [addresses["desk"]]) as overlay:
        until(lambda: any(addresses["desk"] in each for each in peered(overlay)))
        meet(boxes, addresses)
        talk = Talk(laptop, desk)

        def both_live() -> bool:
            talk.go(0.5)
            return desk.alive("laptop") >= 2 and laptop.alive("desk") >= 2

        until(both_live, 60)
        assert lives(laptop, desk)["kind"] == "internet"
        # A way by the mesh itself, as a name in /etc/hosts would have it.
        with laptop.space.inside():
            socket.create_connection((str(desk.address), PORT), 10).close()
        call(overlay, str(desk.address))
        talk.go(3)
        assert len(peered(overlay)) == 1
        for each in boxes:
            with each.space.inside():
                subprocess.run(["nft", "-f", "-"], input=NO_UDP.encode(), check=True)
        until(lambda: _talks_by(talk, laptop, desk) == "overlay", 60)
        talk.begin()
        talk.go(5)
        assert talk.gap() < 1
        assert lives(laptop, desk)["uplink"] == TUNNEL
        for each in boxes:
            each.space.run("nft delete table inet no_udp")
        until(lambda: _talks_by(talk, laptop, desk) == "internet", 60)
        talk.close()


def _talks_by(talk: Talk, one: Box, other: Box) -> str:
    talk.go(0.5)
    path = one.path(other.name)
    return path["kind"] if path and talk.sent.keys() & talk.answered.keys() else ""


def _wg_quick(box: Box, word: str, conf: Path) -> None:
    inside = f"mount --bind {box.folder}/wireguard /var/run/wireguard && wg-quick {word} {conf}"
    subprocess.run(
        ["ip", "netns", "exec", box.space.name, "sh", "-c", inside],
        env=os.environ | {"PATH": f"{box.folder}/bin:{os.environ['PATH']}"},
        check=True,
        capture_output=True,
    )


def _by_mark(box: Box) -> tuple[list[int], list[int]]:
    """Return the priorities of our rules that look at a mark, and those of others'."""
    ours, others = list[int](), list[int]()
    for each in json.loads(box.space.run("ip -j rule show")):
        if "fwmark" in each:
            is_ours = int(each["fwmark"], 16) & marks.MASK == marks.FIRST
            (ours if is_ours else others).append(each["priority"])
    return ours, others


def _key() -> str:
    return subprocess.run(["wg", "genkey"], check=True, capture_output=True, text=True).stdout


def _public(private: str) -> str:
    words = ["wg", "pubkey"]
    return subprocess.run(
        words, input=private, check=True, capture_output=True, text=True
    ).stdout.strip()
