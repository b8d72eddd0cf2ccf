from __future__ import annotations

import tomllib
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.errors import InventoryError
from clan.lab import schema
from clan.lab.config import (
    Families,
    Forward,
    LabConfig,
    LetsOut,
    Machine,
    Mdns,
    Nat,
    Router,
    Site,
    host_name,
)

if TYPE_CHECKING:
    from pathlib import Path

FAMILY = """
[sites.home]
router = { nat = "masquerade", lets_out = "all", delay = "10ms", loss = "1%", rate = "50mbit", \
forward = ["tcp 2222 nas 22"] }
lan = "192.168.7.0/24"
[sites.hosting]
router = { nat = "none" }
ip = "4"
[machines.nas]
site = "home"
mdns = "resolved"
clan = true
[machines.vps]
site = "hosting"
address = "203.0.113.10"
[admin]
site = "home"
[names]
"vpn.example.com" = "vps"
"old.example.com" = "198.51.100.99"
"""


def faults_of(text: str, machines: tuple[str, ...] | None = None) -> list[str]:
    with pytest.raises(InventoryError) as caught:
        schema.parse(tomllib.loads(text), machines)
    return [str(fault) for fault in caught.value.faults]


def test_a_file_says_sites_routers_machines_and_names() -> None:
    config = schema.parse(tomllib.loads(FAMILY), ["nas", "vps", "laptop"])
    assert config == LabConfig(
        sites={
            "home": Site(
                router=Router(
                    delay=0.01,
                    loss=0.01,
                    rate=50_000_000,
                    forward=(Forward(protocol="tcp", port=2222, machine="nas", to_port=22),),
                ),
                lan=IPv4Network("192.168.7.0/24"),
            ),
            "hosting": Site(router=Router(nat=Nat.NONE), ip=Families.V4),
        },
        machines={
            "nas": Machine(site="home", mdns=Mdns.RESOLVED, clan=True),
            "vps": Machine(site="hosting", address=IPv4Address("203.0.113.10")),
        },
        admin="home",
        names={"vpn.example.com": "vps", "old.example.com": IPv4Address("198.51.100.99")},
    )


def test_every_fault_is_reported_at_once_with_its_key_and_what_is_near() -> None:
    text = FAMILY.replace('nat = "masquerade"', 'nat = "masqerade"').replace("mdns", "mdsn")
    assert faults_of(text.replace('"10ms"', '"10"')) == [
        (
            "sites.home.router.nat: 'masqerade' is none of none, full-cone, masquerade, symmetric, "
            "cgnat (did you mean 'masquerade'?)"
        ),
        "sites.home.router.delay: not a number with a unit (ms, s), such as '10ms'",
        "machines.nas.mdsn: unknown key (did you mean 'mdns'?)",
    ]


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        (
            "tcp 2222 nas 22",
            "tcp 2222 nsa 22",
            "sites.home.router.forward[0]: unknown machine 'nsa' (did you mean 'nas'?)",
        ),
        (
            "tcp 2222 nas 22",
            "tcp 2222 vps 22",
            "sites.home.router.forward[0]: 'vps' is at 'hosting'",
        ),
        (
            "tcp 2222 nas 22",
            "2222:nas:22",
            (
                "sites.home.router.forward[0]: not 'PROTOCOL PORT MACHINE PORT', "
                "such as 'tcp 2222 nas 22'"
            ),
        ),
        (
            "tcp 2222 nas 22",
            "tcp 99999 nas 22",
            "sites.home.router.forward[0]: '99999' is not a port (1 to 65535)",
        ),
        (
            'site = "hosting"',
            'site = "hostng"',
            "machines.vps.site: unknown site 'hostng' (did you mean 'hosting'?)",
        ),
        (
            '[admin]\nsite = "home"',
            '[admin]\nsite = "hme"',
            "admin.site: unknown site 'hme' (did you mean 'home'?)",
        ),
        (
            '"vpn.example.com" = "vps"',
            '"vpn.example.com" = "vsp"',
            "names.\"vpn.example.com\": unknown machine 'vsp' (did you mean 'vps'?)",
        ),
        (
            "192.168.7.0/24",
            "192.168.7.0/30",
            "sites.home.lan: a LAN is a /16 at most and a /27 at least",
        ),
        (
            "192.168.7.0/24",
            "198.51.100.0/26",
            "sites.home.lan: 198.51.100.0/26 overlaps another public range of the lab",
        ),
        (
            "203.0.113.10",
            "10.0.0.1",
            (
                "sites.hosting: no public range is left for it "
                "(give it, or another site without NAT, a `lan` of its own)"
            ),
        ),
        ('"1%"', '"101%"', "sites.home.router.loss: more than 100%"),
        ("[machines.vps]", "[machines.admin]", "machines.admin: not a machine's name"),
        ('ip = "4"', 'ip = "5"', "sites.hosting.ip: '5' is none of 4, 6, both"),
    ],
)
def test_a_fault_says_what_is_wrong_and_where(old: str, new: str, fault: str) -> None:
    assert old in FAMILY
    assert any(found.startswith(fault) for found in faults_of(FAMILY.replace(old, new)))


def test_only_machines_of_the_clan_run_in_its_lab() -> None:
    assert faults_of(FAMILY, ("nas", "vsp")) == [
        "machines.vps: unknown machine of the clan 'vps' (did you mean 'vsp'?)"
    ]


def test_a_missing_or_broken_file_is_a_fault_of_that_file(tmp_path: Path) -> None:
    path = tmp_path / "lab.toml"
    with pytest.raises(InventoryError, match="there is no such file"):
        schema.load(path)
    path.write_text("sites = [")
    with pytest.raises(InventoryError, match=r"lab\.toml: "):
        schema.load(path)


def test_host_names_hold_no_underscore() -> None:
    assert host_name("Anna_laptop") == "anna-laptop"
    clash = FAMILY + '[machines.a_b]\nsite = "home"\n[machines.a-b]\nsite = "home"\n'
    assert faults_of(clash) == ["machines.a-b: has the host name of 'a_b'"]


routers = st.builds(
    Router,
    nat=st.sampled_from(Nat),
    lets_out=st.sampled_from(LetsOut),
    delay=st.integers(0, 10_000).map(lambda ms: ms / 1000),
    loss=st.integers(0, 100).map(lambda percent: percent / 100),
    rate=st.none() | st.integers(8, 10**6).map(lambda kbit: kbit * 1000),
)


@given(routers, st.sampled_from(Families), st.sampled_from(Mdns), st.booleans(), st.booleans())
def test_what_is_written_down_is_read_back(
    router: Router, families: Families, mdns: Mdns, clan: bool, tor: bool
) -> None:
    config = LabConfig(
        sites={"home": Site(router=router, ip=families)},
        machines={"nas": Machine(site="home", mdns=mdns, clan=clan)},
        admin="home",
        tor=tor,
    )
    read = schema.parse(schema.dump(config))
    assert (read.machines, read.tor) == (config.machines, tor)
    found = read.sites["home"].router
    assert (found.nat, found.lets_out, found.rate) == (router.nat, router.lets_out, router.rate)
    assert (found.delay, found.loss) == pytest.approx((router.delay, router.loss))
