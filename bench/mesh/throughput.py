"""What the mesh takes of a WireGuard's throughput."""

from __future__ import annotations

import contextlib
import json
import subprocess
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING, NamedTuple

from tests.lab.agents import Box, Talk, content, meet
from tests.lab.internet import Town
from tests.lab.links import End, private
from tests.lab.spaces import Space, join
from tests.mesh.signers import machine, signed

from bench.harness.row import BenchError, Bound, Measure, Row, Sample, Unit
from bench.mesh.idle import published
from bench.mesh.pairs import wait
from clan.mesh.agent.kernel import Kernel
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.agent.wireguard import Change, Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness.ground import Ground

SECONDS = 5
"""Of a transfer."""
WIDEST = 1420
"""Bytes of the longest packet inside a link over Ethernet."""
PORT = 51999
OTHERS = 29
LONGEST = 2 * 3600
"""Seconds that a benchmark takes at most."""


def real_frames(*spaces: Space) -> None:
    """Have frames of 1500 bytes on all cables of these machines, as if they were apart."""
    for space in spaces:
        for line in space.run("ip -o link show type veth").splitlines():
            cable = line.split()[1].partition("@")[0]
            space.run(f"ethtool -K {cable} tso off gso off gro off tx-udp-segmentation off")


def carried(one: Space, other: Space, address: str, amount: str = f"-t {SECONDS} -O 1") -> float:
    """Return the seconds that a gigabyte takes by TCP to an address of the other. BenchError."""
    words = ["ip", "netns", "exec", other.name, "iperf3", "-s", "-1", "-B", address]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL) as server:
        try:
            wait(lambda: ":5201" in other.run("ss -Hltn"), "iperf3")
            words = ["ip", "netns", "exec", one.name, *f"iperf3 -J -c {address} {amount}".split()]
            done = subprocess.run(words, capture_output=True, text=True, check=False)
        finally:
            server.kill()
    try:
        return 8e9 / float(json.loads(done.stdout)["end"]["sum_received"]["bits_per_second"])
    except (ValueError, KeyError, ZeroDivisionError):
        raise BenchError(f"iperf3 measured nothing: {done.stdout[-200:]}") from None


class Pair(NamedTuple):
    """Two machines, and the second's address in their tunnel."""

    one: Space
    other: Space
    address: str


def throughput(ground: Ground) -> Measure:
    """Compare TCP over stable addresses with TCP over a WireGuard that nobody manages."""
    at = ground.once(plain)
    turn = [0]

    def measure() -> Sample:
        turn[0] += 1
        # Whoever is second finds a warmer computer.
        order = list(at) if turn[0] % 2 else list(at)[::-1]
        of = {name: carried(*at[name]) for name in order}
        return Sample(value=of["WireGuard"] / of["mesh"], seconds={name: of[name] for name in at})

    return measure


@contextlib.contextmanager
def plain(ground: Ground) -> Iterator[dict[str, Pair]]:
    """Make two machines on a LAN, each with 30 peers, and two with a WireGuard and no clan."""
    ground.report("a WireGuard without clan beside the mesh")
    with contextlib.ExitStack() as stack:
        town = Town(ground.folder / "plain")
        stack.callback(town.remove)
        boxes = town.boxes("desk", "laptop")
        join(boxes[0].space, "eth0", boxes[1].space, "eth0")
        for host, each in enumerate(boxes, 1):
            each.space.run(f"ip addr add 192.0.2.{host}/24 dev eth0")
            real_frames(each.space)
        first = meet(boxes)
        others = tuple(
            machine(f"m{number:02}", links=published(f"m{number:02}")) for number in range(OTHERS)
        )
        said = content(boxes)
        everyone = tuple(sorted((*said.machines, *others), key=lambda each: each.name))
        for each in boxes:
            each.take(signed(replace(said, machines=everyone), after=[first]))
        ends = stack.enter_context(beside())
        with contextlib.closing(Talk(boxes[0], boxes[1])) as talk:
            while not all(map(widest, boxes, ("laptop", "desk"))):
                talk.go(1)
        stack.enter_context(talking(*boxes))
        yield {
            "mesh": Pair(boxes[0].space, boxes[1].space, str(boxes[1].address)),
            "WireGuard": Pair(ends[0].space, ends[1].space, str(ends[1].stable)),
        }


@contextlib.contextmanager
def talking(one: Box, other: Box) -> Iterator[None]:
    """Have the two talk all the while: agents of a quiet pair do less, beside either tunnel."""
    words = ["ip", "netns", "exec", one.space.name, "ping", "-q", "-i", "1", "-w", str(LONGEST)]
    with subprocess.Popen([*words, str(other.address)], stdout=subprocess.DEVNULL) as talk:
        try:
            yield
        finally:
            talk.terminate()


@contextlib.contextmanager
def beside() -> Iterator[tuple[End, End]]:
    """Lay a WireGuard between two machines, with the mesh's MTU and as many peers."""
    ends = list[End]()
    with contextlib.ExitStack() as stack:
        spaces = [Space() for _ in range(2)]
        for each in spaces:
            stack.callback(each.remove)
        join(spaces[0], "eth0", spaces[1], "eth0")
        for host, space in enumerate(spaces, 1):
            real_frames(space)
            with space.inside():
                kernel = Kernel()
            end = End(
                space=space,
                kernel=kernel,
                uplink="eth0",
                outer=outside(space),
                private=private(),
                inner=IPv6Address(f"fe80::{host}"),
                stable=IPv6Address(f"fdcc::{host}"),
            )
            ends.append(end)
            stack.callback(end.stop_daemon)
            end.start()
            end.configure()
            kernel.set_mtu(end.index, WIDEST)
            kernel.add_address(1, ip_interface(f"{end.stable}/128"))
        for end, far in ((ends[0], ends[1]), (ends[1], ends[0])):
            cable = end.kernel.interface("eth0")
            zone = cable.index if cable else 0
            end.meet(far)
            others = [Change(key=private(), allowed=frozenset()) for _ in range(OTHERS)]
            there = Endpoint(far.outer.address, PORT, zone)
            with end.space.inside():  # where the zone means something
                end.wireguard.change([*others, Change(key=far.public, endpoint=there)])
            to = ip_network(far.stable)
            end.kernel.set_route(Route(to=to, index=end.index, source=end.stable))
        yield ends[0], ends[1]


def outside(space: Space) -> Endpoint:
    """Return where a machine is found on its cable: by IPv6, as the mesh finds it there."""
    shown = json.loads(space.run("ip -6 -j addr show dev eth0 scope link"))
    return Endpoint(ip_address(shown[0]["addr_info"][0]["local"]), PORT)


def widest(box: Box, peer: str) -> bool:
    """Say whether the path takes the longest packets already."""
    path = box.path(peer)
    return path is not None and path["mtu"] == WIDEST


ROWS = (
    Row(
        name="throughput",
        what="TCP over stable addresses against the same WireGuard without clan",
        unit=Unit.TIMES,
        bound=Bound(limit=0.95, at_least=True),
        prepare=throughput,
        samples=6,
        needs_root=True,
    ),
)
