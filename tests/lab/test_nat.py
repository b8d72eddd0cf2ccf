"""Each kind of NAT as a socket behind it sees it."""

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
open = { router = { nat = "none" } }
cone = { router = { nat = "full-cone" } }
plain = { router = { nat = "masquerade", forward = ["tcp 2222 nas 22"] } }
symmetric = { router = { nat = "symmetric" } }
mobile = { router = { nat = "cgnat" } }
[machines]
vps = { site = "hosting", address = "203.0.113.10" }
second = { site = "hosting", address = "203.0.113.11" }
nas = { site = "plain" }
[admin]
site = "plain"
[names]
"nas.example.com" = "nas"
"""

TARGETS = ("203.0.113.10:7000", "203.0.113.10:7001", "203.0.113.11:7000")


@pytest.fixture(scope="module")
def lab(labs: Labs, answer: Answer) -> Lab:
    up = labs(LAB)
    answer(up, "vps")
    answer(up, "second")
    return up


# Kind of site, the address it is seen with, whether every destination sees the same port, and
# whether a stranger who learnt it gets in.
KINDS = [
    ("open", "203.0.113.34", True, True),
    ("cone", "198.51.100.12", True, True),
    ("plain", "198.51.100.13", True, False),
    ("symmetric", "198.51.100.14", False, False),
    ("mobile", "198.51.100.15", True, False),
]


@pytest.mark.parametrize(("site", "address", "same", "stranger"), KINDS)
def test_a_kind_of_nat_maps_and_filters_as_it_should(
    *, lab: Lab, ask: Ask, site: str, address: str, same: bool, stranger: bool
) -> None:
    lab.move("admin", site)
    found = ask(lab, "mapping", *TARGETS)
    assert {host.removeprefix("::ffff:") for host, _ in found["seen"]} == {address}
    assert (len({port for _, port in found["seen"]}) == 1) is same
    assert found["stranger"] is stranger


def test_behind_a_provider_there_are_two_translations(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "mobile")
    ask(lab, "mapping", *TARGETS)
    home = namespace(lab, "site.mobile", "ip", "-brief", "-4", "address", "show", "wan")
    provider = namespace(lab, "isp.mobile", "ip", "-brief", "-4", "address", "show", "wan")
    assert "100.64.0.2/30" in home
    assert "198.51.100.15/32" in provider


def test_a_forwarded_port_leads_to_its_machine_from_outside_and_from_inside(lab: Lab) -> None:
    for site in ("symmetric", "plain"):
        lab.move("admin", site)
        for family in ("-4", "-6"):
            argv = ["ssh-keyscan", family, "-p", "2222", "-t", "ed25519", "nas.example.com"]
            assert lab.host_key("nas") in lab.run(argv).stdout


def test_what_is_not_forwarded_stays_shut(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "open")
    assert ask(lab, "connect", "198.51.100.13", "22") is False
    assert ask(lab, "connect", "2001:db8:4::12", "22") is False
    assert ask(lab, "connect", "203.0.113.10", "22") is True


def namespace(lab: Lab, suffix: str, *argv: str) -> str:
    from clan.lab.network import inside
    from clan.lab.processes import Runner

    return Runner().step(inside(f"clan-lab-{lab.state.name}.{suffix}", argv))
