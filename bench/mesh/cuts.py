"""What a way that fails costs those who talk: silent cuts, pulled cables, moves."""

from __future__ import annotations

import contextlib
import time
from functools import partial
from typing import TYPE_CHECKING

from tests.lab.agents import Transfer

from bench.harness.row import BenchError, Bound, Of, Row, Sample, Unit
from bench.mesh.pairs import (
    FAR,
    NEAR,
    TOGETHER,
    UPLINKS,
    Pair,
    Session,
    at_once,
    far,
    near,
    pairs,
    wait,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager

    from bench.harness.ground import Ground
    from bench.harness.row import Measure

CUTS = 20
"""Silent cuts in a round; five rounds make a hundred."""
PULLS = 12
IDLE_PAIRS = 16
IDLE = 600.0
"""Seconds in which a session says nothing."""
LAST = "192.0.2.200/32"
"""An address that means nothing: what has an agent look at its network."""


def one_by_one(batch: Callable[[], list[float]], label: str) -> Measure:
    """Hand out what comes of doing something to several pairs at once, a sample at a time."""
    left: list[float] = []

    def measure() -> Sample:
        if not left:
            left.extend(batch())
        value = left.pop(0)
        return Sample(value=value, seconds={label: value})

    return measure


def cut(lay: Callable[[Ground], AbstractContextManager[list[Pair]]]) -> Callable[[Ground], Measure]:
    """Time the gap in 50 datagrams a second when the path in use falls silent."""

    def prepare(ground: Ground) -> Measure:
        at = ground.once(lay)
        return one_by_one(lambda: at_once(lambda e: e.gap(e.ready_to_cut, e.mend), at), "median")

    return prepare


def carrier(ground: Ground) -> Measure:
    """Time the same when the cable of the path is pulled at one end, or loses its address."""
    at = ground.once(near)
    turn = [0]

    def pull(pair: Pair) -> float:
        def link(uplink: str, way: str) -> None:
            pair.one.space.run(f"ip link set {uplink} {way}")

        return pair.gap(lambda up: partial(link, up, "down"), lambda up: link(up, "up"))

    def drop(pair: Pair) -> float:
        def address(uplink: str, way: str) -> None:
            number = UPLINKS.index(uplink) + 1
            pair.one.space.run(f"ip addr {way} 192.0.{number}.1/24 dev {uplink}")
            if way == "del":
                pair.one.space.run(f"ip -6 addr flush dev {uplink}")
            else:
                # The kernel gives it its own address of IPv6 when it comes up.
                pair.one.space.run(f"ip link set {uplink} down")
                pair.one.space.run(f"ip link set {uplink} up")

        return pair.gap(lambda up: partial(address, up, "del"), lambda up: address(up, "add"))

    def batch() -> list[float]:
        turn[0] += 1
        return at_once(pull if turn[0] % 2 else drop, at)

    return one_by_one(batch, "median")


def move(ground: Ground) -> Measure:
    """Count what is lost when the path's uplink begins to cost, so that another is taken."""
    at = ground.once(near)

    def away(pair: Pair) -> float:
        def harm(uplink: str) -> None:
            pair.one.meter(uplink)
            pair.one.space.run(f"ip addr add {LAST} dev lo")

        def mend(_: str) -> None:
            (pair.one.folder / "bin/nmcli").unlink()
            pair.one.space.run(f"ip addr del {LAST} dev lo")

        before = pair.path()
        talk = pair.under(lambda up: partial(harm, up), mend, 1.0, 4.0)
        if pair.path() == before:
            raise BenchError("nobody moved")
        # What was under way when it ended has no answer, moved or not.
        last = max(talk.sent.values()) - 2 * NEAR - 0.1
        sent = {number for number, at in talk.sent.items() if at < last}
        return float(len(sent - talk.answered.keys()))

    def batch() -> list[float]:
        return at_once(away, at)

    left: list[float] = []

    def measure() -> Sample:
        if not left:
            left.extend(batch())
        return Sample(value=left.pop(0))

    return measure


class Sessions:
    """Pairs with an open TCP session each, on which nothing is said."""

    def __init__(self, pairs: list[Pair], sessions: dict[Pair, Session]) -> None:
        self.pairs, self.sessions = pairs, sessions
        self.since = time.monotonic()


@contextlib.contextmanager
def sessions(ground: Ground) -> Iterator[Sessions]:
    """Make pairs, and open a session between each two."""
    ground.report(f"{IDLE_PAIRS} pairs with an open session each")
    with contextlib.ExitStack() as stack:
        made = stack.enter_context(pairs(ground.folder / "sessions", IDLE_PAIRS, 0))
        of = {each: stack.enter_context(contextlib.closing(Session(each))) for each in made}
        for each in of.values():
            each.echo()
        yield Sessions(made, of)


def idle(ground: Ground) -> Measure:
    """Time the gap when the path is cut a second after somebody began to talk again."""
    at = ground.once(sessions)

    def after_idling(pair: Pair) -> float:
        gap = pair.gap(pair.ready_to_cut, pair.mend, before=1.0, after=4.0)
        try:
            at.sessions[pair].echo()
        except OSError as fault:
            raise BenchError(f"a session did not go on: {fault}") from None
        return gap

    def batch() -> list[float]:
        time.sleep(max(0.0, at.since + IDLE - time.monotonic()))
        gaps = at_once(after_idling, at.pairs)
        at.since = time.monotonic()
        return gaps

    return one_by_one(batch, "median")


def changes(ground: Ground) -> Measure:
    """Count TCP connections that do not survive three changes of their path."""
    at = ground.once(near)
    ports = iter(range(9000, 20000))

    def lost(pair: Pair) -> float:
        copy = Transfer(pair.one, pair.other, next(ports), every=0.005, size=10_000)
        try:
            for _ in range(3):
                before = pair.path()
                pair.cut(before)
                try:
                    wait(lambda before=before: on(pair) not in {"", before}, "another path")  # type: ignore[misc]
                    copy.moves()
                finally:
                    pair.mend()
            copy.end()
        except AssertionError:
            return 1.0
        return 0.0

    def measure() -> Sample:
        begun = time.monotonic()
        return Sample(value=lost(at[0]), seconds={"whole": time.monotonic() - begun})

    return measure


def on(pair: Pair) -> str:
    """Return the uplink of the path, empty where none lives."""
    return str((pair.one.path(pair.other.name) or {}).get("uplink", ""))


ROWS = (
    Row(
        name="cut",
        what=f"gap at a silent cut, another way there, {NEAR * 1000:.0f} ms round trip",
        unit=Unit.SECONDS,
        bound=Bound(limit=0.5),
        prepare=cut(near),
        of=Of.P95,
        samples=CUTS,
        needs_root=True,
    ),
    Row(
        name="far cut",
        what=f"the same at {FAR * 1000:.0f} ms round trip",
        unit=Unit.SECONDS,
        bound=Bound(limit=0.5 + 2 * FAR),
        prepare=cut(far),
        of=Of.P95,
        samples=CUTS,
        needs_root=True,
    ),
    Row(
        name="idle cut",
        what=f"the same for {IDLE_PAIRS} pairs at once whose TCP session was idle for ten minutes",
        unit=Unit.SECONDS,
        bound=Bound(limit=0.5),
        prepare=idle,
        of=Of.P95,
        samples=IDLE_PAIRS,
        rounds=1,
        needs_root=True,
    ),
    Row(
        name="carrier",
        what=f"gap when a cable is pulled or an address goes, {NEAR * 1000:.0f} ms round trip",
        unit=Unit.SECONDS,
        bound=Bound(limit=0.13 + NEAR),
        prepare=carrier,
        of=Of.P95,
        samples=PULLS,
        needs_root=True,
    ),
    Row(
        name="move",
        what="datagrams lost when the path's uplink begins to cost",
        unit=Unit.LOST,
        bound=Bound(limit=0),
        prepare=move,
        of=Of.HIGHEST,
        samples=TOGETHER,
        needs_root=True,
    ),
    Row(
        name="changes",
        what="TCP connections that end when their path changes three times",
        unit=Unit.LOST,
        bound=Bound(limit=0),
        prepare=changes,
        of=Of.HIGHEST,
        needs_root=True,
    ),
)
