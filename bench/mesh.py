"""`scripts/bench mesh`: what a lost way costs, what the mesh takes of a link, and what it idles at.

Agents run in network namespaces over wireguard-go; a cable has a delay where that matters.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from bench.harness.meshes import ROUND_TRIP, SECONDS_A_MONTH, idle, pair, plain
from bench.harness.row import Bench, Bound, Measure, Row, Sample, Unit

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bench.harness.ground import Ground

CUTS = 20
"""Silent cuts in a sample; five rounds make a hundred."""
PULLS = 10
WATCHED = 120.0
"""Seconds for which an idle machine is watched."""


def cut(ground: Ground) -> Measure:
    """Time the gap in 50 datagrams a second when the path in use falls silent, p95 of some."""
    at = ground.once(pair)

    def silence(uplink: str) -> None:
        for each in at.both:
            each.cut(uplink)

    def mend(_: str) -> None:
        for each in at.both:
            each.mend()

    def measure() -> Sample:
        gaps = [at.gap(silence, mend, 4.0) for _ in range(CUTS)]
        return Sample(value=p95(gaps), seconds={"p95": p95(gaps), "median": middle(gaps)})

    return measure


def carrier(ground: Ground) -> Measure:
    """Time the same when the cable of the path is pulled at this end, p95 of some."""
    at = ground.once(pair)

    def turn(uplink: str, way: str) -> None:
        at.one.space.run(f"ip link set {uplink} {way}")

    def measure() -> Sample:
        gaps = [
            at.gap(lambda up: turn(up, "down"), lambda up: turn(up, "up"), 2.0)
            for _ in range(PULLS)
        ]
        return Sample(value=p95(gaps), seconds={"p95": p95(gaps), "median": middle(gaps)})

    return measure


def throughput(ground: Ground) -> Measure:
    """Compare TCP over stable addresses with TCP over a WireGuard that nobody manages."""
    at = ground.once(plain)

    def measure() -> Sample:
        of = {"mesh": at.rate(at.stable), "WireGuard": at.rate(at.plain)}
        return Sample(
            value=of["mesh"] / of["WireGuard"],
            seconds={name: 8e9 / rate for name, rate in of.items()},
        )

    return measure


def processor(ground: Ground) -> Measure:
    """Count what all processes of an idle machine's mesh use of a processor: per 100 s."""
    at = ground.once(idle)

    def measure() -> Sample:
        before, begun = at.busy(), time.monotonic()
        time.sleep(WATCHED)
        return Sample(value=(at.busy() - before) / (time.monotonic() - begun) * 100)

    return measure


def wire(ground: Ground) -> Measure:
    """Count the bytes that an idle machine's mesh sends and gets, as for a month."""
    at = ground.once(idle)

    def measure() -> Sample:
        before, begun = at.bytes(), time.monotonic()
        time.sleep(WATCHED)
        month = SECONDS_A_MONTH / (time.monotonic() - begun)
        return Sample(value=(at.bytes() - before) * month / 1e6)

    return measure


def memory(ground: Ground) -> Measure:
    """Count what the agent of an idle machine has of memory to itself."""
    at = ground.once(idle)
    return lambda: Sample(value=at.memory())


def p95(gaps: Sequence[float]) -> float:
    """Return the value that 95 of 100 do not exceed."""
    ordered = sorted(gaps)
    return ordered[max(0, -(-len(ordered) * 95 // 100) - 1)]


def middle(gaps: Sequence[float]) -> float:
    """Return the value in the middle."""
    return sorted(gaps)[len(gaps) // 2]


BENCH = Bench(
    title="the mesh",
    rows=(
        Row(
            name="cut",
            what=f"gap at a silent cut, another way there: p95 of {CUTS}, 20 ms round trip",
            unit=Unit.SECONDS,
            bound=Bound(limit=0.5),
            prepare=cut,
            needs_root=True,
        ),
        Row(
            name="carrier",
            what=f"gap when the path's cable is pulled: p95 of {PULLS}, 20 ms round trip",
            unit=Unit.SECONDS,
            bound=Bound(limit=0.13 + ROUND_TRIP),
            prepare=carrier,
            needs_root=True,
        ),
        Row(
            name="throughput",
            what="TCP over stable addresses against the same WireGuard without clan",
            unit=Unit.TIMES,
            bound=Bound(limit=0.95, at_least=True),
            prepare=throughput,
            samples=2,
            needs_root=True,
        ),
        Row(
            name="idle processor",
            what="seconds of a processor in 100, all processes, 29 peers, nothing to do",
            unit=Unit.SECONDS,
            bound=Bound(limit=1.0),
            prepare=processor,
            needs_root=True,
        ),
        Row(
            name="idle wire",
            what="bytes on the wire in a month, the same machine",
            unit=Unit.MEGABYTES,
            bound=Bound(limit=100),
            prepare=wire,
            needs_root=True,
        ),
        Row(
            name="idle memory",
            what="what the agent has to itself, the same machine",
            unit=Unit.MEBIBYTES,
            bound=Bound(limit=60),
            prepare=memory,
            needs_root=True,
        ),
    ),
)
