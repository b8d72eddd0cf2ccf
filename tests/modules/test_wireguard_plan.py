"""What members of a WireGuard network must have: as tables, and as what every plan promises."""

from __future__ import annotations

import itertools
import json
from hashlib import sha256
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from clan.model.clan import Clan, Instance, Machine, RoleMember
from clan.model.exports import Var
from clan.model.generator import MachineKey
from clan.model.inventory import Meta
from clan.model.plan import (
    Due,
    Forwarding,
    HealthCheck,
    HostName,
    Key,
    KnownHost,
    Opening,
    Package,
    Protocol,
    Resource,
    StaticProgram,
    Sysctl,
    Unit,
    WireguardCarrier,
    WireguardLink,
    WireguardListener,
    WireguardPeer,
)
from clan.modules.wireguard.module import WireguardModule
from clan.modules.wireguard.settings import ControllerSettings, PeerSettings, WireguardSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.desk import Desk

CLAN = """\
[machines]
server1 = {}
server2 = {}
laptop1 = {}
old_phone = {}
[instances.vpn]
module.name = "wireguard"
[instances.vpn.roles]
controller.machines.server1.settings.endpoint = "vpn1.example.com"
controller.machines.server2.settings = { endpoint = "2001:db8::2", port = 51821 }
peer.machines.laptop1.settings.controller = "server2"
peer.machines.old_phone.settings.controller = "server1"
"""
# sha256("vpn"), sha256("server1") and so on, by the address plan.
ONE, TWO = "fdeb:f20c:7f:4000::", "fdeb:f20c:c6:7e00::"


CARRIERS = (
    WireguardCarrier(name="server1", subnet=f"{ONE}/56", address=f"{ONE}1"),
    WireguardCarrier(name="server2", subnet=f"{TWO}/56", address=f"{TWO}1"),
)
INSIDE = Opening(protocol=Protocol.UDP, port=51819, interface="vpn")


class Known:
    """Public vars: every machine's key but for those that are due, and some host keys."""

    def __init__(self, due: tuple[str, ...] = (), hosts: Mapping[str, str] | None = None) -> None:
        self.due = due
        self.hosts = hosts or {}

    def public(self, var: Var) -> str | None:
        if var.generator == "openssh":
            return self.hosts.get(str(var.machine))
        assert (var.generator, var.file) == ("wireguard-keys-vpn", "publickey")
        return None if var.machine in self.due else key(str(var.machine))


def key(machine: str) -> str:
    return f"key of {machine}"


def plan(clan: Clan, machine: str, values: Known) -> list[Resource]:
    instance = clan.instances["vpn"]
    role = "controller" if machine in instance.members["controller"] else "peer"
    return list(instance.module.plan(machine, role, instance, clan, values))


def link_of(clan: Clan, machine: str, values: Known | None = None) -> WireguardLink:
    (found,) = [r for r in plan(clan, machine, values or Known()) if isinstance(r, WireguardLink)]
    return found


def address(prefix: str, machine: str) -> str:
    suffix = int.from_bytes(sha256(machine.encode()).digest()[:8])
    return str(IPv6Address(int(IPv6Address(prefix)) + suffix))


def wide(prefix: str, machine: str) -> str:
    return str(IPv6Network(f"{address(prefix, machine)}/96", strict=False))


def test_each_member_has_a_key_born_on_it(desk: Desk) -> None:
    clan = desk.open(CLAN)
    instance = clan.instances["vpn"]
    made = list(instance.module.generators(instance, clan))
    assert [each.machine for each in made] == ["server1", "server2", "laptop1", "old_phone"]
    assert {each.name for each in made} == {"wireguard-keys-vpn"}
    for each in made:
        assert each.make is MachineKey.WIREGUARD
        assert each.born_on_machine
        assert [(file.name, file.secret) for file in each.files] == [
            ("privatekey", True),
            ("publickey", False),
        ]


def test_a_peer_is_in_every_controllers_subnet_and_calls_them_all(desk: Desk) -> None:
    assert link_of(desk.open(CLAN), "laptop1") == WireguardLink(
        name="vpn",
        private_key="/etc/clan/keys/wireguard-keys-vpn/privatekey",
        addresses=(f"{address(ONE, 'laptop1')}/128", f"{address(TWO, 'laptop1')}/128"),
        routes=(f"{ONE}/56", f"{TWO}/56"),
        peers=(
            WireguardPeer(
                name="server1",
                public_key=key("server1"),
                allowed_ips=(f"{ONE}/56",),
                endpoint="vpn1.example.com:51820",
                keepalive=25,
            ),
            WireguardPeer(
                name="server2",
                public_key=key("server2"),
                allowed_ips=(f"{TWO}/56",),
                endpoint="[2001:db8::2]:51821",
                keepalive=25,
            ),
        ),
        mtu=1420,
        port=None,
        carriers=CARRIERS,
    )


def test_a_controller_calls_controllers_and_lets_every_peer_in_from_everywhere(desk: Desk) -> None:
    assert link_of(desk.open(CLAN), "server2") == WireguardLink(
        name="vpn",
        private_key="/etc/clan/keys/wireguard-keys-vpn/privatekey",
        addresses=(f"{TWO}1/128",),
        routes=(f"{ONE}/56", f"{TWO}/56"),
        peers=(
            WireguardPeer(
                name="server1",
                public_key=key("server1"),
                allowed_ips=(f"{ONE}/56",),
                endpoint="vpn1.example.com:51820",
                keepalive=25,
            ),
            *(
                WireguardPeer(
                    name=peer,
                    public_key=key(peer),
                    allowed_ips=(wide(ONE, peer), wide(TWO, peer)),
                )
                for peer in ("laptop1", "old_phone")
            ),
        ),
        mtu=1420,
        port=51821,
        carriers=CARRIERS,
        listeners=(
            WireguardListener(name="laptop1", address=address(TWO, "laptop1")),
            WireguardListener(name="old_phone", address=address(TWO, "old_phone")),
        ),
    )


def test_what_else_a_controller_has(desk: Desk) -> None:
    found = plan(desk.open(CLAN), "server2", Known())
    link = next(each for each in found if isinstance(each, WireguardLink))
    assert found == [
        Package(name="wireguard-tools"),
        StaticProgram(name="wireguard-go"),
        Key(
            path=link.private_key,
            kind="wireguard",
            generator="wireguard-keys-vpn",
            public="key of server2",
        ),
        Opening(protocol=Protocol.UDP, port=51821),
        # First this, or a default route learnt from the router goes as forwarding comes.
        Sysctl(key="net.ipv6.conf.*.accept_ra", value="2", instead_of="1"),
        Sysctl(key="net.ipv6.conf.all.forwarding", value="1"),
        Forwarding(interface="vpn"),
        link,
        INSIDE,
        next(each for each in found if isinstance(each, Unit)),
        HostName(name="server1.vpn", addresses=(f"{ONE}1",)),
        HostName(name="server2.vpn", addresses=(f"{TWO}1",)),
        HostName(name="laptop1.vpn", addresses=(address(TWO, "laptop1"), address(ONE, "laptop1"))),
        *(
            HostName(name=name, addresses=(address(ONE, "old_phone"), address(TWO, "old_phone")))
            for name in ("old-phone.vpn", "old_phone.vpn")
        ),
        *(each for each in found if isinstance(each, HealthCheck)),
    ]
    assert [each.name for each in found if isinstance(each, HealthCheck)] == [
        "the interface vpn is up",
        "vpn listens on UDP port 51821",
    ]


def test_a_peer_opens_nothing_to_others_and_forwards_nothing(desk: Desk) -> None:
    found = plan(desk.open(CLAN), "laptop1", Known())
    kinds = {type(each) for each in found}
    always = {Package, StaticProgram, Key, WireguardLink, HostName, HealthCheck}
    assert kinds == {*always, Opening, Unit}
    # What is open is open inside the tunnel alone.
    assert [each for each in found if isinstance(each, Opening)] == [INSIDE]


def test_with_a_single_controller_nobody_stands_in(desk: Desk) -> None:
    text = "".join(
        line for line in CLAN.splitlines(keepends=True) if "machines.server2" not in line
    ).replace('"server2"', '"server1"')
    for machine in ("server1", "laptop1"):
        found = plan(desk.open(text), machine, Known())
        assert not [each for each in found if isinstance(each, Unit) or each == INSIDE]
        (link,) = [each for each in found if isinstance(each, WireguardLink)]
        assert (link.carriers, link.listeners) == ((), ())


def test_a_controller_whose_key_is_due_stands_in_for_nobody(desk: Desk) -> None:
    link = link_of(desk.open(CLAN), "laptop1", Known(due=("server1",)))
    assert link.carriers == CARRIERS[1:]


def test_names_end_in_the_domain_that_is_set(desk: Desk) -> None:
    text = CLAN.replace(
        "[instances.vpn.roles]", 'settings.domain = "example.net"\n[instances.vpn.roles]'
    )
    found = plan(desk.open(text), "laptop1", Known())
    names = [each.name for each in found if isinstance(each, HostName)]
    assert names[:3] == ["server1.example.net", "server2.example.net", "laptop1.example.net"]


def test_a_machine_whose_host_key_is_known_is_known_by_names_and_addresses(desk: Desk) -> None:
    values = Known(hosts={"laptop1": "ssh-ed25519 AAAAC3 root@laptop1"})
    found = plan(desk.open(CLAN), "server1", values)
    assert [each for each in found if isinstance(each, KnownHost)] == [
        KnownHost(
            names=("laptop1.vpn", address(TWO, "laptop1"), address(ONE, "laptop1")),
            key="ssh-ed25519 AAAAC3",
        )
    ]


def test_a_key_that_is_not_there_yet_is_due_and_its_machine_no_peer(desk: Desk) -> None:
    clan = desk.open(CLAN)
    found = plan(clan, "server1", Known(due=("laptop1", "server1")))
    assert [each for each in found if isinstance(each, Due)] == [
        Due(
            var=Var(machine="server1", generator="wireguard-keys-vpn", file="publickey"),
            why="server1 makes its key at its next update",
        ),
        Due(
            var=Var(machine="laptop1", generator="wireguard-keys-vpn", file="publickey"),
            why="laptop1 makes its key at its next update; until then it is no peer here",
        ),
    ]
    link = link_of(clan, "server1", Known(due=("laptop1", "server1")))
    assert [peer.name for peer in link.peers] == ["server2", "old_phone"]
    assert "laptop1.vpn" in {each.name for each in found if isinstance(each, HostName)}


def test_the_link_is_json(desk: Desk) -> None:
    shape = link_of(desk.open(CLAN), "laptop1").to_json()
    assert json.loads(json.dumps(shape))["peers"][1]["endpoint"] == "[2001:db8::2]:51821"


def some_clan(controllers: list[str], peers: list[str]) -> Clan:
    members = {
        "controller": {
            name: RoleMember(
                machine=name, settings=ControllerSettings.model_validate({"endpoint": "a.example"})
            )
            for name in controllers
        },
        "peer": {
            name: RoleMember(machine=name, settings=PeerSettings(controller=controllers[-1]))
            for name in peers
        },
    }
    instance = Instance(
        name="vpn",
        module=WireguardModule(),
        code="clan.modules.wireguard.module",
        settings=WireguardSettings.model_validate({}),
        members=MappingProxyType(members),
    )
    machines = {
        name: Machine(name=name, host_name=name, tags=()) for name in (*controllers, *peers)
    }
    return Clan(
        directory=Path(),
        meta=Meta(name="some", domain="some"),
        machines=machines,
        tags={},
        instances={"vpn": instance},
        exports={},
    )


NAMES = st.lists(
    st.text("abcdefghij0123456789", min_size=1, max_size=8).map("m{}".format),
    min_size=2,
    max_size=9,
    unique=True,
)


def sent(link: WireguardLink, destination: IPv6Address) -> tuple[str, IPv6Address] | None:
    """Return the peer a packet goes to, and the source that the kernel gives it (RFC 6724)."""
    if not any(destination in IPv6Network(route) for route in link.routes):
        return None
    holders = [
        (IPv6Network(each).prefixlen, peer.name)
        for peer in link.peers
        for each in peer.allowed_ips
        if destination in IPv6Network(each)
    ]
    own = [IPv6Address(each.partition("/")[0]) for each in link.addresses]
    source = min(own, key=lambda each: int(each) ^ int(destination))
    return (max(holders)[1], source) if holders else None


def accepts(link: WireguardLink, sender: str, source: IPv6Address) -> bool:
    """Say whether a packet from a peer is let in: whether it would be the one to answer to."""
    back = sent(link, source)
    return back is not None and back[0] == sender


def way(
    links: Mapping[str, WireguardLink], start: str, source: IPv6Address, target: IPv6Address
) -> list[str]:
    """Carry a packet from link to link, and return the machines it came by."""
    hops = [start]
    for _ in range(2):
        onward = sent(links[hops[-1]], target)
        assert onward is not None
        assert accepts(links[onward[0]], hops[-1], source)
        hops.append(onward[0])
        if f"{target}/128" in links[hops[-1]].addresses:
            return hops
        assert links[hops[-1]].port is not None, "peers forward nothing"
    raise AssertionError(hops)


@given(names=NAMES, count=st.integers(1, 3))
def test_every_machine_reaches_every_address_of_every_other(names: list[str], count: int) -> None:
    """Packets are carried by the rules of WireGuard and of the kernel."""
    clan = some_clan(names[:count], names[count:])
    links = {name: link_of(clan, name) for name in names}
    for start, owner in itertools.permutations(names, 2):
        for written in links[owner].addresses:
            target = IPv6Address(written.partition("/")[0])
            first = sent(links[start], target)
            assert first is not None
            hops = way(links, start, first[1], target)
            assert hops[-1] == owner
            # The answer is from what was asked, to what asked, and takes the same way back.
            assert way(links, owner, target, first[1]) == hops[::-1]
            peers = {start, owner} <= set(names[count:])
            assert len(hops) == (3 if peers else 2)


@given(names=NAMES, count=st.integers(1, 3), due=st.sets(st.integers(0, 8)))
def test_two_plans_are_equal_and_say_what_is_due(
    names: list[str], count: int, due: set[int]
) -> None:
    clan = some_clan(names[:count], names[count:])
    values = Known(due=tuple(name for number, name in enumerate(names) if number in due))
    for name in names:
        found = plan(clan, name, values)
        assert repr(found) == repr(plan(clan, name, values))
        late = {str(each.var.machine) for each in found if isinstance(each, Due)}
        assert late == set(values.due)
        ports = {each.port for each in found if isinstance(each, WireguardLink)}
        assert ports == ({51820} if name in names[:count] else {None})
        assert not late & {peer.name for peer in link_of(clan, name, values).peers}
