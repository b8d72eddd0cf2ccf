"""Addresses that people write down: target hosts, several hosts, jumps."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.desk import Desk


def test_a_target_host_alone_makes_the_network(desk: Desk) -> None:
    text = """
[machines.nas.deploy]
targetHost = "me@[2001:db8::1]:2222"
[machines.vps]
deploy.targetHost = "vps.example.com"
[machines.tv]
"""
    networking = desk.open(text).exports["internet"].networking
    assert networking is not None
    assert networking.to_json() == {
        "priority": 2000,
        "technology": "clan.modules.internet.technology:Internet",
        "peers": {
            "nas": {
                "name": "nas",
                "SSHOptions": [],
                "host": {"plain": "2001:db8::1"},
                "port": 2222,
                "user": "me",
            },
            "vps": {"name": "vps", "SSHOptions": [], "host": {"plain": "vps.example.com"}},
        },
    }


def test_a_clan_without_target_hosts_has_no_such_network(desk: Desk) -> None:
    assert "internet" not in desk.open("[machines.nas]\n").exports


def test_target_hosts_join_the_instance_of_that_name_and_come_first(desk: Desk) -> None:
    text = """
[machines.nas]
deploy.targetHost = "nas.example.com"
[machines.vps]
deploy.targetHost = "me@vps.example.com"
[machines.tv]

[instances.internet]
settings.priority = 7
[instances.internet.roles.default]
settings.port = 2200
machines.nas.settings.host = ["192.0.2.7", "nas.example.com", "nas.example.net"]
machines.tv.settings.host = "tv.example.com"
"""
    networking = desk.open(text).exports["internet"].networking
    assert networking is not None
    assert networking.priority == 7
    found = {name: (p.hosts, p.port, p.user) for name, p in networking.peers.items()}
    assert found == {
        "nas": (("nas.example.com", "192.0.2.7", "nas.example.net"), 2200, None),
        "vps": (("vps.example.com",), 2200, "me"),
        "tv": (("tv.example.com",), 2200, None),
    }


def test_another_instance_is_a_network_of_its_own(desk: Desk) -> None:
    text = """
[machines.nas]
deploy.targetHost = "me@nas.example.com:22"
[instances.office]
module.name = "internet"
roles.default.machines.nas.settings = { host = "10.0.0.7", user = "root", port = 2 }
"""
    assert desk.peers(text, "office")["nas"]["user"] == "root"
    assert desk.peers(text, "internet")["nas"]["host"] == {"plain": "nas.example.com"}
    assert desk.faults(text.replace('host = "10.0.0.7", ', "")) == [
        (
            "clan.toml:6: instances.office.roles.default.machines.nas: "
            "machine 'nas' has no address on network 'office' "
            "(set `host` here: deploy.targetHost is for network 'internet')"
        ),
    ]


def test_jump_hosts_are_arguments_for_ssh_too(desk: Desk) -> None:
    text = """
machines.nas = {}
machines.hop = { deploy.targetHost = "hop.example.com" }
[instances.internet.roles.default.machines.nas.settings]
host = "192.168.1.7"
jumpHosts = ["hop", "me@[2001:db8::2]:2222"]
"""
    peer = desk.peers(text, "internet")["nas"]
    assert peer["jumpHosts"] == ["hop", "me@[2001:db8::2]:2222"]
    assert peer["SSHOptions"] == ["-J", "hop,me@[2001:db8::2]:2222"]


def test_the_same_address_with_another_port_is_another_machine(desk: Desk) -> None:
    text = """
machines.a.deploy.targetHost = "home.example.com:2201"
machines.b.deploy.targetHost = "home.example.com:2202"
"""
    assert [peer["port"] for peer in desk.peers(text, "internet").values()] == [2201, 2202]


def test_the_same_address_behind_another_jump_host_is_another_machine(desk: Desk) -> None:
    text = """
[machines]
a = {}
b = {}
[instances.internet.roles.default]
settings.host = "192.168.1.7"
machines.a.settings.jump_hosts = "hop1.example.com"
machines.b.settings.jump_hosts = "hop2.example.com"
"""
    assert list(desk.peers(text, "internet")) == ["a", "b"]
    (fault,) = desk.faults(text.replace("hop2", "hop1"))
    assert "'b' and 'a' have the same address on network 'internet': 192.168.1.7 port 22" in fault
    assert fault.startswith("clan.toml:6: instances.internet.roles.default.settings.host: ")


FAULTS = [
    (
        "machines.nas.settings = {}",
        (
            "clan.toml:5: instances.internet.roles.default.machines.nas: "
            "machine 'nas' has no address on network 'internet' "
            "(set `host` here, or deploy.targetHost on the machine)"
        ),
    ),
    (
        "machines.vps.settings.port = 2",
        (
            "clan.toml:5: instances.internet.roles.default.machines.vps.settings.port: "
            "port of 'vps' is 2 here and 22 in deploy.targetHost, and a machine has one "
            "on a network (remove one, or make a second instance)"
        ),
    ),
    (
        'settings.user = "me"',
        (
            "clan.toml:5: instances.internet.roles.default.settings.user: "
            "user of 'vps' is me here and root in deploy.targetHost, and a machine has one "
            "on a network (remove one, or make a second instance)"
        ),
    ),
    (
        'machines.vps.settings.jumpHosts = ["hop.example.com", "vps"]',
        (
            "clan.toml:5: instances.internet.roles.default.machines.vps.settings.jumpHosts: "
            "jump hosts lead in a circle: vps -> vps"
        ),
    ),
    (
        'machines.nas.settings.host = "-oProxyCommand=touch /tmp/x"',
        (
            "clan.toml:5: instances.internet.roles.default.machines.nas.settings.host: "
            "'-oProxyCommand=touch /tmp/x' is no host name or address"
        ),
    ),
    (
        'machines.vps.settings.jumpHosts = ["-oProxyCommand=x"]',
        (
            "clan.toml:5: instances.internet.roles.default.machines.vps.settings.jumpHosts[0]: "
            "'-oProxyCommand=x' is no host name or address"
        ),
    ),
    (
        'machines.vps.settings.user = "-l"',
        (
            "clan.toml:5: instances.internet.roles.default.machines.vps.settings.user: "
            "'-l' is no user name"
        ),
    ),
]


@pytest.mark.parametrize(("line", "fault"), FAULTS)
def test_what_cannot_be_is_a_fault(line: str, fault: str, desk: Desk) -> None:
    text = f"""\
[machines]
nas = {{}}
vps = {{ deploy.targetHost = "root@vps.example.com:22" }}
[instances.internet.roles.default]
{line}
"""
    assert desk.faults(text) == [fault]


def test_each_circle_of_jump_hosts_is_told_once(desk: Desk) -> None:
    text = """\
[machines]
a = {}
b = {}
c = {}
d = {}
[instances.internet.roles.default.machines]
a.settings = { host = "a.example.com", jump_hosts = ["b"] }
b.settings = { host = "b.example.com", jump_hosts = ["c"] }
c.settings = { host = "c.example.com", jump_hosts = ["me@b"] }
d.settings = { host = "d.example.com", jump_hosts = ["a", "b", "c"] }
"""
    assert [fault.split(": ", 2)[2] for fault in desk.faults(text)] == [
        "jump hosts lead in a circle: b -> c -> b"
    ]
