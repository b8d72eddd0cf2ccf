"""WireGuard in streams on TCP 443, by way of a relay.

Two machines and the relay are network namespaces with cables of 1500-byte frames: segmentation and
receive offloads are off, as between real network cards of other machines. WireGuard is
wireguard-go. All of them, the load and the pings share this computer's processors.
"""

from __future__ import annotations

import subprocess
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from tests.lab.links import until
from tests.lab.stations import Trio, trio

from bench.harness.figures import ratio
from bench.harness.row import BenchError, Bound, Measure, Row, Sample, Unit
from bench.mesh.beside import derp_at_hand, through
from bench.mesh.throughput import carried, real_frames

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.harness.ground import Ground

MTU = 1380
SECONDS = 5
PINGS = 60
LOSS = """\
table inet loss {
    chain in {
        type filter hook prerouting priority -400;
        iifname "eth*" numgen random mod 1000 < 10 drop
    }
}
"""
SLOW = "20mbit"


@contextmanager
def plain(ground: Ground) -> Iterator[Trio]:
    """Lay the cables and have the machines talk."""
    with laid(ground, "plain") as made:
        yield made


@contextmanager
def lossy(ground: Ground) -> Iterator[Trio]:
    """Lay the same, with every hundredth packet lost wherever it comes in."""
    with laid(ground, "lossy") as made:
        for each in made.all:
            with each.space.inside():
                subprocess.run(["nft", "-f", "-"], input=LOSS.encode(), check=True)
        yield made


@contextmanager
def slow(ground: Ground) -> Iterator[Trio]:
    """Lay the same, with a slow line to the second machine that queues up to a second."""
    with laid(ground, "slow") as made:
        made.relay.space.run(f"tc qdisc add dev eth2 root tbf rate {SLOW} burst 20kb latency 1s")
        yield made


@contextmanager
def laid(ground: Ground, name: str) -> Iterator[Trio]:
    """Yield two machines with a stream each to a relay, and WireGuard between them."""
    with trio(ground.folder / f"tls-{name}") as made:
        made.want()
        real_frames(*(each.space for each in made.all))
        made.start()
        made.make_wireguard(MTU)
        until(lambda: made.one.pings(made.other))
        yield made


def throughput(ground: Ground) -> Measure:
    """Compare one TCP connection inside with one through Tailscale's DERP."""
    at = ground.once(plain)
    derp = through(derp_at_hand, ground)

    def measure() -> Sample:
        name, seconds = derp()
        of = {name: seconds, "stream": seconds_of(at)}
        return Sample(value=ratio(of), seconds=of)

    return measure


def with_loss(ground: Ground) -> Measure:
    """Measure how long a gigabyte takes where packets are lost."""
    at = ground.once(lossy)
    return lambda: Sample(value=seconds_of(at))


def delay(lay: Callable[[Ground], Any]) -> Callable[[Ground], Measure]:
    """Measure how much longer a ping takes while such a connection sends all it can."""

    def prepare(ground: Ground) -> Measure:
        at = ground.once(lay)

        def measure() -> Sample:
            idle = pings(at)
            loaded = load(at)
            time.sleep(1)
            of = {"under load": pings(at), "idle": idle}
            finish(loaded)
            return Sample(value=of["under load"] - of["idle"], seconds=of)

        return measure

    return prepare


def load(at: Trio) -> subprocess.Popen[str]:
    """Begin a TCP connection that sends all it can."""
    there = ["ip", "netns", "exec", at.other.space.name, "iperf3", "--server", "--one-off"]
    with subprocess.Popen([*there, "--daemon"], stdout=subprocess.DEVNULL):
        pass
    until(lambda: ":5201 " in at.other.space.run("ss -Htln"))
    here = ["ip", "netns", "exec", at.one.space.name, "iperf3", "--json", "--time", str(SECONDS)]
    return subprocess.Popen(
        [*here, "--client", str(at.other.inner)], stdout=subprocess.PIPE, text=True
    )


def finish(sending: subprocess.Popen[str]) -> None:
    """Wait until it ends. Raises BenchError if it did not send."""
    output, _ = sending.communicate()
    if sending.returncode:
        raise BenchError(f"iperf3 did not send: {output[-200:]}")


def seconds_of(at: Trio) -> float:
    """Return the seconds a gigabyte takes, measured as through DERP. Raises BenchError."""
    return carried(at.one.space, at.other.space, str(at.other.inner))


def pings(at: Trio) -> float:
    """Return the seconds within which 95 of a hundred pings are answered. Raises BenchError."""
    words = f"ping -i 0.05 -W 2 -c {PINGS} {at.other.inner}"
    text = subprocess.run(
        ["ip", "netns", "exec", at.one.space.name, *words.split()],
        check=False,
        capture_output=True,
        text=True,
    ).stdout
    answered = [line.partition("time=")[2] for line in text.splitlines() if "time=" in line]
    times = sorted(float(each.split()[0]) for each in answered)
    # What is not answered took longest.
    times += [2000.0] * (PINGS - len(times))
    return times[PINGS * 95 // 100] / 1000


ROWS = (
    Row(
        name="stream",
        what="a TCP connection in two streams by a relay, against Tailscale through its DERP",
        unit=Unit.TIMES,
        bound=Bound(limit=4, at_least=True),
        prepare=throughput,
        samples=2,
        needs_root=True,
    ),
    Row(
        name="stream loss",
        what="a gigabyte in it with every hundredth packet lost on each cable, each way",
        unit=Unit.SECONDS,
        bound=None,
        prepare=with_loss,
        needs_root=True,
    ),
    Row(
        name="stream delay",
        what="how much longer 95 % of pings take while it sends all it can",
        unit=Unit.SECONDS,
        bound=Bound(limit=0.1),
        prepare=delay(plain),
        needs_root=True,
    ),
    Row(
        name="slow stream",
        what=f"the same on a line of {SLOW}/s that queues up to a second",
        unit=Unit.SECONDS,
        bound=Bound(limit=0.1),
        prepare=delay(slow),
        needs_root=True,
    ),
)
