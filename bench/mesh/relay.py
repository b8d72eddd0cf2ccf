"""A pair by way of a relay's kernel, against the same two routers directly, and against DERP.

DERP stands behind routers like these: frames cross as many cables, and are translated as often.
Both ends are behind symmetric routers. The direct way needs a static port forward at one of them,
which is there for both sides of the comparison: each pair of samples differs by an endpoint alone.
"""

from __future__ import annotations

import contextlib
from ipaddress import IPv6Address, ip_address, ip_network
from typing import TYPE_CHECKING

from tests.lab.links import End, private
from tests.lab.relays import WIREGUARD, World, rules

from bench.harness.figures import ratio
from bench.harness.row import BenchError, Bound, Measure, Row, Sample, Unit
from bench.mesh.beside import derp_behind_routers, through
from bench.mesh.throughput import carried, real_frames
from clan.mesh.agent.wireguard import Change, Endpoint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.harness.ground import Ground

JOINED = 1.0
"""Seconds in which the relay knows a pair again."""
LEAST = 1000
"""Datagrams, or batches, that a transfer by way of the relay makes there at least."""
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
            real_frames(*world.spaces.values())

    def close(self) -> None:
        """Stop what runs; the namespaces are another's."""
        for end in self.ends:
            end.stop_daemon()

    def transfer(self, *, relayed: bool) -> float:
        """Return the seconds that a gigabyte takes by way of the relay, or directly."""
        one, other = self.ends
        # Nobody had a turn since the last one: routers and the relay may have forgotten the pair.
        self.world.join()
        self.world.wait(JOINED)
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
        one.space.run(f"ping -c 3 -i 0.2 {other.stable}")
        self.world.counted()
        seconds = carried(one.space, other.space, str(other.stable))
        if relayed != (self.world.counted() > LEAST):
            raise BenchError("what was to go by the relay did not, or the other way round")
        return seconds


@contextlib.contextmanager
def _laid(ground: Ground, *, real: bool) -> Iterator[Pair]:
    world = World(ground.folder / ("real" if real else "offloads"))
    try:
        with contextlib.closing(Pair(world, real=real)) as pair:
            yield pair
    finally:
        world.remove()


@contextlib.contextmanager
def real(ground: Ground) -> Iterator[Pair]:
    """Have frames of 1500 bytes on every cable."""
    with _laid(ground, real=True) as pair:
        yield pair


@contextlib.contextmanager
def offloads(ground: Ground) -> Iterator[Pair]:
    """Have the cables' offloads: the kernel passes batches on as they are."""
    with _laid(ground, real=False) as pair:
        yield pair


def directly(lay: Callable[[Ground], AbstractContextManager[Pair]]) -> Callable[[Ground], Measure]:
    """Compare a transfer by way of the relay with a direct one."""

    def prepare(ground: Ground) -> Measure:
        pair = ground.once(lay)

        def measure() -> Sample:
            of = {
                "direct": pair.transfer(relayed=False),
                "relayed": pair.transfer(relayed=True),
            }
            return Sample(value=ratio(of), seconds=of)

        return measure

    return prepare


def with_derp(ground: Ground) -> Measure:
    """Compare one by way of the relay with Tailscale's through its DERP."""
    pair = ground.once(real)
    derp = through(derp_behind_routers, ground)

    def measure() -> Sample:
        name, seconds = derp()
        of = {name: seconds, "relayed": pair.transfer(relayed=True)}
        return Sample(value=ratio(of), seconds=of)

    return measure


ROWS = (
    Row(
        name="relay",
        what="throughput by way of a relay against directly, frames of 1500 bytes",
        unit=Unit.TIMES,
        bound=Bound(limit=0.7, at_least=True),
        prepare=directly(real),
        needs_root=True,
    ),
    Row(
        name="relay offloads",
        what="the same with the cables' offloads on",
        unit=Unit.TIMES,
        bound=Bound(limit=0.9, at_least=True),
        prepare=directly(offloads),
        needs_root=True,
    ),
    Row(
        name="relay DERP",
        what="throughput by way of a relay against Tailscale through its DERP",
        unit=Unit.TIMES,
        bound=Bound(limit=4, at_least=True),
        prepare=with_derp,
        needs_root=True,
    ),
)
