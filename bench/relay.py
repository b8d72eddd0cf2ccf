"""`scripts/bench relay`: a pair by way of a relay's kernel, against the same two routers directly.

Both ends are behind symmetric routers. The direct way needs a static port forward at one of them,
which is there for both sides of the comparison: each pair of samples differs by an endpoint alone.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from tests.lab.links import End, private
from tests.lab.relays import WIREGUARD, World, rules

from bench.harness.figures import ratio
from bench.harness.row import Bench, BenchError, Bound, Measure, Row, Sample, Unit
from clan.mesh.agent.wireguard import Change, Endpoint

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness.ground import Ground

AMOUNT = "300M"
"""Bytes of one transfer, for iperf3."""
LEAST = 1000
"""Datagrams, or batches, that a transfer by way of the relay makes there at least."""
LIMIT = 120.0
"""Seconds that a transfer may take."""
OFFLOADS = "tso off gso off gro off tx-udp-segmentation off"
FORWARD = f"""\
table ip forwarded {{
    chain to {{
        type nat hook prerouting priority dstnat;
        iifname "wan" udp dport {WIREGUARD} dnat to 10.2.0.2
    }}
}}
add rule ip filter forwarded ct status dnat accept
"""
DIRECT = Endpoint(ip_address("192.0.2.2"), WIREGUARD)
"""The forward at the second router."""


class Pair:
    """Two WireGuard ends behind routers, registered with a relay; `real` is without offloads."""

    def __init__(self, world: World, *, real: bool) -> None:
        self.world = world
        world.join()
        rules(world.spaces["r2"], FORWARD)
        self.ends: list[End] = []
        for number, node in enumerate((world.one, world.other), 1):
            node.wireguard.close()
            inner = IPv6Address(f"fe80::{number}")
            end = End(
                space=node.space,
                kernel=node.kernel,
                uplink="eth0",
                outer=Endpoint(ip_address(f"10.{number}.0.2"), WIREGUARD),
                private=private(),
                inner=inner,
                stable=IPv6Address(f"fdcc::{number}"),
            )
            end.start()
            end.configure()
            node.space.run(f"ip addr add {end.stable}/64 dev {end.name} nodad")
            node.space.run(f"ip link set {end.name} mtu 1420")
            self.ends.append(end)
        if real:
            for space in world.spaces.values():
                for line in space.run("ip -o link show type veth").splitlines():
                    space.run(f"ethtool -K {line.split()[1].partition('@')[0]} {OFFLOADS}")
        with self.ends[1].space.inside():
            self.server = subprocess.Popen(["iperf3", "-s"], stdout=subprocess.DEVNULL)

    def close(self) -> None:
        """Stop what runs; the namespaces are another's."""
        self.server.kill()
        self.server.wait()
        for end in self.ends:
            end.stop_daemon()

    def transfer(self, *, relayed: bool) -> float:
        """Return the seconds that a transfer takes by way of the relay, or directly."""
        one, other = self.ends
        place = self.world.one.place(self.world.other)
        relay = Endpoint(ip_address(place.host), place.port)
        for end, peer, direct in ((one, other, DIRECT), (other, one, None)):
            end.wireguard.change(
                [
                    Change(key=peer.public, remove=True),
                    Change(
                        key=peer.public,
                        endpoint=relay if relayed else direct,
                        allowed=frozenset({ip_network(peer.inner), ip_network(peer.stable)}),
                    ),
                ]
            )
        words = ["iperf3", "-J", "-n", AMOUNT, "-c", str(other.stable)]
        with one.space.inside():
            one.space.run(f"ping -c 3 -i 0.2 {other.stable}")
            done = subprocess.run(words, capture_output=True, text=True, timeout=LIMIT, check=False)
        told = json.loads(done.stdout)
        if "error" in told:
            raise BenchError(f"iperf3: {told['error']}")
        if relayed != (self.world.counted() > LEAST):
            raise BenchError("what was to go by the relay did not, or the other way round")
        seconds: float = told["end"]["sum_received"]["seconds"]
        return seconds


def _measure(ground: Ground, *, real: bool) -> Measure:
    pair = ground.stack.enter_context(_laid(ground, real=real))

    def measure() -> Sample:
        of = {
            "direct": pair.transfer(relayed=False),
            "relayed": pair.transfer(relayed=True),
        }
        return Sample(value=ratio(of), seconds=of)

    return measure


@contextlib.contextmanager
def _laid(ground: Ground, *, real: bool) -> Iterator[Pair]:
    world = World(ground.folder / ("real" if real else "offloads"))
    try:
        with contextlib.closing(Pair(world, real=real)) as pair:
            yield pair
    finally:
        world.remove()


def real(ground: Ground) -> Measure:
    """Compare with frames of 1500 bytes on every cable."""
    return _measure(ground, real=True)


def offloads(ground: Ground) -> Measure:
    """Compare with the cables' offloads on: the kernel passes batches on as they are."""
    return _measure(ground, real=False)


BENCH = Bench(
    title="a relay in the kernel",
    rows=(
        Row(
            name="real",
            what="throughput by way of a relay against directly, frames of 1500 bytes",
            unit=Unit.TIMES,
            bound=Bound(limit=0.7, at_least=True),
            prepare=real,
            needs_root=True,
        ),
        Row(
            name="offloads",
            what="the same with the cables' offloads on",
            unit=Unit.TIMES,
            bound=Bound(limit=0.9, at_least=True),
            prepare=offloads,
            needs_root=True,
        ),
    ),
)
