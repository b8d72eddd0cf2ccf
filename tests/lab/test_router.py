from __future__ import annotations

import tomllib

import pytest

from clan.lab import router, schema, topology
from clan.lab.addresses import plan


def rules_of(settings: str, ip: str = "both") -> str:
    text = f"""
sites.home = {{ router = {{ {settings} }}, ip = "{ip}" }}
machines.nas = {{ site = "home" }}
admin.site = "home"
"""
    config = schema.parse(tomllib.loads(text))
    return router.rules(config.sites["home"], plan(config).sites["home"])


# What a router's settings must put into its ruleset, and must not.
CASES = [
    ('nat = "masquerade"', ['oifname "wan" masquerade\n', "ct state new drop"], ["fully-random"]),
    ('nat = "symmetric"', ['oifname "wan" masquerade fully-random\n'], ["@cone"]),
    (
        'nat = "full-cone"',
        ["ip daddr 198.51.100.10 meta l4proto udp dnat to udp dport map @cone"],
        ["fully-random"],
    ),
    ('nat = "none"', ['iifname "wan" accept'], ["masquerade", "ct state new drop"]),
    ('nat = "cgnat"', ['oifname "wan" masquerade\n'], ["198.51.100.10"]),
    ('lets_out = "no-udp"', ['iifname "lan" meta l4proto != udp accept'], ['"lan" accept\n  }']),
    ('lets_out = "tcp-443"', ['iifname "lan" tcp dport 443 accept'], ["udp"]),
    (
        'forward = ["tcp 2222 nas 22"]',
        [
            "ip daddr 198.51.100.10 tcp dport 2222 dnat to 192.168.1.10:22",
            "ip6 daddr 2001:db8:1::1 tcp dport 2222 dnat to [2001:db8:1::10]:22",
            'iifname "lan" oifname "lan" ct status dnat masquerade',
        ],
        [],
    ),
]


@pytest.mark.parametrize(("settings", "there", "absent"), CASES)
def test_a_routers_settings_are_its_rules(
    settings: str, there: list[str], absent: list[str]
) -> None:
    text = rules_of(settings)
    assert [part for part in there if part not in text] == []
    assert [part for part in absent if part in text] == []


def test_a_site_without_ipv4_is_not_translated() -> None:
    assert "nat" not in rules_of('nat = "masquerade"', ip="6").split()


def test_a_lossy_slow_uplink_is_so_at_both_ends() -> None:
    text = """
sites.home = { router = { loss = "2%", rate = "8mbit", delay = "20ms" } }
machines.nas = { site = "home" }
admin.site = "home"
"""
    built = topology.build("x", schema.parse(tomllib.loads(text)), "/repository")
    spaces = {space.name: space for space in built.namespaces}
    for name, device in (("clan-lab-x.site.home", "wan"), ("clan-lab-x", "up0")):
        assert f'iifname "{device}" numgen random mod 10000 < 200' in spaces[name].nft
        assert spaces[name].tc == (
            f"qdisc add dev {device} root tbf rate 8000000bit burst 10000 latency 100ms",
        )
        assert f"tuntap add dev {device} mode tap" in spaces[name].ip
    delay = next(daemon for daemon in built.daemons if daemon.name == "delay-home")
    assert delay.argv[2:] == (
        "clan.lab.delay",
        "0.02",
        "clan-lab-x.site.home/wan",
        "clan-lab-x/up0",
    )


def test_a_providers_router_stands_between_a_home_and_the_internet() -> None:
    text = """
sites.home = { router = { nat = "cgnat" } }
machines.nas = { site = "home" }
admin.site = "home"
"""
    built = topology.build("x", schema.parse(tomllib.loads(text)), "/repository")
    assert built.links[2:] == (
        "link add wan netns clan-lab-x.site.home type veth peer name lan netns clan-lab-x.isp.home",
        "link add wan netns clan-lab-x.isp.home type veth peer name up0 netns clan-lab-x",
    )


def test_the_lab_answers_for_its_names_and_for_no_others() -> None:
    text = """
sites.home = { router = { forward = ["tcp 22 nas 22"] } }
machines.nas = { site = "home" }
admin.site = "home"
names."vpn.example.com" = "nas"
names."old.example.com" = "192.0.2.7"
"""
    built = topology.build("x", schema.parse(tomllib.loads(text)), "/repository")
    names = next(daemon for daemon in built.daemons if daemon.name == "names").config.splitlines()
    assert "host-record=vpn.example.com,198.51.100.10,2001:db8:1::1" in names
    assert "host-record=old.example.com,192.0.2.7" in names
    assert "host-record=deb.lab,198.51.100.1,2001:db8::1" in names
    assert "no-resolv" in names
