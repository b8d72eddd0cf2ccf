"""What a machine with 29 peers costs while it does nothing."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from tests.lab.agents import Box, busy, content, meet
from tests.lab.internet import Town
from tests.mesh.signers import fresh, key, machine, signed

from bench.harness.row import Bound, Measure, Row, Sample, Unit
from bench.mesh.pairs import wait
from clan.mesh.chart import links
from clan.mesh.chart.links import LinkRecord, PublishedInterface, Served
from clan.mesh.tls.told import Told

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bench.harness.ground import Ground

SECONDS_A_MONTH = 30 * 86400.0
WATCHED = 120.0
"""Seconds for which an idle machine is watched at least."""
PEERS = 29
SLOTS = 4
"""Interfaces that it has at least: for its LAN, for the internet, for two relays."""


class Idle:
    """A machine behind a router with 29 peers, two of them relays, that does nothing."""

    def __init__(self, box: Box) -> None:
        self.box = box

    def bytes(self) -> float:
        """Return the bytes that went over its uplink so far, both ways."""
        folder = "/sys/class/net/eth0/statistics"
        return sum(int(self.box.space.run(f"cat {folder}/{way}_bytes")) for way in ("rx", "tx"))

    def busy(self) -> float:
        """Return the seconds of a processor that all processes of its mesh have used."""
        own = [each.pid for each in (self.box.agent, self.box.streams) if each]
        daemons = [int(each.read_text()) for each in self.box.daemons.glob("clan-*")]
        return sum(busy(each) for each in [*own, *daemons])

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
    ground.report(f"a machine with {PEERS} peers that does nothing")
    town = Town(ground.folder / "idle")
    try:
        desk, *relays = boxes = town.boxes("desk", "berlin", "oslo")
        addresses = {each.name: town.internet.plug(each) for each in relays}
        town.home().plug(desk)
        for each in boxes:
            each.tell(Told(served=Served(port=443)) if each in relays else Told())
        first = meet(boxes, addresses)
        said = content(boxes, addresses)
        others = tuple(
            machine(f"m{number:02}", links=published(f"m{number:02}")) for number in range(27)
        )
        everyone = tuple(sorted((*said.machines, *others), key=lambda each: each.name))
        second = signed(replace(said, machines=everyone), after=[first])
        for each in boxes:
            each.take(second)
        wait(lambda: len(desk.ask()["peers"]) == len(everyone) - 1, f"{PEERS} peers")
        wait(lambda: desk.space.run("ip -o link").count(": clan-") >= SLOTS, "slots for relays")
        time.sleep(60)  # the calls on a new LAN, and the first conversations, are over
        yield Idle(desk)
    finally:
        town.remove()


def since(count: Callable[[Idle], float]) -> Callable[[Ground], Measure]:
    """Count what an idle machine used from one sample to the next: by the second."""

    def prepare(ground: Ground) -> Measure:
        at = ground.once(idle)
        last = [(time.monotonic(), count(at))]

        def measure() -> Sample:
            begun, before = last[0]
            time.sleep(max(0.0, begun + WATCHED - time.monotonic()))
            last[0] = now, used = time.monotonic(), count(at)
            return Sample(value=(used - before) / (now - begun))

        return measure

    return prepare


def scaled(measured: Callable[[Ground], Measure], factor: float) -> Callable[[Ground], Measure]:
    """Return the same, multiplied."""

    def prepare(ground: Ground) -> Measure:
        measure = measured(ground)
        return lambda: Sample(value=measure().value * factor)

    return prepare


def memory(ground: Ground) -> Measure:
    """Count what the agent of an idle machine has of memory to itself."""
    at = ground.once(idle)
    return lambda: Sample(value=at.memory())


ROWS = (
    Row(
        name="idle processor",
        what="seconds of a processor in 100, all processes, 29 peers, nothing to do",
        unit=Unit.SECONDS,
        bound=Bound(limit=1.0),
        prepare=scaled(since(Idle.busy), 100),
        needs_root=True,
    ),
    Row(
        name="idle wire",
        what="bytes on the wire in a month, the same machine",
        unit=Unit.MEGABYTES,
        bound=Bound(limit=100),
        prepare=scaled(since(Idle.bytes), SECONDS_A_MONTH / 1e6),
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
)
