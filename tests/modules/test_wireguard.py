"""The address plan, bit for bit, and what controllers and peers must be."""

from __future__ import annotations

import ipaddress
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from clan.modules.wireguard import addresses
from clan.modules.wireguard.addresses import controller_address, peer_address, subnet

if TYPE_CHECKING:
    from tests.desk import Desk


@pytest.mark.parametrize(
    ("controller", "prefix"),
    [("controller1", "fd51:19c1:3b:f700::/56"), ("controller2", "fd51:19c1:c1:aa00::/56")],
)
def test_the_published_prefixes(controller: str, prefix: str) -> None:
    network = ipaddress.ip_network((subnet("wg-test-one", controller), 56))
    assert str(network) == prefix
    assert ipaddress.ip_address(controller_address("wg-test-one", controller)) == network[1]


def test_a_peer_has_one_suffix_in_every_subnet() -> None:
    suffix = int(sha256(b"peer1").hexdigest()[:16], 16)
    for controller in ("controller1", "controller2"):
        address = ipaddress.ip_address(peer_address("wg-test-one", controller, "peer1"))
        assert address in ipaddress.ip_network((subnet("wg-test-one", controller), 56))
        assert int(address) == subnet("wg-test-one", controller) + suffix


CLAN = """\
[machines]
server1 = {}
server2 = {}
laptop1 = {}
phone = {}
[instances.vpn]
module.name = "wireguard"
[instances.vpn.roles]
controller.machines.server1.settings.endpoint = "vpn1.example.com"
controller.machines.server2.settings.endpoint = "vpn2.example.com"
peer.machines.laptop1.settings.controller = "server2"
peer.machines.phone.settings.controller = "server1"
"""


def test_a_peers_address_at_its_own_controller_comes_first(desk: Desk) -> None:
    networking = desk.open(CLAN).exports["vpn"].networking
    assert networking is not None
    assert networking.priority == 1000
    assert networking.technology == "clan.modules.wireguard.technology:Wireguard"
    assert networking.settings == {"interface": "vpn"}
    at = {name: peer.hosts for name, peer in networking.peers.items()}
    assert at == {
        "server1": (controller_address("vpn", "server1"),),
        "server2": (controller_address("vpn", "server2"),),
        "laptop1": tuple(peer_address("vpn", c, "laptop1") for c in ("server2", "server1")),
        "phone": tuple(peer_address("vpn", c, "phone") for c in ("server1", "server2")),
    }


def test_with_one_controller_a_peer_need_not_say_which(desk: Desk) -> None:
    text = CLAN.replace("controller.machines.server2", "#").replace("peer.machines.laptop1", "#")
    text = text.replace('phone.settings.controller = "server1"', "phone = {}")
    settings = desk.open(text).instances["vpn"].members["controller"]["server1"].settings
    assert settings.model_dump() == {"endpoint": "vpn1.example.com", "port": 51820}
    assert list(desk.peers(text, "vpn")) == ["server1", "phone"]


VPN = "instances.vpn"
FAULTS = [
    (
        ('laptop1.settings.controller = "server2"', "laptop1 = {}"),
        (
            f"clan.toml:11: {VPN}.roles.peer.machines.laptop1: peer 'laptop1' must say which of "
            "the controllers is its own (set `controller` to one of: server1, server2)"
        ),
    ),
    (
        ('controller = "server2"', 'controller = "phone"'),
        (
            f"clan.toml:11: {VPN}.roles.peer.machines.laptop1.settings.controller: "
            "'phone' is no controller of this instance (controllers: server1, server2)"
        ),
    ),
    (
        ("peer.machines.phone", "peer.machines.server2"),
        (
            f"clan.toml:12: {VPN}.roles.peer.machines.server2: "
            "machine 'server2' is both controller and peer (a controller is on the network already)"
        ),
    ),
    (
        ('"vpn2.example.com"', '"vpn2.example.com:51820"'),
        (
            f"clan.toml:10: {VPN}.roles.controller.machines.server2.settings.endpoint: "
            "'vpn2.example.com:51820' is no IPv6 address; the port is a setting of its own"
        ),
    ),
    (
        (
            '"vpn2.example.com"',
            '"vpn2.example.com"\ncontroller.machines.server2.settings.port = 51819',
        ),
        (
            f"clan.toml:11: {VPN}.roles.controller.machines.server2.settings.port: port 51819 on "
            "'server2' is what members tell each other at (take any other)"
        ),
    ),
    (
        ("[instances.vpn.roles]", "settings.mtu = 1279\n[instances.vpn.roles]"),
        f"clan.toml:8: {VPN}.settings.mtu: must be greater than or equal to 1280, not 1279",
    ),
    (
        ("[instances.vpn.roles]", 'settings.domain = "a_b"\n[instances.vpn.roles]'),
        f"clan.toml:8: {VPN}.settings.domain: 'a_b' is no domain",
    ),
]


@pytest.mark.parametrize(("change", "fault"), FAULTS)
def test_what_cannot_be_is_a_fault(change: tuple[str, str], fault: str, desk: Desk) -> None:
    assert change[0] in CLAN
    assert desk.faults(CLAN.replace(*change)) == [fault]


def test_an_interface_has_at_most_15_bytes(desk: Desk) -> None:
    desk.open(CLAN.replace("instances.vpn", "instances.a23456789012345"))
    assert desk.faults(CLAN.replace("instances.vpn", "instances.a234567890123456")) == [
        (
            "clan.toml:6: instances.a234567890123456: 'a234567890123456' names an interface, which "
            "has at most 15 bytes (give the instance a shorter name, and set module.name)"
        ),
    ]


SECOND = """\
[instances.two]
module.name = "wireguard"
settings.domain = "DOMAIN"
[instances.two.roles.controller]
settings.port = PORT
machines.server1.settings.endpoint = "vpn1.example.com"
"""


def test_two_instances_on_one_machine_need_two_ports(desk: Desk) -> None:
    second = SECOND.replace("DOMAIN", "two.example")
    desk.open(CLAN + second.replace("PORT", "51821"))
    (fault,) = desk.faults(CLAN + second.replace("PORT", "51820"))
    assert fault == (
        "clan.toml:17: instances.two.roles.controller.settings.port: port 51820 on 'server1' is "
        "taken by instance 'vpn' (give each instance on a machine its own port)"
    )
    other = second.replace("PORT", "51820").replace("server1", "phone")
    desk.open(CLAN.replace("peer.machines.phone", "#") + other)


def test_two_instances_need_two_domains(desk: Desk) -> None:
    (fault,) = desk.faults(CLAN + SECOND.replace("DOMAIN", "VPN").replace("PORT", "1"))
    assert fault == (
        "clan.toml:15: instances.two.settings.domain: domain 'VPN' is taken by instance 'vpn'"
    )


def test_instances_whose_names_hash_to_one_40_cannot_both_be(desk: Desk) -> None:
    """The two names were found by trying. No machine has to be in both."""
    first = CLAN.replace("instances.vpn", "instances.vpn2219").replace("peer.machines.phone", "#")
    other = SECOND.replace("DOMAIN", "two.example").replace("PORT", "51821")
    other = other.replace("server1", "phone")
    desk.open(first + other)
    assert desk.faults(first + other.replace("instances.two", "instances.vpn5663")) == [
        (
            "clan.toml:13: instances.vpn5663: instances 'vpn2219' and 'vpn5663' would have the "
            "same /40 (rename one: addresses are computed from names)"
        )
    ]


@pytest.mark.parametrize(
    ("bits", "said"),
    [
        (16, "controllers 'server1' and 'server2' would have the same /56"),
        (64, "peers 'laptop1' and 'phone' would have the same /96"),
    ],
)
def test_names_that_hash_to_one_prefix_are_a_fault(
    bits: int, said: str, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Two names of one hash are not to be had: peers differ in the last 32 bits alone here.
    real = addresses.digest_bits

    def colliding(name: str, count: int) -> int:
        last = int(name == "phone")
        return 7 << 32 | last if count == bits else real(name, count)

    monkeypatch.setattr(addresses, "digest_bits", colliding)
    (fault,) = desk.faults(CLAN)
    assert said in fault
    assert fault.endswith("(rename one: addresses are computed from names)")
