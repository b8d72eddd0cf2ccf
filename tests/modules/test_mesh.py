"""The mesh in the clan's file: its faults, and what members must have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh import signers

from clan.mesh import identity
from clan.mesh.agent import setting
from clan.mesh.chart.links import Served
from clan.mesh.link import Endpoint
from clan.mesh.tls.told import Told
from clan.mesh.tls.wants import Proxy
from clan.model.generator import Elsewhere, MachineKey
from clan.model.plan import (
    Due,
    File,
    HealthCheck,
    HostName,
    Key,
    KnownHost,
    Package,
    Resource,
    Unit,
)
from clan.modules.mesh.settings import checked_node, checked_range, parsed

if TYPE_CHECKING:
    from pathlib import Path

    from tests.desk import Desk

    from clan.model.clan import Clan
    from clan.model.exports import Var

CLAN = """\
[machines]
nas = { tags = ["server"], deploy.targetHost = "root@nas.example.com:22" }
old_laptop = {}
phone = {}
[instances.home]
module.name = "mesh"
[instances.home.roles.member]
tags.all = {}
machines.nas.settings.addresses = ["192.0.2.7:51820", "nas.example.com"]
"""
PREFIX = identity.prefix(signers.ROOT.public)


class Known:
    """The clan's public vars: the root, and everyone's identity but of those who are due."""

    def __init__(self, *due: str, root: bool = True) -> None:
        self.due, self.root = due, root

    def public(self, var: Var) -> str | None:
        if var.generator == "mesh-root-home":
            return identity.text(signers.ROOT.public) if self.root else None
        machine = str(var.machine)
        if machine in self.due:
            return None
        key = signers.key(machine).public
        return {
            ("mesh-home", "publickey"): identity.text(key),
            ("mesh-address-home", "address"): str(identity.address(PREFIX, key)),
            ("openssh", "ssh.id_ed25519.pub"): f"ssh-ed25519 {machine}",
        }.get((var.generator, var.file))


def plan(clan: Clan, machine: str, values: Known) -> list[Resource]:
    instance = clan.instances["home"]
    return list(instance.module.plan(machine, "member", instance, clan, values))


def address(machine: str) -> str:
    return str(identity.address(PREFIX, signers.key(machine).public))


AT_VPN = 'addresses = ["vpn.example.com:9"]'
NAS = "addresses = []\nmachines.nas.settings."
FAULTS = [
    ('addresses = ["nas.example.com", "nas.example.com"]', "machine 'nas' has an address twice"),
    (
        "addresses = []\nmachines.nas.settings.tlsPort = 8443",
        "machine 'nas' has tlsPort but no tls",
    ),
    (
        'addresses = []\nmachines.nas.settings.tlsWeb = "nas.example.com/clan"',
        "machine 'nas' has tlsWeb but no tls",
    ),
    (
        'addresses = []\nmachines.nas.settings.proxyPassword = "/root/proxy"',
        "machine 'nas' has proxyPassword but no proxy",
    ),
    (
        'addresses = []\nmachines.nas.settings.tlsWeb = "192.0.2.1/clan"',
        "'192.0.2.1/clan' is not NAME/PATH",
    ),
    (
        'addresses = []\nmachines.nas.settings.tlsWeb = "nas.example.com"',
        "'nas.example.com' is not NAME/PATH",
    ),
    (
        'addresses = []\nmachines.nas.settings.proxy = "proxy.example.com"',
        "'proxy.example.com' is not HOST:PORT",
    ),
    (NAS + 'proxyPassword = "proxy"', "proxyPassword"),
    ('addresses = ["ben@nas.example.com"]', "'ben@nas.example.com' names a user"),
    ('addresses = ["fe80::1"]', "fe80::1 is no address that another machine can send to"),
    ('addresses = ["127.0.0.1:1"]', "127.0.0.1 is no address that another machine can send to"),
    (
        'addresses = ["10.7.0.9:1"]',
        "machine 'nas' cannot be found at 10.7.0.9:1: it is in the range of aliases, 10.7.0.0/28",
    ),
    (
        f"{AT_VPN}\n[instances.home.roles.member.machines.phone.settings]\n{AT_VPN}",
        "machines 'nas' and 'phone' cannot both be found at vpn.example.com:9",
    ),
    ('adresses = ["nas.example.com"]', "did you mean 'addresses'"),
]
RANGES = [
    ("10.7.0.1/28", "is no range of IPv4 addresses"),
    ("8.8.8.0/24", "is not a /29 or larger within one of"),
    ("10.7.0.0/30", "is not a /29 or larger"),
]


@pytest.mark.parametrize(("written", "message"), FAULTS)
def test_what_cannot_be_is_a_fault_at_its_place(desk: Desk, written: str, message: str) -> None:
    text = CLAN.replace('addresses = ["192.0.2.7:51820", "nas.example.com"]', written)
    text += '[instances.home.settings]\naliases = "10.7.0.0/28"\n'
    (found,) = desk.faults(text)
    assert message in found
    assert found.startswith("clan.toml:")


@pytest.mark.parametrize(("written", "message"), RANGES)
def test_a_range_of_aliases_that_cannot_be(desk: Desk, written: str, message: str) -> None:
    (found,) = desk.faults(f'{CLAN}[instances.home.settings]\naliases = "{written}"\n')
    assert message in found


def test_a_range_has_room_for_all(desk: Desk) -> None:
    machines = "".join(f"m{number} = {{}}\n" for number in range(5))
    text = CLAN.replace("phone = {}\n", f"phone = {{}}\n{machines}")
    (found,) = desk.faults(f'{text}[instances.home.settings]\naliases = "10.7.0.0/29"\n')
    assert "10.7.0.0/29 has 6 addresses, and the mesh 8 machines" in found


def test_a_machine_is_in_one_mesh_and_two_meshes_share_nothing(desk: Desk) -> None:
    more = """
[instances.home.settings]
aliases = "10.7.0.0/24"
[instances.work]
module.name = "mesh"
settings = { domain = "HOME", aliases = "10.7.0.0/20" }
[instances.work.roles.member.machines.nas]
"""
    found = "\n".join(desk.faults(CLAN + more))
    assert "domain 'HOME' is taken by instance 'home'" in found
    assert "aliases 10.7.0.0/20 are in part those of instance 'home', 10.7.0.0/24" in found
    assert "machine 'nas' is in the mesh 'home' already" in found


def test_a_member_s_identity_is_its_own_and_its_address_follows(desk: Desk) -> None:
    clan = desk.open(CLAN)
    instance = clan.instances["home"]
    root, *rest = instance.module.generators(instance, clan)
    assert root.make == Elsewhere(command="clan mesh root --network home")
    assert [(each.machine, each.name) for each in rest] == [
        (machine, name)
        for machine in ("nas", "old_laptop", "phone")
        for name in ("mesh-home", "mesh-address-home")
    ]
    assert all(each.make is MachineKey.MESH and each.for_life for each in rest[::2])
    networking = clan.exports["home"].networking
    assert networking is not None
    assert networking.peers["nas"].to_json()["host"] == {
        "var": {"machine": "nas", "generator": "mesh-address-home", "file": "address"}
    }


def test_what_a_member_has(desk: Desk) -> None:
    found = plan(desk.open(CLAN), "nas", Known("phone"))
    (key,) = [each for each in found if isinstance(each, Key)]
    assert (key.kind, key.public) == ("mesh", identity.text(signers.key("nas").public))
    (file,) = [each for each in found if isinstance(each, File)]
    assert file.path == "/etc/clan/mesh/home.json"
    assert file.content == setting.told(signers.ROOT.public, key.path)
    leave, unit, doors = [each for each in found if isinstance(each, Unit)]
    assert [each.name for each in (leave, unit, doors)] == [
        "clan-mesh-home-leave.service",
        "clan-mesh-home.service",
        "clan-mesh-home-doors.service",
    ]
    assert " machine.pyz mesh doors home\n" in doors.text.replace("/current/", " ")
    # On the way out the agent ends first.
    assert f"After=clan-boot.service {leave.name}\n" in unit.text
    assert f"mesh leave home {PREFIX} {identity.alias_range(PREFIX)} " in leave.text
    assert " machine.pyz mesh run home\n" in unit.text.replace("/current/", " ")
    # What sets the clock may fail, as it may not do so in a container.
    assert "\nExecStartPre=-/usr/bin/python3 " in unit.text
    assert " machine.pyz mesh clock home\n" in unit.text.replace("/current/", " ")
    assert unit.restart_on == (file.path,)
    assert [each.name for each in found if isinstance(each, HealthCheck)]
    assert [each for each in found if isinstance(each, HostName)] == [
        HostName(name="nas.home", addresses=(address("nas"),)),
        HostName(name="old-laptop.home", addresses=(address("old_laptop"),)),
        HostName(name="old_laptop.home", addresses=(address("old_laptop"),)),
    ]
    assert [each for each in found if isinstance(each, KnownHost)] == [
        KnownHost(names=("nas.home", address("nas")), key="ssh-ed25519 nas"),
        KnownHost(
            names=("old-laptop.home", "old_laptop.home", address("old_laptop")),
            key="ssh-ed25519 old_laptop",
        ),
    ]
    (due,) = [each for each in found if isinstance(each, Due)]
    assert due.var.machine == "phone"
    assert plan(desk.open(CLAN), "nas", Known("phone")) == found


STREAMS = [
    ("tls = true", Told(served=Served(port=443))),
    ("tls = true\ntlsPort = 8443", Told(served=Served(port=8443))),
    (
        'tls = true\ntlsWeb = "nas.example.com/clan"',
        Told(served=Served(port=443, name="nas.example.com", path="/clan"), local=8443),
    ),
    (
        'tls = true\nproxy = "[2001:db8::1]:3128"\nproxyPassword = "/root/proxy"',
        Told(
            served=Served(port=443),
            proxy=Proxy(place=Endpoint(host="2001:db8::1", port=3128), credentials="/root/proxy"),
        ),
    ),
]


@pytest.mark.parametrize(("written", "expected"), STREAMS)
def test_where_one_member_takes_streams_all_have_the_process_for_them(
    desk: Desk, tmp_path: Path, written: str, expected: Told
) -> None:
    settings = written.replace("\n", "\nmachines.nas.settings.")
    clan = desk.open(CLAN.replace('addresses = ["192.0.2.7:51820", "nas.example.com"]', settings))
    for machine, told in (("nas", expected), ("phone", Told())):
        found = plan(clan, machine, Known())
        (unit,) = [
            each for each in found if isinstance(each, Unit) and each.name.endswith("-tls.service")
        ]
        assert unit.name == "clan-mesh-home-tls.service"
        assert " machine.pyz mesh tls home\n" in unit.text.replace("/current/", " ")
        # Neither an update of the agent nor of the setting ends a stream.
        assert unit.restart_on == ()
        (file,) = [each for each in found if isinstance(each, File)]
        assert isinstance(file.content, bytes)
        place = tmp_path / machine / file.path.lstrip("/")
        place.parent.mkdir(parents=True)
        place.write_bytes(file.content)
        assert setting.read("home", tmp_path / machine).tls == told


def test_a_member_that_passes_nothing_on(desk: Desk) -> None:
    written = CLAN.replace(
        "machines.nas.settings.", "machines.nas.settings.transit = false\nmachines.nas.settings."
    )
    found = plan(desk.open(written), "nas", Known("phone"))
    (file,) = [each for each in found if isinstance(each, File)]
    private = next(each.path for each in found if isinstance(each, Key))
    assert file.content == setting.told(signers.ROOT.public, private, transit=False)


def test_a_member_that_may_use_the_dht(desk: Desk) -> None:
    nodes = '["router.example:6881", "[2001:db8::1]:6881"]'
    written = f"{CLAN}[instances.home.settings]\ndht = {nodes}\n"
    found = plan(desk.open(written), "nas", Known("phone"))
    (unit,) = [e for e in found if isinstance(e, Unit) and e.name == "clan-mesh-home-dht.service"]
    assert " mesh dht home router.example:6881 [2001:db8::1]:6881\n" in unit.text
    assert "python3-libtorrent" in [each.name for each in found if isinstance(each, Package)]
    for wrong in ("router.example", "root@router.example:6881", "127.0.0.1:6881"):
        with pytest.raises(ValueError, match=r"HOST:PORT|another machine"):
            checked_node(wrong)


def test_without_a_root_there_is_nothing_but_what_is_due(desk: Desk) -> None:
    (due,) = plan(desk.open(CLAN), "nas", Known(root=False))
    assert isinstance(due, Due)
    assert due.why == "`clan mesh root --network home` makes it"


@given(st.text(alphabet="0123456789abcdef:.[]@/%-_x", max_size=24))
def test_whatever_is_written_is_read_or_refused(written: str) -> None:
    for read in (parsed, checked_range):
        try:
            read(written)
        except ValueError as fault:
            assert str(fault)  # noqa: PT017 (either will do)
