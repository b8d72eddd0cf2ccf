"""What the rows of `bench/mesh.py` stand on: agents in network namespaces, and delayed cables."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import time
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

from tests.lab.agents import Box, Talk, busy, content, meet
from tests.lab.internet import Town
from tests.lab.links import End, private
from tests.lab.spaces import Space, join
from tests.mesh.signers import fresh, key, machine, signed

from bench.harness.row import BenchError
from clan.mesh.agent.kernel import Kernel
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.agent.wireguard import Change, Endpoint
from clan.mesh.chart import links
from clan.mesh.chart.links import LinkRecord, PublishedInterface

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.harness.ground import Ground

SECONDS_A_MONTH = 30 * 86400.0
ROUND_TRIP = 0.02
UPLINKS = ("eth0", "wlan0")
TRANSFER = 5
"""Seconds of a transfer."""
STATIC = 4
"""Who made a route, by the kernel's number: an admin."""
WIDEST = 1420
"""Bytes of the longest packet inside a link over Ethernet."""


class Cable:
    """A cable between two machines on which every frame takes a while: seconds each way."""

    def __init__(self, one: Box, other: Box, uplink: str, number: int, seconds: float) -> None:
        self.space = Space()
        for end, box, host in (("a", one, 1), ("b", other, 2)):
            join(box.space, uplink, self.space, f"end{end}")
            self.space.run(f"ip tuntap add tap{end} mode tap")
            self.space.run(f"ip link add lan{end} type bridge forward_delay 0")
            for each in (f"end{end}", f"tap{end}"):
                self.space.run(f"ip link set {each} master lan{end} up")
            self.space.run(f"ip link set lan{end} up")
            box.space.run(f"ip addr add 192.0.{number}.{host}/24 dev {uplink}")
        ends = [f"{self.space.name}/tap{end}" for end in "ab"]
        words = [sys.executable, "-m", "clan.lab.delay", str(seconds), *ends]
        self._process = subprocess.Popen(words)

    def remove(self) -> None:
        """Take it away."""
        self._process.kill()
        self._process.wait()
        self.space.remove()


class Pair:
    """Two machines with two cables between them, which talk."""

    def __init__(self, one: Box, other: Box) -> None:
        self.one, self.other = one, other

    @property
    def both(self) -> tuple[Box, Box]:
        """Both machines."""
        return self.one, self.other

    def path(self) -> str:
        """Return the uplink of the path, when both links live."""
        wait(lambda: self.one.alive(self.other.name) == len(UPLINKS), "both links")
        return str((self.one.path(self.other.name) or {})["uplink"])

    def gap(self, harm: Callable[[str], None], mend: Callable[[str], None], after: float) -> float:
        """Harm the path under a stream of 50 datagrams a second; return its longest gap."""
        talk = Talk(self.one, self.other)
        talk.go(1.0)
        uplink = self.path()
        talk.go(0.5)
        talk.begin()
        try:
            harm(uplink)
            talk.go(after)
            return talk.gap()
        finally:
            mend(uplink)
            talk.close()


def wait(found: Callable[[], object], what: str, seconds: float = 120.0) -> None:
    """Wait for something. Raises BenchError when it does not come."""
    end = time.monotonic() + seconds
    while not found():
        if time.monotonic() > end:
            raise BenchError(f"{what} did not come within {seconds:g} s")
        time.sleep(0.05)


@contextlib.contextmanager
def pair(ground: Ground) -> Iterator[Pair]:
    """Make two machines with two disjoint cables of 20 ms round trip."""
    ground.report("two machines with two ways between them")
    with contextlib.ExitStack() as stack:
        town = Town(ground.folder / "pair")
        stack.callback(town.remove)
        one, other = town.boxes("desk", "laptop")
        for number, uplink in enumerate(UPLINKS, 1):
            stack.callback(Cable(one, other, uplink, number, ROUND_TRIP / 2).remove)
        meet([one, other])
        made = Pair(one, other)
        for each in made.both:
            wait(lambda each=each: each.ask()["peers"], "the map")  # type: ignore[misc]
        talk = Talk(one, other)
        while one.alive(other.name) < len(UPLINKS):
            talk.go(1)
        talk.close()
        yield made


class Idle:
    """A machine behind a router with 29 peers, two of them servers, that does nothing."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def bytes(self) -> int:
        """Return the bytes that went over its uplink so far, both ways."""
        total = 0
        for way in ("rx", "tx"):
            shown = self.box.space.run(f"cat /sys/class/net/eth0/statistics/{way}_bytes")
            total += int(shown)
        return total

    def processes(self) -> list[int]:
        """Return the processes of its mesh: the agent and wireguard-go."""
        agent = self.box.agent
        daemons = [int(e.read_text()) for e in self.box.daemons.glob("clan-*")]
        return [*([agent.pid] if agent else []), *daemons]

    def busy(self) -> float:
        """Return the seconds that they all have used of a processor."""
        return sum(busy(each) for each in self.processes())

    def memory(self) -> float:
        """Return the MiB that the agent has to itself."""
        agent = self.box.agent
        shown = self.box.space.run(f"cat /proc/{agent.pid if agent else 0}/smaps_rollup")
        private = [line for line in shown.splitlines() if line.startswith("Private")]
        return sum(int(line.split()[1]) for line in private) / 1024


def published(name: str) -> bytes:
    """Return a record of a machine that was never there."""
    interface = PublishedInterface(
        id="0a0b0c0d", uplink="eth0", family=4, kind="internet", key=fresh(name), port=40000
    )
    made = LinkRecord(identity=key(name).public, serial=1, interfaces=(interface,))
    return links.publish(made, key(name)).raw


@contextlib.contextmanager
def idle(ground: Ground) -> Iterator[Idle]:
    """Make such a machine, and wait until it has settled."""
    ground.report("a machine with 29 peers that does nothing")
    town = Town(ground.folder / "idle")
    try:
        boxes = town.boxes("desk", "berlin", "oslo")
        desk, *servers = boxes
        addresses = {each.name: town.internet.plug(each) for each in servers}
        town.home().plug(desk)
        first = meet(boxes, addresses)
        said = content(boxes, addresses)
        others = tuple(
            machine(f"m{number:02}", links=published(f"m{number:02}")) for number in range(27)
        )
        everyone = tuple(sorted((*said.machines, *others), key=lambda each: each.name))
        second = signed(replace(said, machines=everyone), after=[first])
        for each in boxes:
            each.take(second)
        wait(lambda: len(desk.ask()["peers"]) == len(everyone) - 1, "29 peers")
        time.sleep(60)  # the calls on a new LAN, and the first conversations, are over
        yield Idle(desk)
    finally:
        town.remove()


class Plain:
    """Two machines whose agents run, with a WireGuard beside them that is nobody's."""

    def __init__(self, one: Box, other: Box, ends: tuple[End, End]) -> None:
        self._one, self._other = one, other
        self.stable = str(other.address)
        self.plain = str(ends[1].stable)

    def rate(self, address: str) -> float:
        """Return the bits a second of a TCP transfer to the other one's address."""
        words = ["ip", "netns", "exec", self._other.space.name, "iperf3", "-s", "-1", "-B", address]
        server = subprocess.Popen(words, stdout=subprocess.DEVNULL)
        try:
            wait(lambda: ":5201" in self._other.space.run("ss -Hltn"), "iperf3")
            shown = self._one.space.run(f"iperf3 -c {address} -t {TRANSFER} -O 1 -J")
        finally:
            server.wait(30)
        return float(json.loads(shown)["end"]["sum_received"]["bits_per_second"])


@contextlib.contextmanager
def plain(ground: Ground) -> Iterator[Plain]:
    """Make two machines on one LAN, each with 30 peers, and a plain WireGuard between them."""
    ground.report("a WireGuard without clan beside the mesh")
    with contextlib.ExitStack() as stack:
        town = Town(ground.folder / "plain")
        stack.callback(town.remove)
        boxes = town.boxes("desk", "laptop")
        join(boxes[0].space, "eth0", boxes[1].space, "eth0")
        for host, each in enumerate(boxes, 1):
            each.space.run(f"ip addr add 192.0.2.{host}/24 dev eth0")
            each.space.run("ethtool -K eth0 tso off gso off gro off tx-udp-segmentation off")
        first = meet(boxes)
        others = tuple(
            machine(f"m{number:02}", links=published(f"m{number:02}")) for number in range(29)
        )
        said = content(boxes)
        everyone = tuple(sorted((*said.machines, *others), key=lambda each: each.name))
        for each in boxes:
            each.take(signed(replace(said, machines=everyone), after=[first]))
        ends = stack.enter_context(beside(boxes))
        made = Plain(boxes[0], boxes[1], ends)
        talk = Talk(boxes[0], boxes[1])
        stack.callback(talk.close)
        while not widest(boxes[0], "laptop"):
            talk.go(1)
        yield made


@contextlib.contextmanager
def beside(boxes: list[Box]) -> Iterator[tuple[End, End]]:
    """Lay the plain WireGuard, with the mesh's MTU and as many peers."""
    ends = []
    try:
        for host, each in enumerate(boxes, 1):
            with each.space.inside():
                kernel = Kernel()
            end = End(
                space=each.space,
                kernel=kernel,
                uplink="eth0",
                outer=Endpoint(ip_address(f"192.0.2.{host}"), 51999),
                private=private(),
                inner=IPv6Address(f"fe80::{host}"),
                stable=IPv6Address(f"fdcc::{host}"),
            )
            ends.append(end)
            end.start()
            end.configure()
            kernel.set_mtu(end.index, WIDEST)
            kernel.add_address(1, ip_interface(f"{end.stable}/128"))
        for end, far in ((ends[0], ends[1]), (ends[1], ends[0])):
            end.meet(far)
            others = [Change(key=private(), allowed=frozenset()) for _ in range(29)]
            end.wireguard.change(others)
            to = ip_network(far.stable)
            # By a protocol that is not the mesh's: the agent would take it away.
            end.kernel.set_route(Route(to=to, index=end.index, source=end.stable, protocol=STATIC))
        yield ends[0], ends[1]
    finally:
        for end in ends:
            end.stop_daemon()


def widest(box: Box, peer: str) -> bool:
    """Say whether the path takes the longest packets already."""
    path = box.path(peer)
    return path is not None and path["mtu"] == WIDEST
