"""Two agents on one LAN: they find each other, talk, lose what they talk by, and go on."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Box, Talk, boxes, lives
from tests.lab.links import until
from tests.lab.paths import handshakes

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

BOUND = 0.5
"""Seconds of silence that a silent cut may cost; a test waits up to five times as long."""
MOMENT = 0.13
"""The same for an uplink whose carrier goes."""


@pytest.fixture
def pair(lab_ready: None, tmp_path: Path) -> Iterator[tuple[Box, Box]]:
    """Two machines of one map that have found each other, and talk."""
    del lab_ready
    with boxes(["desk", "laptop"], tmp_path, ["eth0", "wlan0"]) as (one, other):
        one.start()
        other.start()
        until(lambda: one.links(other.name) == 2)
        until(lambda: other.links(one.name) == 2)
        wake = Talk(one, other)
        wake.go(3)
        wake.close()
        assert lives(one, other)["kind"] == "lan"
        assert lives(one, other)["uplink"] == lives(other, one)["uplink"]
        yield one, other


def test_a_silent_cut_of_the_path_is_gone_round(pair: tuple[Box, Box]) -> None:
    one, other = pair
    path = lives(one, other)
    talk = Talk(one, other)
    talk.go(2)
    assert talk.gap() < 5 * BOUND
    for each in pair:
        each.cut(path["uplink"])
    talk.go(6)
    assert talk.gap() < 5 * BOUND
    assert lives(one, other)["uplink"] != path["uplink"]
    for each in pair:
        each.mend()
    talk.go(6)
    talk.close()
    until(lambda: one.alive(other.name) == 2)


def test_a_cable_that_is_pulled_costs_a_moment(pair: tuple[Box, Box]) -> None:
    one, other = pair
    path = lives(one, other)
    talk = Talk(one, other)
    talk.go(2)
    one.space.run(f"ip link set {path['uplink']} down")
    talk.go(3)
    assert talk.gap() < 5 * MOMENT
    one.space.run(f"ip link set {path['uplink']} up")
    until(lambda: one.alive(other.name) == 2)
    talk.close()


def test_without_its_agent_a_machine_is_reached_and_the_next_one_goes_on(
    pair: tuple[Box, Box],
) -> None:
    one, other = pair
    path = lives(one, other)
    talk = Talk(one, other)
    talk.go(1)
    one.stop()
    talk.go(1)
    sessions = handshakes(one)
    one.start()
    talk.go(4)
    assert talk.gap() < 5 * BOUND
    talk.close()
    assert lives(one, other)["id"] == path["id"]
    assert handshakes(one) & sessions, "all sessions began anew"


def test_what_is_taken_away_comes_back(pair: tuple[Box, Box]) -> None:
    """As when systemd-networkd restarts, or somebody flushes the firewall."""
    one, other = pair

    def look() -> list[list[str]]:
        return [sorted(one.space.run(each).splitlines()) for each in LOOKS]

    before = look()
    one.space.run("ip -6 route flush table main proto 193")
    one.space.run(f"ip addr del {one.address}/128 dev lo")
    one.space.run("nft flush ruleset")
    one.space.run("ip rule flush priority 4900")
    one.space.run("ip -6 rule flush priority 4900")
    until(lambda: look() == before)
    talk = Talk(one, other)
    talk.go(1)
    assert talk.answered
    talk.close()


def test_nothing_is_left_of_an_uplink_that_went(pair: tuple[Box, Box]) -> None:
    """Also of one that went while no agent ran."""
    one, _ = pair

    def tables() -> set[str]:
        return set(re.findall(r" table (\d+) ", one.space.run("ip route show table all proto 193")))

    until(lambda: len(tables()) == 2)
    one.stop()
    one.space.run("ip link del wlan0")
    one.start()
    until(lambda: len(tables()) == 1, 60)
    before = tables()
    one.space.run("ip link add usb0 type veth peer name usb1")
    for name in ("usb0", "usb1"):
        one.space.run(f"ip link set {name} up")
    one.space.run("ip addr add 192.0.9.1/24 dev usb0")
    until(lambda: tables() > before)
    one.space.run("ip link del usb0")
    until(lambda: tables() == before, 60)


LOOKS = (
    "ip -6 route show proto 193",
    "ip -6 addr show dev lo",
    "ip rule",
    "ip -6 rule",
    "nft list tables",
)
