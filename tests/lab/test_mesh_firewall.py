"""The mesh's table of nftables, and what happens without it."""

from __future__ import annotations

import select
import socket
import subprocess
import time
from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import meet
from tests.lab.links import until
from tests.lab.spaces import Space, join

from clan.mesh.agent import firewall, marks
from clan.mesh.agent.firewall import GROUP, Entry, Guard
from clan.mesh.agent.kernel import TUN, Kernel
from clan.mesh.agent.nflog import FirstPackets
from clan.mesh.agent.rtnetlink import UNREACHABLE, Route
from clan.mesh.relay.ports import PORT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

PREFIX, ALIAS = ip_network("fdcc::/16"), ip_network("100.100.0.0/16")
OWN, FAR = IPv6Address("fdcc::1"), IPv6Address("fdcc::2")
GUARD = Guard(prefix=PREFIX, alias=ALIAS, interfaces=("mesh0", "mesh1"))  # type: ignore[arg-type]
# What firewalld and NixOS do, for IPv4 as for IPv6.
STRICT = """\
table inet strict {
    chain in {
        type filter hook prerouting priority -290;
        fib saddr . mark . iif oif missing counter drop
    }
}
"""


class Two:
    """A member and a stranger on one LAN."""

    def __init__(self) -> None:
        self.member, self.stranger = Space(), Space()
        join(self.member, "eth0", self.stranger, "eth0")
        with self.member.inside():
            self.kernel = Kernel()
        self.add("lo", f"{OWN}/128")

    def add(self, name: str, address: str) -> None:
        self.kernel.add_address(self.index(name), ip_interface(address))

    def index(self, name: str) -> int:
        found = self.kernel.interface(name)
        assert found is not None
        return found.index

    def guard(self, guard: Guard) -> None:
        with self.member.inside():
            firewall.uphold(guard)

    def close(self) -> None:
        self.kernel.close()
        self.member.remove()
        self.stranger.remove()


@pytest.fixture
def two(lab_ready: None) -> Iterator[Two]:
    del lab_ready
    made = Two()
    yield made
    made.close()


def hears(space: Space, family: int, address: str, port: int) -> socket.socket:
    with space.inside():
        made = socket.socket(family, socket.SOCK_DGRAM)
    made.bind((address, port))
    made.settimeout(1)
    return made


def got(heard: socket.socket) -> bool:
    try:
        heard.recv(99)
    except TimeoutError:
        return False
    return True


@pytest.mark.parametrize(
    ("member", "forged"),
    [(str(OWN), str(FAR)), ("100.100.0.1", "100.100.0.2")],
)
@pytest.mark.parametrize("claims", [True, False])
def test_nobody_on_the_lan_takes_a_clan_address(
    two: Two, member: str, forged: str, *, claims: bool
) -> None:
    """Neither sends as a member nor, with an address of its own, to one."""
    is_old = "." in member
    family = socket.AF_INET if is_old else socket.AF_INET6
    own = "192.0.2.2" if is_old else "2001:db8::2"
    for space, addresses in (
        (two.member, ("192.0.2.1/24", "2001:db8::1/64")),
        (two.stranger, ("192.0.2.2/24", "2001:db8::2/64")),
    ):
        for each in addresses:
            space.run(f"ip addr add {each} dev eth0")
    two.member.run("ip addr add 100.100.0.1/32 dev lo")
    two.stranger.run(f"ip addr add {forged} dev lo")
    gateway = "192.0.2.1" if is_old else "2001:db8::1"
    two.stranger.run(f"ip route add {member} via {gateway}")
    with hears(two.member, family, member, 9) as heard:
        with two.stranger.inside(), socket.socket(family, socket.SOCK_DGRAM) as sender:
            sender.bind((forged if claims else own, 0))
            sender.sendto(b"x", (member, 9))
            assert got(heard)  # without the table it is taken over
            two.guard(GUARD)
            sender.sendto(b"x", (member, 9))
            assert not got(heard)
        with two.member.inside(), socket.socket(family, socket.SOCK_DGRAM) as itself:
            itself.sendto(b"x", (member, 9))
            assert got(heard)


def test_nobody_on_the_lan_speaks_as_a_member_to_an_ordinary_address(two: Two) -> None:
    two.member.run("ip addr add 2001:db8::1/64 dev eth0")
    two.stranger.run("ip addr add 2001:db8::2/64 dev eth0")
    two.stranger.run(f"ip addr add {FAR}/128 dev lo")
    with (
        hears(two.member, socket.AF_INET6, "2001:db8::1", 9) as heard,
        two.stranger.inside(),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        sender.bind((str(FAR), 0))
        sender.sendto(b"x", ("2001:db8::1", 9))
        assert got(heard)
        two.guard(GUARD)
        sender.sendto(b"x", ("2001:db8::1", 9))
        assert not got(heard)


def test_nothing_leaks_when_every_link_is_down(two: Two) -> None:
    two.stranger.run("ip addr add 2001:db8::2/64 dev eth0")
    two.stranger.run(f"ip addr add {FAR}/128 dev lo")
    two.member.run("ip addr add 2001:db8::1/64 dev eth0")
    two.member.run("ip route add default via 2001:db8::2")
    with (
        hears(two.stranger, socket.AF_INET6, str(FAR), 9) as heard,
        two.member.inside(),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(b"secret", (str(FAR), 9))
        assert got(heard)  # it follows the default route
        two.kernel.set_route(Route(to=PREFIX, kind=UNREACHABLE))
        with pytest.raises(OSError, match="No route to host"):
            sender.sendto(b"secret", (str(FAR), 9))
        assert not got(heard)


def test_what_the_mesh_sends_itself_never_goes_by_the_mesh(two: Two) -> None:
    with two.member.inside():
        index = two.kernel.create("mesh0", TUN)
    two.kernel.set_up(index)
    two.kernel.set_route(Route(to=ip_network(f"{FAR}/128"), index=index, source=OWN))
    with two.member.inside(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as outer:
        outer.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, marks.mark(1))
        outer.sendto(b"x", (str(FAR), 9))
        two.guard(GUARD)
        with pytest.raises(PermissionError):
            outer.sendto(b"x", (str(FAR), 9))
        outer.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, 0xCA6C)  # wg-quick's
        outer.sendto(b"x", (str(FAR), 9))


@pytest.mark.parametrize("by_the_kernel", [True, False])
def test_strict_reverse_path_filters_let_a_links_datagrams_in_by_its_uplink(
    two: Two, *, by_the_kernel: bool
) -> None:
    """They come in by one uplink while the default route leads to another."""
    spare = Space()
    try:
        join(two.member, "wlan0", spare, "wlan0")
        two.member.run("ip addr add 192.0.2.1/24 dev eth0")
        two.member.run("ip addr add 198.51.100.1/24 dev wlan0")
        two.member.run("ip route add default via 192.0.2.2")
        spare.run("ip addr add 198.51.100.2/24 dev wlan0")
        spare.run("ip addr add 203.0.113.1/32 dev lo")
        # As a router does: a question by ARP from afar would be refused itself.
        spare.run("sysctl -qw net.ipv4.conf.all.arp_announce=2")
        index, number = two.index("wlan0"), marks.mark(2)
        two.kernel.settle_rules(marks.rules({number: index}))
        two.kernel.settle_routes(
            [Route(to=ip_network("0.0.0.0/0"), index=index, table=marks.table(index))],
            table=marks.table(index),
        )
        if by_the_kernel:
            two.member.run("sysctl -qw net.ipv4.conf.all.rp_filter=1")
            two.member.run("sysctl -qw net.ipv4.conf.all.src_valid_mark=1")
        else:
            with two.member.inside():
                subprocess.run(["nft", "-f", "-"], input=STRICT, text=True, check=True)
        with (
            hears(two.member, socket.AF_INET, "0.0.0.0", 51001) as heard,
            spare.inside(),
            socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender,
        ):
            sender.bind(("203.0.113.1", 0))
            sender.sendto(b"x", ("198.51.100.1", 51001))
            assert not got(heard)
            two.guard(
                Guard(
                    prefix=PREFIX,  # type: ignore[arg-type]
                    interfaces=("mesh0",),
                    entries=(Entry(uplink="wlan0", port=51001, mark=number),),
                )
            )
            sender.sendto(b"x", ("198.51.100.1", 51001))
            assert got(heard)
    finally:
        spare.remove()


def test_links_are_bound_to_their_uplinks_where_another_interface_could_lead_elsewhere(
    town: Town,
) -> None:
    lan = town.switch()
    boxes = town.boxes("desk", "laptop")
    for each in boxes:
        lan.plug(each)
    meet(boxes)

    def bound() -> tuple[bool, ...]:
        """Whether what comes in is marked, and what has a mark is led."""
        own = boxes[0].space
        rules = own.run("ip rule show"), own.run("ip -6 rule show")
        marked = "mark set" in own.run("nft list chain inet clan_mesh raw")
        return (marked, *("fwmark" in each for each in rules))

    until(lambda: boxes[0].links("laptop"))
    assert not any(bound())
    boxes[0].space.run("ip tuntap add br-1 mode tap")
    until(lambda: all(bound()))
    boxes[0].space.run("ip tuntap del br-1 mode tap")
    until(lambda: not any(bound()))


def test_who_talks_is_told_with_the_first_packet_and_not_with_the_next(two: Two) -> None:
    with two.member.inside():
        index = two.kernel.create("mesh0", TUN)
    two.kernel.set_up(index)
    two.kernel.set_route(Route(to=PREFIX, index=index, source=OWN))
    stranger, later = IPv6Address("fdcc::3"), IPv6Address("fdcc::4")
    guard = Guard(prefix=PREFIX, interfaces=("mesh0",), peers=(FAR,))  # type: ignore[arg-type]
    two.guard(guard)
    with two.member.inside():
        first = FirstPackets(GROUP)
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)

    def told() -> set[IPv4Address | IPv6Address]:
        select.select([first], [], [], 0.3)
        return set(first.addresses()) - {OWN}

    sender.sendto(b"x", (str(stranger), 9))
    sender.sendto(b"x", (str(FAR), PORT))  # agents among themselves
    assert told() == set()
    for _ in range(20):
        sender.sendto(b"x", (str(FAR), 9))
    assert told() == {FAR}
    sender.sendto(b"x", (str(FAR), 9))
    assert told() == set()
    time.sleep(firewall.QUIET)
    sender.sendto(b"x", (str(FAR), 9))  # it still talks: it is told again
    assert told() == {FAR}
    two.guard(replace(guard, peers=(FAR, later)))
    sender.sendto(b"x", (str(later), 9))
    assert told() == {later}
    sender.close()
    first.close()


def test_who_is_heard_from_is_told_if_it_came_by_the_mesh(two: Two) -> None:
    join(two.member, "mesh0", two.stranger, "mesh0")  # a cable stands for the link
    two.stranger.run(f"ip addr add {FAR}/128 dev lo")
    two.member.run("ip addr add fe80::1/64 dev mesh0")
    two.stranger.run(f"ip route add {OWN}/128 via fe80::1 dev mesh0 src {FAR}")
    two.guard(Guard(prefix=PREFIX, interfaces=("mesh0",), peers=(FAR,)))  # type: ignore[arg-type]
    with two.member.inside():
        first = FirstPackets(GROUP)

    def told() -> set[IPv4Address | IPv6Address]:
        select.select([first], [], [], 0.3)
        return set(first.addresses()) - {OWN}

    with (
        hears(two.member, socket.AF_INET6, str(OWN), 9) as heard,
        two.stranger.inside(),
        socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender,
    ):
        sender.sendto(b"x", (str(OWN), PORT))  # agents among themselves
        assert told() == set()
        sender.sendto(b"x", (str(OWN), 9))
        assert got(heard)
        assert told() == {FAR}
        sender.sendto(b"x", (str(OWN), 9))
        assert got(heard)
        assert told() == set()
    first.close()


def test_a_table_that_others_flush_is_missed(two: Two) -> None:
    with two.member.inside():
        watch = firewall.Watch()
        assert not firewall.is_there()
        firewall.uphold(GUARD)
        assert firewall.is_there()
        two.member.run("nft add table inet other")
        assert not watch.gone()
        two.member.run("nft flush ruleset")
        assert select.select([watch], [], [], 10)[0]
        assert watch.gone()
        assert not firewall.is_there()
        firewall.uphold(GUARD)
        firewall.uphold(GUARD)  # twice is no fault
        assert firewall.is_there()
        firewall.remove(firewall.TABLE, "not-there")
        assert not firewall.is_there()
        watch.close()


def test_a_member_passes_on_between_mesh_interfaces_alone(two: Two) -> None:
    """A peer inside may send to anything; it does not get out into the LAN behind a member."""
    inner = Space()
    try:
        join(two.member, "mesh0", inner, "mesh0")  # a cable stands for the link
        join(two.member, "mesh1", two.stranger, "mesh1")
        two.member.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        for name, network in (("mesh0", "fdcc:a"), ("mesh1", "fdcc:b"), ("eth0", "2001:db8")):
            two.member.run(f"ip addr add {network}::1/64 dev {name}")
        two.stranger.run("ip addr add 2001:db8::2/64 dev eth0")
        two.stranger.run("ip addr add fdcc:b::2/64 dev mesh1")
        inner.run("ip addr add fdcc:a::2/64 dev mesh0")
        inner.run("ip route add default via fdcc:a::1")
        with inner.inside(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
            for guarded in (False, True):
                for address in ("2001:db8::2", "fdcc:b::2"):
                    with hears(two.stranger, socket.AF_INET6, address, 9) as heard:
                        sender.sendto(b"x", (address, 9))
                        assert got(heard) is (not guarded or address == "fdcc:b::2")
                two.guard(GUARD)
    finally:
        inner.remove()
