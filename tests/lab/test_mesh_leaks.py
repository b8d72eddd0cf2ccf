"""Nothing for the clan's addresses leaves in the clear, whatever is down, dead or claimed."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import PREFIX, Box, content
from tests.lab.internet import Town
from tests.lab.links import until
from tests.lab.paths import know_server, reach
from tests.lab.spaces import Space, join
from tests.mesh.signers import signed

from clan.mesh.hops import labels

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.content import Content

pytestmark = pytest.mark.lab

IpAddress = IPv4Address | IPv6Address

ALIASES = IPv4Network("10.224.128.0/20")
OF = {"desk": IPv4Address("10.224.128.10"), "vps": IPv4Address("10.224.128.20")}
NETWORKS = (PREFIX, labels.prefix(PREFIX), ALIASES)
NOBODY: tuple[IpAddress, ...] = (*(each[0xBAD] for each in NETWORKS), PREFIX[1 << 79])
ALL_NODES = "ff02::1"
_IPV4, _ARP, _IPV6, _ALL = 0x0800, 0x0806, 0x86DD, 3
_ICMPV6, _ADVERTISES_ROUTER, _ASKS_NEIGHBOUR, _IS_NEIGHBOUR = 58, 134, 135, 136
_OF_PACKETS, _STATISTICS = 263, 6
"""SOL_PACKET and PACKET_STATISTICS (linux/if_packet.h)."""


class Capture:
    """What a machine sends by its uplink, as the other side of the cable sees it."""

    def __init__(self, space: Space, box: Box) -> None:
        self._from = _link_address(box.space)
        with space.inside():
            kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
            self._socket = socket.socket(socket.AF_PACKET, kind, socket.htons(_ALL))
        self._socket.setsockopt(socket.SOL_SOCKET, 33, 1 << 24)  # SO_RCVBUFFORCE

    def close(self) -> None:
        self._socket.close()

    def ends(self) -> set[IpAddress]:
        """Return who sent what came since, to whom, and who was asked for on the LAN."""
        found: set[IpAddress] = set()
        with contextlib.suppress(BlockingIOError):
            while True:
                packet, (_, protocol, _, _, source) = self._socket.recvfrom(1 << 16)
                if source == self._from:
                    found |= set(_ends(protocol, packet))
        told = self._socket.getsockopt(_OF_PACKETS, _STATISTICS, 8)
        assert struct.unpack("=II", told)[1] == 0, "some were not captured"
        return found


class Stranger:
    """A computer on a LAN that claims to be whoever is asked for."""

    def __init__(self, space: Space, addresses: Sequence[IpAddress]) -> None:
        self.space, self._addresses = space, addresses
        for each in addresses:
            space.run(f"ip addr add {each}/{each.max_prefixlen} dev eth0")
        self._own = _link_address(space)
        with space.inside():
            self._speaks = socket.socket(socket.AF_INET6, socket.SOCK_RAW, _ICMPV6)
            self._arp = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, 0)
            index = socket.if_nametoindex("eth0")
        for option in (socket.IPV6_MULTICAST_HOPS, socket.IPV6_MULTICAST_IF):
            value = 255 if option == socket.IPV6_MULTICAST_HOPS else index
            self._speaks.setsockopt(socket.IPPROTO_IPV6, option, value)

    def close(self) -> None:
        self._speaks.close()
        self._arp.close()

    def claim(self) -> None:
        """Say to all on the LAN that it has these addresses."""
        for each in self._addresses:
            if each.version == 6:
                head = struct.pack("!BBHI", _IS_NEIGHBOUR, 0, 0, 0x20000000)
                said = head + each.packed + b"\2\1" + self._own
                self._speaks.sendto(said, (ALL_NODES, 0))
            else:
                head = struct.pack("!HHBBH", 1, _IPV4, 6, 4, 2)
                said = head + self._own + each.packed + bytes([255] * 6) + each.packed
                self._arp.sendto(said, ("eth0", _ARP, 0, 1, bytes([255] * 6)))

    def route(self, network: IPv6Network, seconds: int) -> None:
        """Say, as a router does, that a network is on the LAN for so long."""
        head = struct.pack("!BBHBBHII", _ADVERTISES_ROUTER, 0, 0, 64, 0, 0, 0, 0)
        about = struct.pack("!BBBBIII", 3, 4, network.prefixlen, 0x80, seconds, seconds, 0)
        self._speaks.sendto(head + about + network.network_address.packed, (ALL_NODES, 0))


class Place:
    """A desk at home, with a stranger on its LAN, and a server; both have routes to everywhere."""

    def __init__(self, town: Town, made: contextlib.ExitStack) -> None:
        self.desk, self.vps = self.both = town.boxes("desk", "vps")
        self._made = made
        internet, home = town.internet, town.home()
        there = internet.plug(self.vps)
        internet.six(home)
        home.plug(self.desk)
        self._ordinary = {
            "desk": (there, internet.six_at(self.vps.space)),
            "vps": (home.address, f"{home.six}:1"),
        }
        space = Space()
        made.callback(space.remove)
        join(space, "eth0", home.space, "stranger")
        home.space.run("ip link set stranger master lan")
        claimed = (self.desk.address, self.vps.address, *OF.values(), *NOBODY)
        self.stranger = Stranger(space, claimed)
        self._captures = {"desk": Capture(home.space, self.desk)}
        self._captures["vps"] = Capture(internet.space, self.vps)
        made.callback(self.stranger.close)
        for each in self._captures.values():
            made.callback(each.close)
        self.addresses = {"vps": there}
        self.chart = self._meet()
        self._held: dict[str, list[socket.socket]] = {"desk": [], "vps": []}
        for to in (str(self.vps.address), str(OF["vps"])):
            self._hold(to)

    def map(self, *boxes: Box) -> Content:
        """Return what a map says that lists these machines."""
        said = content(boxes, self.addresses)
        machines = tuple(replace(each, alias=OF[each.name]) for each in said.machines)
        return replace(said, machines=machines, aliases=ALIASES)

    def leaks(self, box: Box, *, uplink: str = "") -> set[str]:
        """Have programs send what they may to all of the clan; return which addresses came out.

        All of them insist on an uplink, if there is one.
        """
        name = box.name
        (other,) = (each for each in self.both if each is not box)
        for to in (other.address, OF[other.name], *NOBODY):
            for kind in (socket.SOCK_DGRAM, socket.SOCK_STREAM):
                _send(box, str(to), kind, uplink)
            self.stranger.claim()
        for each in self._held[name]:
            with contextlib.suppress(OSError):
                each.send(b"secret")
        found: set[IpAddress] = set()
        wanted = {ip_address(each) for each in self._ordinary[name]}

        def all_came() -> bool:
            # Last, so that what came out before has come by now.
            for each in self._ordinary[name]:
                _send(box, each, socket.SOCK_DGRAM, uplink)
            found.update(self._captures[name].ends())
            return wanted <= found

        until(all_came, 30)
        return {str(each) for each in found if any(each in network for network in NETWORKS)}

    def _meet(self) -> Chart:
        first = signed(self.map(*self.both))
        for each in self.both:
            each.give(first)
            each.start()
        for each in self.both:
            until(each.record, 60)
        second = signed(self.map(*self.both), after=[first])
        for each in self.both:
            each.take(second)
        know_server(self.desk)
        reach(self.desk, self.vps).close()
        return second

    def _hold(self, to: str) -> None:
        """Open to the server, at such an address, what programs have open for long."""
        family = socket.AF_INET6 if ":" in to else socket.AF_INET
        with self.vps.space.inside():
            waiting = socket.create_server(("", 4242), family=socket.AF_INET6, dualstack_ipv6=True)
        with self.desk.space.inside():
            session, datagrams = socket.socket(family), socket.socket(family, socket.SOCK_DGRAM)
        with waiting:
            session.settimeout(60)
            session.connect((to, 4242))
            taken = waiting.accept()[0]
        datagrams.connect((to, 9))
        self._held["desk"] += [session, datagrams]
        self._held["vps"].append(taken)
        for each in (session, datagrams, taken):
            each.setblocking(False)
            self._made.callback(each.close)


@pytest.fixture(scope="module")
def place(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    del lab_ready
    with contextlib.ExitStack() as made:
        town = Town(tmp_path_factory.mktemp("leaks"))
        made.callback(town.remove)
        yield Place(town, made)


def test_nothing_leaks_while_the_peer_the_agent_and_all_links_go(place: Place) -> None:
    desk, vps = place.both

    def while_nothing_leaks(happens: Callable[[], object]) -> Callable[[], object]:
        def both() -> object:
            assert not place.leaks(desk)
            return happens()

        return both

    assert not place.leaks(desk)
    vps.crash()
    until(while_nothing_leaks(lambda: not desk.alive("vps")), 60)
    desk.stop()
    assert not place.leaks(desk)
    desk.crash()
    assert not place.leaks(desk)
    for each in json.loads(desk.space.run("ip -j link show")):
        if each["ifname"].startswith("clan-"):
            desk.space.run(f"ip link del {each['ifname']}")
    assert not place.leaks(desk)
    desk.space.run("nft flush ruleset")
    assert not place.leaks(desk)
    desk.start()
    until(while_nothing_leaks(lambda: desk.links("vps")), 60)
    vps.reboot()
    until(while_nothing_leaks(lambda: desk.alive("vps")), 60)
    reach(desk, vps).close()
    assert not place.leaks(desk)


def test_nothing_leaks_by_routes_that_a_lan_hands_out_nor_by_an_uplink_that_is_asked_for(
    place: Place,
) -> None:
    """Routers' and DHCP servers' routes are as narrow as they like, and bear any metric."""
    desk, vps = place.both
    reach(desk, vps).close()
    assert not place.leaks(desk, uplink="eth0")
    networks = [IPv6Network((each, 64), strict=False) for each in (vps.address, *NOBODY[:2])]
    for each in networks:
        place.stranger.route(each, 600)
    until(lambda: all(f"{e} " in desk.space.run("ip -6 route show dev eth0") for e in networks))
    for to in (*networks, f"{vps.address}/128", "10.224.128.0/24", f"{OF['vps']}/32"):
        desk.space.run(f"ip route replace {to} dev eth0 metric 5 proto dhcp")
    assert not place.leaks(desk)
    assert not place.leaks(desk, uplink="eth0")
    for version in ("-4", "-6"):
        desk.space.run(f"ip {version} route flush proto dhcp")
    for each in networks:
        place.stranger.route(each, 0)


def test_nothing_leaks_of_a_machine_that_was_removed(place: Place) -> None:
    """Neither what is sent to it, nor what it sends itself."""
    desk, vps = place.both
    reach(desk, vps).close()
    chart = signed(place.map(desk), after=[place.chart])
    for each in place.both:
        each.take(chart)

    def is_over() -> bool:
        for each in place.both:
            assert not place.leaks(each)
        return "vps" not in desk.ask()["peers"] and not vps.ask()["peers"]

    until(is_over, 60)
    for each in place.both:
        assert not place.leaks(each)
        each.stop()
        assert not place.leaks(each)


def _send(box: Box, to: str, kind: int, uplink: str) -> None:
    """Send a datagram, or begin a session."""
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with box.space.inside(), socket.socket(family, kind | socket.SOCK_NONBLOCK) as made:
        if uplink:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, uplink.encode())
        with contextlib.suppress(OSError):
            made.connect((to, 9))
            made.send(b"secret")


def _ends(protocol: int, packet: bytes) -> Iterator[IpAddress]:
    """Yield the addresses that anybody on the way can read in a packet."""
    if protocol == _IPV4:
        yield from (IPv4Address(packet[12:16]), IPv4Address(packet[16:20]))
    elif protocol == _ARP:
        yield from (IPv4Address(packet[14:18]), IPv4Address(packet[24:28]))
    elif protocol == _IPV6:
        yield from (IPv6Address(packet[8:24]), IPv6Address(packet[24:40]))
        if packet[6] == _ICMPV6 and packet[40] in {_ASKS_NEIGHBOUR, _IS_NEIGHBOUR}:
            yield IPv6Address(packet[48:64])


def _link_address(space: Space) -> bytes:
    (uplink,) = json.loads(space.run("ip -j link show eth0"))
    return bytes.fromhex(uplink["address"].replace(":", ""))
