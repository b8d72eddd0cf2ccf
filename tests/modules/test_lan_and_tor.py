"""mDNS names on the local network, and onion services."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.desk import Desk

MACHINES = """
[machines.my_nas]
tags = ["home"]
[machines.vps]
"""


def test_a_machine_is_found_by_its_host_name_with_local(desk: Desk) -> None:
    text = MACHINES + "[instances.lan.roles.default]\ntags.all = {}\n"
    networking = desk.open(text).exports["lan"].networking
    assert networking is not None
    assert networking.priority == 2500
    assert networking.technology == "clan.modules.lan.technology:Lan"
    found = {name: peer.hosts for name, peer in networking.peers.items()}
    assert found == {"my_nas": ("my-nas.local",), "vps": ("vps.local",)}


def test_hostname_overrides_it(desk: Desk) -> None:
    role = "[instances.lan.roles.default]\nmachines.my_nas.settings.hostname = "
    peers = desk.peers(MACHINES + role + '"storage.lan"\n', "lan")
    assert peers["my_nas"]["host"] == {"plain": "storage.lan"}
    (fault,) = desk.faults(MACHINES + role + '"two words"\n')
    assert fault.endswith("settings.hostname: 'two words' is no host name or address")


def test_two_machines_of_one_local_name_are_a_fault(desk: Desk) -> None:
    text = MACHINES + "[instances.lan.roles.default]\ntags.all.settings.hostname = 'x.local'\n"
    (fault,) = desk.faults(text)
    assert fault.startswith(
        "clan.toml:6: instances.lan.roles.default.tags.all.settings.hostname: "
        "'vps' and 'my_nas' have the same address on network 'lan': x.local port 22"
    )


def test_a_tor_server_is_found_by_a_var_of_the_instance_and_a_client_is_no_peer(
    desk: Desk,
) -> None:
    text = MACHINES + (
        '[instances.onion]\nmodule.name = "tor"\n'
        "roles.server.tags.home = {}\nroles.client.tags.all = {}\n"
    )
    networking = desk.open(text).exports["onion"].networking
    assert networking is not None
    assert networking.to_json() == {
        "priority": 10,
        "technology": "clan.modules.tor.technology:Tor",
        "peers": {
            "my_nas": {
                "name": "my_nas",
                "SSHOptions": [],
                "host": {
                    "var": {"machine": "my_nas", "generator": "tor_onion", "file": "hostname"}
                },
            }
        },
    }


def test_priority_is_a_setting_of_every_network(desk: Desk) -> None:
    text = MACHINES + (
        "[instances.tor]\nsettings.priority = 3\nroles.server.tags.all = {}\n"
        "[instances.lan]\nsettings.priority = 2\nroles.default.tags.all = {}\n"
    )
    networks = desk.open(text).networks()
    assert [(i.name, n.priority) for i, n in networks] == [("tor", 3), ("lan", 2)]
