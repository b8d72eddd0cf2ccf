"""False moves: nothing is cut, and both paths go over one uplink that is crowded and loses some."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import threading
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.lab.agents import Box, Talk, content, meet
from tests.lab.internet import Town
from tests.lab.spaces import join
from tests.mesh.signers import signed

from bench.harness.row import BenchError, Bound, Of, Row, Sample, Unit
from bench.mesh.pairs import Pair
from clan.mesh.chart.content import KnownAddress

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness.ground import Ground
    from bench.harness.row import Measure

UPLINK = "10mbit"
QUEUE = "1s"
OFFERED = 12_000_000
"""Bits a second that are sent into it: more than leave it."""
BURST, DATAGRAM = 10, 1400
SO_SNDBUFFORCE = 32
"""Linux's number: asm-generic/socket.h."""
LOSS = """\
table inet loss {
    chain in {
        type filter hook prerouting priority -400;
        iifname "eth0" numgen random mod 100 < 5 drop
    }
}
"""
CROWDED = ("192.0.2.2", 9)
"""Where that is sent: nobody listens."""
FULL = 0.5
"""Seconds of round trip, at least, that show a full queue."""
FALSE = 600.0
"""Seconds for which nobody may move."""


@contextlib.contextmanager
def crowded(ground: Ground) -> Iterator[Pair]:
    """Make a pair whose two paths go over one uplink at each end, IPv4 and IPv6, and lose 5 %."""
    ground.report("a pair with both paths on one crowded uplink")
    with contextlib.ExitStack() as stack:
        town = Town(ground.folder / "crowded")
        stack.callback(town.remove)
        one, other = town.boxes("desk", "laptop")
        space = town.internet.space
        space.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        for number, each in enumerate((one, other), 1):
            join(each.space, "eth0", space, f"to{number}")
            for network, size in ((f"192.0.{number}.", 24), (f"2001:db8:{number}::", 64)):
                space.run(f"ip addr add {network}1/{size} dev to{number}")
                each.space.run(f"ip addr add {network}2/{size} dev eth0")
                each.space.run(f"ip route add default via {network}1 dev eth0")
        known(one, other)
        pair = Pair(one, other)
        pair.settle()
        for each in pair.both:
            with each.space.inside():
                subprocess.run(["nft", "-f", "-"], input=LOSS.encode(), check=True)
            words = f"tc qdisc add dev eth0 root tbf rate {UPLINK} burst 20kb latency {QUEUE}"
            each.space.run(words)
        yield pair


def known(*boxes: Box) -> None:
    """Start the agents with a map that has both addresses of each."""
    first = meet(boxes)
    said = content(boxes)
    machines = tuple(
        replace(
            each,
            addresses=tuple(
                KnownAddress(host=host)
                for number, box in enumerate(boxes, 1)
                if box.name == each.name
                for host in (f"192.0.{number}.2", f"2001:db8:{number}::2")
            ),
        )
        for each in said.machines
    )
    for each in boxes:
        each.take(signed(replace(said, machines=machines), after=[first]))


def false(ground: Ground) -> Measure:
    """Count how often either end takes another path though nothing was cut."""
    at = ground.once(crowded)

    def measure() -> Sample:
        with flood(at), contextlib.closing(Talk(at.one, at.other)) as talk:
            talking = threading.Thread(target=talk.go, args=(FALSE,))
            talking.start()
            seen = [(at.one, at.other.name), (at.other, at.one.name)]
            before = [each.ask()["peers"][peer]["path"] for each, peer in seen]
            moves = 0
            while talking.is_alive():
                time.sleep(0.25)
                now = [each.ask()["peers"][peer]["path"] for each, peer in seen]
                moves += sum(a != b for a, b in zip(before, now, strict=True))
                before = now
            trips = sorted(talk.answered[n] - talk.sent[n] for n in talk.answered)
            if len(trips) < len(talk.sent) / 2:
                raise BenchError("most of what was said on the crowded uplink was lost")
            trip = trips[len(trips) // 2]
            if trip < FULL:
                raise BenchError(f"the uplink's queue was not full: {trip * 1000:.0f} ms")
        return Sample(value=float(moves), seconds={"round trip": trip})

    return measure


@contextlib.contextmanager
def flood(at: Pair) -> Iterator[None]:
    """Send more into one's uplink than leaves it, until its queue is full and from then on."""
    with at.one.space.inside():
        out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    # Otherwise what a socket may have under way, and not the queue, is what is full.
    out.setsockopt(socket.SOL_SOCKET, SO_SNDBUFFORCE, 8 << 20)
    stop = threading.Event()

    def send() -> None:
        while not stop.wait(BURST * DATAGRAM * 8 / OFFERED):
            for _ in range(BURST):
                with contextlib.suppress(OSError):
                    out.sendto(bytes(DATAGRAM), CROWDED)

    sending = threading.Thread(target=send)
    sending.start()
    try:
        time.sleep(10)
        yield
    finally:
        stop.set()
        sending.join()
        out.close()


ROWS = (
    Row(
        name="false",
        what="moves in ten minutes of 5 % loss, both paths on an uplink with a second of queue",
        unit=Unit.MOVES,
        bound=Bound(limit=0),
        prepare=false,
        of=Of.HIGHEST,
        rounds=1,
        needs_root=True,
    ),
)
