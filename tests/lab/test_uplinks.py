"""What routers let out, which versions of IP sites have, how slow, lossy and narrow they are."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.lab.conftest import Answer, Ask, Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

LAB = """
[sites]
hosting = { router = { nat = "none" } }
home = {}
guest = { router = { lets_out = "no-udp" } }
hotel = { router = { lets_out = "tcp-443" } }
office = { router = { nat = "none", lets_out = "tcp-443" } }
four = { ip = "4" }
six = { ip = "6" }
far = { router = { delay = "25ms" } }
lossy = { router = { loss = "20%" } }
narrow = { router = { rate = "8mbit" } }
worst = { router = { nat = "cgnat", delay = "10ms", rate = "8mbit", loss = "5%" } }
[machines]
vps = { site = "hosting", address = "203.0.113.10" }
[admin]
site = "home"
[names]
"vpn.example.com" = "vps"
"""
V4 = "203.0.113.10"
V6 = "2001:db8:1::10"


@pytest.fixture(scope="module")
def lab(labs: Labs, answer: Answer) -> Lab:
    up = labs(LAB)
    answer(up, "vps")
    return up


# A site, and whether UDP, TCP 443 and TCP 8080 get out of it.
@pytest.mark.parametrize(
    ("site", "udp", "tcp443", "tcp8080"),
    [
        ("home", True, True, True),
        ("guest", False, True, True),
        ("hotel", False, True, False),
        ("office", False, True, False),
    ],
)
@pytest.mark.parametrize("host", [V4, V6])
def test_a_router_lets_out_what_it_says(
    *, lab: Lab, ask: Ask, site: str, udp: bool, tcp443: bool, tcp8080: bool, host: str
) -> None:
    lab.move("admin", site)
    assert (ask(lab, "echo", host, "3")["share"] > 0) is udp
    assert ask(lab, "connect", host, "443") is tcp443
    assert ask(lab, "connect", host, "8080") is tcp8080


@pytest.mark.parametrize(
    ("site", "v4", "v6"), [("home", True, True), ("four", True, False), ("six", False, True)]
)
def test_a_site_speaks_the_versions_of_ip_it_says(
    lab: Lab, ask: Ask, site: str, v4: bool, v6: bool
) -> None:
    lab.move("admin", site)
    assert ask(lab, "connect", V4, "443") is v4
    assert ask(lab, "connect", V6, "443") is v6
    assert ask(lab, "connect", "vpn.example.com", "443") is True


def test_a_delay_is_added_each_way(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "home")
    near = ask(lab, "echo", V4, "40")["seconds"]
    lab.move("admin", "far")
    for host in (V4, V6):
        assert 0.050 <= ask(lab, "echo", host, "40")["seconds"] - near < 0.065


def test_a_share_of_packets_is_lost_each_way(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "lossy")
    assert 0.5 < ask(lab, "echo", V4, "400")["share"] < 0.78  # 0.8 x 0.8


def test_a_rate_holds_each_way(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "narrow")
    for verb in ("give", "take"):
        assert 0.8 < ask(lab, verb, V4, "1000000") < 3


def test_a_bad_uplink_is_all_of_it_at_once(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "worst")
    found = ask(lab, "echo", V4, "200")
    assert 0.75 < found["share"] < 0.99
    assert 0.020 <= found["seconds"] < 0.040
