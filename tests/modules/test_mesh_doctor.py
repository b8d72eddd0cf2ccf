"""What the doctor says of a member of a mesh, by what it saw there."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest
from tests.modules.test_mesh import CLAN, Known, address
from tests.modules.test_mesh_seen import link, pair, said

from clan.modules.mesh.doctor import Case, cases, diagnose, question, well

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.desk import Desk

NOW = 1_800_000_000.0


def case_of(desk: Desk, values: Known | None = None) -> Case:
    (case,) = cases("nas", desk.open(CLAN), values or Known())
    return case


def healthy() -> dict[str, Any]:
    """Return what is seen of a member that is as it should be."""
    return {
        "told": True,
        "active": "active",
        "answer": said(phone=pair("fast", link()), old_laptop=pair("cold", path=None)),
        "fault": "",
        "journal": [],
        "ipv6_off": [],
        "wireguard": {"kernel": False, "program": True, "tun": True},
        "loopback": ["::1", address("nas")],
        "defaults": {"4": True, "6": False},
        "nat64": [],
        "rules": [{"family": "4", "priority": 0, "table": "local"}],
        "guards": [],
        "time": NOW,
    }


def test_nothing_is_said_of_what_is_well(desk: Desk) -> None:
    assert diagnose(case_of(desk), healthy(), clock=1.0) == []
    assert well(healthy()) == "all is well; map 1.7, paths to phone, 1 idle"


def _lost(saw: dict[str, Any]) -> None:
    saw["answer"]["peers"]["phone"] = pair("fast", link(alive=False))


def _kill_switch(saw: dict[str, Any]) -> None:
    saw["guards"].append(
        {"family": "inet", "table": "vpn", "name": "out", "hook": "output", "policy": "drop"}
    )


def _kill_switch_that_cuts(saw: dict[str, Any]) -> None:
    _kill_switch(saw)
    _lost(saw)


def place(host: str, port: int = 23600, *, tried: int = 0, reached: bool = False) -> dict[str, Any]:
    return {"host": host, "port": port, "tried": tried, "reached": reached, "trying": False}


STORIES: list[tuple[Callable[[dict[str, Any]], object], bool, str]] = [
    (lambda saw: saw.update(told=False), True, "does not know yet that it is in the mesh home"),
    (
        lambda saw: saw.update(answer=None, active="failed", journal=["no key"]),
        True,
        "does not run on nas: clan-mesh-home.service is failed; last heard: no key",
    ),
    (
        lambda saw: saw.update(answer=None, fault="timed out"),
        True,
        "the agent of home on nas does not answer: timed out",
    ),
    (lambda saw: saw["answer"].update(map={}), True, "nas has no map of home yet"),
    (lambda saw: saw["answer"].update(name=None), True, "does not have it"),
    (lambda saw: saw["answer"]["map"].update(state="forked"), True, "the map of home is forked"),
    (lambda saw: saw["answer"].update(peers=7), True, "says peers in another form"),
    (lambda saw: saw["answer"].update(uplinks={}), True, "nas has no uplink"),
    (lambda saw: saw.update(loopback=["::1"]), True, f"lacks its address {address('nas')} on lo"),
    (lambda saw: saw.update(ipv6_off=["all", "lo"]), True, "IPv6 is switched off on nas"),
    (lambda saw: saw.update(ipv6_off=None), True, "IPv6 is switched off on nas"),
    (lambda saw: saw.update(ipv6_off=["wlan0"]), False, "switched off on wlan0: only IPv4"),
    (
        lambda saw: saw["wireguard"].update(tun=False),
        True,
        "its kernel has none, and there is no /dev/net/tun",
    ),
    (lambda saw: saw["wireguard"].update(program=False), True, "there is no wireguard-go"),
    (
        lambda saw: saw.update(defaults={"4": False, "6": False}),
        False,
        "nas has no default route: it is reached on its own LANs alone",
    ),
    (
        lambda saw: saw.update(defaults={"4": False, "6": True}, nat64=["64:ff9b::c000:aa"]),
        False,
        "nas has IPv6 alone: a NAT64 leads to IPv4",
    ),
    (_kill_switch, False, "a VPN's kill switch does that"),
    (_kill_switch_that_cuts, True, "lets nothing out but what a rule allows (inet vpn out)"),
    (
        lambda saw: saw["rules"].append({"family": "4", "suppress_prefixlen": 0}),
        False,
        "a VPN on nas takes all that leaves it",
    ),
    (_lost, False, "nas has no way to phone now"),
    (
        lambda saw: saw["answer"].update(relay=[place("203.0.113.9", tried=3)]),
        False,
        "nobody outside reaches nas by UDP at 203.0.113.9 port 23600: it relays for nobody",
    ),
    (
        lambda saw: saw["answer"].update(
            relay=[place("203.0.113.9", reached=True), place("203.0.113.9", 23663, tried=3)]
        ),
        False,
        "nobody outside reaches nas by UDP at 203.0.113.9 port 23663",
    ),
    (
        lambda saw: saw["answer"].update(relay=[place("203.0.113.9", reached=True, tried=3)]),
        False,
        "nobody outside reaches nas",
    ),
]


@pytest.mark.parametrize(("change", "wrong", "message"), STORIES)
def test_what_is_seen_is_said(
    desk: Desk, change: Callable[[dict[str, Any]], object], wrong: bool, message: str
) -> None:
    saw = healthy()
    change(saw)
    found = diagnose(case_of(desk), saw, clock=0.0)
    told = [each for each in found if message in each.message]
    assert told, found
    assert told[0].wrong is wrong


@pytest.mark.parametrize(
    "places",
    [
        [place("192.168.1.2", tried=9)],  # at home, where that is nobody's business
        [place("203.0.113.9", tried=1)],
        [place("203.0.113.9", reached=True), place("2001:db8::1", tried=9)],
    ],
)
def test_nothing_is_said_of_a_relay_that_is_one_or_that_nobody_expects(
    desk: Desk, places: list[dict[str, Any]]
) -> None:
    saw = healthy()
    saw["answer"]["relay"] = places
    assert diagnose(case_of(desk), saw, clock=0.0) == []


def test_clocks_apart_and_what_is_due_are_said(desk: Desk) -> None:
    (ahead,) = diagnose(case_of(desk), healthy(), clock=7200.0)
    assert ahead.message == "the clock of nas is 2 hours ahead of this computer's"
    other = diagnose(case_of(desk, Known("phone")), healthy(), clock=0.0)
    assert [(each.wrong, each.message) for each in other] == [
        (False, "mesh-home of phone is not there yet")
    ]
    (none, *_) = diagnose(case_of(desk, Known(root=False)), healthy(), clock=0.0)
    assert none.message == "mesh-root-home of the mesh is not there yet"
    assert none.hint == "`clan mesh root --network home` makes it"


def test_the_question_is_answered_by_any_python_and_any_machine(desk: Desk) -> None:
    done = subprocess.run(
        [sys.executable, "-I", "-"],
        input=question(case_of(desk)),
        capture_output=True,
        text=True,
        check=False,
    )
    saw = json.loads(done.stdout)
    assert saw.keys() == healthy().keys()
    assert saw["told"] is False
    assert any(
        "does not know yet" in each.message for each in diagnose(case_of(desk), saw, clock=0)
    )
