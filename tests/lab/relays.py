"""Members behind routers, and a relay on the internet, in network namespaces.

    one    10.1.0.2 ── router 198.51.100.2 ─┐
    third  10.1.0.3 ─┘                      ├─ internet ── 203.0.113.2 relay
    other  10.2.0.2 ── router 192.0.2.2 ────┘

The routers are symmetric: each destination port gets a random port of its own. IPv6 is routed as it
is, 2001:db8:N::2 for each that asks for it (`have_ipv6`), and the members' stable addresses beside
it, as if there were a mesh. A member's WireGuard is a plain UDP socket at its port, so that a test
sees each datagram.
"""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import time
from ipaddress import IPv6Network
from typing import TYPE_CHECKING, TypeVar

from tests.lab.conntrack import forget_connections
from tests.lab.spaces import Space, join
from tests.mesh.signers import ROOT, fresh, key, machine, signed

from clan.mesh import identity
from clan.mesh.agent import firewall, uplinks
from clan.mesh.agent.kernel import Kernel
from clan.mesh.chart.accept import Held
from clan.mesh.chart.content import Content
from clan.mesh.chart.links import LinkRecord, Reached
from clan.mesh.link import Endpoint, Kind, LinkId, Slot
from clan.mesh.relay.ports import PORTS
from clan.mesh.relay.relaying import Around, Relaying
from clan.mesh.slots import Own

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from pathlib import Path

    from clan.mesh.relay.desk import Leg
    from clan.mesh.relay.seat import Seat

T = TypeVar("T")
PREFIX = identity.prefix(ROOT.public)
ELSEWHERE = IPv6Network("fd00:db8::/48")
"""A clan's addresses that nobody has here: the members' come in by no mesh."""
RELAY, RELAY6 = "203.0.113.2", "2001:db8:3::2"
WIREGUARD = 51001
SYMMETRIC = """\
table ip nat {
    chain behind {
        type nat hook postrouting priority srcnat;
        oifname "wan" masquerade random,fully-random
    }
}
table ip filter {
    chain forwarded {
        type filter hook forward priority filter; policy drop;
        iifname "lan" accept
        ct state established,related accept
    }
    chain input {
        type filter hook input priority filter;
        iifname "wan" ct state new drop
    }
}
"""


TRACKS = """\
table ip own {
    chain input {
        type filter hook input priority filter;
        ct state established accept
    }
}
"""
"""What makes a kernel track connections; most machines have a firewall that does."""


class Node:
    """A machine of the clan with its part for relays; `wireguard` is the socket at its port."""

    def __init__(self, name: str, space: Space, folder: Path, *reached: str) -> None:
        self.name, self.space, self.reached = name, space, reached
        self.folder = folder / name
        self.key = key(name)
        self.said: list[str] = []
        self.own: tuple[Own, ...] = ()
        self.wireguard = self.bound(WIREGUARD)
        with space.inside():
            self.kernel = Kernel()
        self.start()

    def look_around(self) -> None:
        """Have its slots: for the first relay, and for each version of IP that leads out."""
        versions = [v for v in (4, 6) if self.space.run(f"ip -{v} route show default")]
        slots = [
            Slot(uplink="eth0", family=6, kind=Kind.RELAY, network="1"),
            *(Slot(uplink="eth0", family=v, kind=Kind.INTERNET) for v in versions),
        ]
        self.own = tuple(
            Own(
                id=fresh(self.name, slot).hex()[:8],
                slot=slot,
                number=number + 1,
                port=WIREGUARD + number,
                private=fresh("private", self.name, slot),
                seen=1,
            )
            for number, slot in enumerate(slots)
        )

    def start(self) -> None:
        with self.space.inside():
            opened = self.folder / "opened.json"
            self.relaying = Relaying(self.key, PREFIX, self.folder, opened, self.said.append)

    def bound(self, port: int) -> socket.socket:
        with self.space.inside():
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        made.bind(("::", port))
        return made

    @property
    def record(self) -> LinkRecord:
        interfaces = sorted((own.published for own in self.own), key=lambda each: each.id)
        return LinkRecord(
            identity=self.key.public,
            serial=1,
            interfaces=tuple(interfaces),
            reached=tuple(Reached(host=each, port=PORTS.start) for each in sorted(self.reached)),
        )

    def link(self, other: Node) -> LinkId:
        return LinkId(peer=other.name, own=self.own[0].id, their=other.own[0].id)

    def settle(self, held: Held, records: Mapping[bytes, LinkRecord]) -> None:
        ports = tuple(own.port for own in self.own if own.slot.kind is Kind.RELAY)
        with self.space.inside():
            firewall.uphold(firewall.Guard(prefix=ELSEWHERE, relayed=ports))
            self.relaying.settle(
                Around(
                    view=held.view,
                    records=records,
                    own=self.own,
                    attachments=tuple(uplinks.look(self.kernel)),
                ),
                time.monotonic(),
            )

    def turn(self) -> None:
        readable, _, _ = select.select(self.relaying.sockets(), [], [], 0)
        with self.space.inside():
            self.relaying.turn({each.fileno() for each in readable}, time.monotonic())

    def look(self, other: Node) -> None:
        with self.space.inside():
            self.relaying.look(self.link(other), time.monotonic())

    def seat(self, other: Node) -> Seat:
        return self.relaying._seats.seats[self.link(other)]

    def place(self, other: Node) -> Endpoint:
        """Return where datagrams for another node go."""
        return self.seat(other).endpoint

    def ready(self, other: Node) -> bool:
        """Whether the relay says that they pass."""
        seats = self.relaying._seats.seats
        return self.link(other) in seats and self.seat(other).is_ready

    def send(self, data: bytes, to: Endpoint) -> None:
        host = to.host if ":" in to.host else f"::ffff:{to.host}"
        with contextlib.suppress(OSError):
            self.wireguard.sendto(data, (host, to.port))

    def heard(self) -> list[bytes]:
        found = []
        with contextlib.suppress(OSError):
            while True:
                found.append(self.wireguard.recv(9999))
        return found

    def close(self) -> None:
        self.relaying.close()
        self.kernel.close()
        self.wireguard.close()


class Homes:
    """The namespaces and cables, with nothing that runs in them."""

    def __init__(self) -> None:
        names = ("net", "relay", "r1", "r2", "one", "third", "other")
        self.spaces = {name: Space() for name in names}
        self._lay()

    def remove(self) -> None:
        for space in self.spaces.values():
            space.remove()

    def _lay(self) -> None:
        spaces = self.spaces
        join(spaces["net"], "relay", spaces["relay"], "eth0")
        address(spaces["net"], "relay", "203.0.113.1/24")
        address(spaces["relay"], "eth0", f"{RELAY}/24", "203.0.113.1")
        rules(spaces["relay"], TRACKS)
        for router, wan, lan, names in (
            ("r1", "198.51.100", "10.1.0", ("one", "third")),
            ("r2", "192.0.2", "10.2.0", ("other",)),
        ):
            join(spaces["net"], router, spaces[router], "wan")
            address(spaces["net"], router, f"{wan}.1/24")
            address(spaces[router], "wan", f"{wan}.2/24", f"{wan}.1")
            spaces[router].run("ip link add lan type bridge")
            spaces[router].run("ip link set lan up")
            # As on a router in a home: what it switches does not meet its rules.
            for each in ("iptables", "ip6tables"):
                spaces[router].run(f"sysctl -qw net.bridge.bridge-nf-call-{each}=0")
            address(spaces[router], "lan", f"{lan}.1/24")
            for host, name in enumerate(names, 2):
                join(spaces[router], name, spaces[name], "eth0")
                spaces[router].run(f"ip link set {name} master lan")
                address(spaces[name], "eth0", f"{lan}.{host}/24", f"{lan}.1")
            rules(spaces[router], SYMMETRIC)
        for each in ("net", "r1", "r2"):
            spaces[each].run("sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1")


class World(Homes):
    """The members and the relay on it. `drive` gives everybody turns until something holds."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.one = Node("one", self.spaces["one"], folder)
        self.third = Node("third", self.spaces["third"], folder)
        self.other = Node("other", self.spaces["other"], folder)
        self.relay = Node("relay", self.spaces["relay"], folder, RELAY, RELAY6)
        self.nodes = [self.one, self.third, self.other, self.relay]
        """Those that get turns."""
        self._made = tuple(self.nodes)
        for number, node in zip((1, 4, 2, 3), self.nodes, strict=True):
            self._route(node, number)
        self.give([node.name for node in self.nodes])

    def _route(self, node: Node, number: int) -> None:
        """Let a node have an IPv6 address, and its stable one."""
        spaces, name = self.spaces, node.name
        router = {"one": "r1", "third": "r1", "other": "r2"}.get(name)
        stable = identity.address(PREFIX, node.key.public)
        node.space.run(f"ip addr add 2001:db8:{number}::2/64 dev eth0 nodad")
        node.space.run(f"ip addr add {stable}/128 dev lo")
        near, cable = (router, "lan") if router else ("net", "relay")
        spaces[near].run(f"ip addr add 2001:db8:{number}::1/64 dev {cable} nodad")
        node.space.run(f"ip route add {PREFIX} via 2001:db8:{number}::1")
        if not router:
            node.space.run(f"ip route add default via 2001:db8:{number}::1")
        spaces[near].run(f"ip route add {stable} via 2001:db8:{number}::2")
        if router:
            for to in (f"2001:db8:{number}::/64", stable):
                spaces["net"].run(
                    f"ip route add {to} via inet6 {linklocal(spaces[router])} dev {router}"
                )
            spaces[router].run(
                f"ip route replace default via inet6 {linklocal(spaces['net'], router)} dev wan"
            )

    def give(self, names: Iterable[str]) -> None:
        """Let everybody have a map with these machines."""
        said = Content(
            machines=tuple(machine(name) for name in sorted(names)),
        )
        self.held = Held.of([signed(said)])
        for node in self.nodes:
            node.look_around()
        self.records = {node.key.public: node.record for node in self.nodes}
        for node in self.nodes:
            node.settle(self.held, self.records)

    def drive(self, found: Callable[[], T], seconds: float = 20) -> T:
        end = time.monotonic() + seconds
        while not (seen := found()):
            assert time.monotonic() < end, "it did not happen in time"
            for node in self.nodes:
                node.turn()
            time.sleep(0.01)
        return seen

    def ends(self) -> list[tuple[str, Node, Node]]:
        """Return one and other, each with the other one."""
        return [("one", self.one, self.other), ("other", self.other, self.one)]

    def flows(self) -> list[object]:
        """Return what the relay has of flows, without when and how often it was told."""
        return [
            (flow.sides, flow.seat, [(leg.side, leg.endpoint, leg.local) for leg in flow.legs])
            for flow in self.relay.relaying._host.state.flows
        ]

    def counted(self) -> int:
        """Return how many datagrams, or batches, the relay's kernel passed on since last asked."""
        with self.relay.space.inside():
            counts = self.relay.relaying._host.forwarding.counts()
        return sum(count.passed for count in counts.values())

    def pumped(self) -> int:
        """Return how many flows a program passes on at the relay, as the kernel does not."""
        return len(self.relay.relaying._host._pumped or ())

    def legs(self) -> list[Leg]:
        """Return where the relay has everybody registered."""
        return [leg for flow in self.relay.relaying._host.state.flows for leg in flow.legs]

    def wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        self.drive(lambda: time.monotonic() >= end, seconds + 20)

    def join(self, one: Node | None = None, other: Node | None = None) -> None:
        """Have two relayed: one and other, if none are given."""
        one, other = one or self.one, other or self.other
        one.look(other)
        other.look(one)
        self.drive(lambda: one.ready(other) and other.ready(one))

    def passes(self, one: Node | None = None, other: Node | None = None, tries: int = 5) -> bool:
        """Whether datagrams pass in both directions."""
        one, other = one or self.one, other or self.other
        return self.reaches(one, other, tries) and self.reaches(other, one, tries)

    def reaches(self, node: Node, to: Node, tries: int = 5) -> bool:
        place = node.place(to)
        to.heard()
        for number in range(tries):
            data = b"\4" + node.name.encode() + bytes([number]) * 99
            node.send(data, place)
            self.wait(0.05)
            if data in to.heard():
                return True
        return False

    def have_ipv6(self, node: Node, *, alone: bool) -> None:
        """Let a member have IPv6, beside IPv4 or alone."""
        number = {"one": 1, "other": 2}[node.name]
        node.space.run(f"ip route add default via 2001:db8:{number}::1")
        if alone:
            node.space.run("ip -4 route del default")

    def rebind(self, router: str) -> None:
        """Have a router forget its translations, as one that was switched off and on."""
        with self.spaces[router].inside():
            forget_connections()

    def remove(self) -> None:
        for node in self._made:
            node.close()
        super().remove()


def address(space: Space, uplink: str, interface: str, gateway: str = "") -> None:
    space.run(f"ip addr add {interface} dev {uplink}")
    if gateway:
        space.run(f"ip route add default via {gateway}")


def rules(space: Space, text: str) -> None:
    with space.inside():
        subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)


def linklocal(space: Space, interface: str = "wan") -> str:
    shown = space.run(f"ip -6 -o addr show dev {interface} scope link")
    return shown.split()[3].partition("/")[0]
