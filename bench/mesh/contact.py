"""The first words between two machines that never met, both behind routers that translate."""

from __future__ import annotations

import contextlib
import itertools
import time
from typing import TYPE_CHECKING

from tests.lab.agents import Talk, meet
from tests.lab.internet import Town

from bench.harness.row import BenchError, Bound, Measure, Row, Sample, Unit
from bench.mesh.pairs import wait

if TYPE_CHECKING:
    from bench.harness.ground import Ground

PATIENCE = 30.0


def contact(ground: Ground) -> Measure:
    """Time from the first datagram until one was answered, and the path is a direct one."""
    numbers = itertools.count()

    def measure() -> Sample:
        town = Town(ground.folder / f"contact{next(numbers)}")
        with contextlib.ExitStack() as stack:
            stack.callback(town.remove)
            vps, desk, laptop = town.boxes("vps", "desk", "laptop")
            addresses = {"vps": town.internet.plug(vps)}
            for each in (desk, laptop):
                town.home().plug(each)
            chart = meet([vps, desk, laptop], addresses)
            wait(lambda: desk.serial() == laptop.serial() == chart.serial, "the map")
            wait(lambda: desk.alive("vps") and laptop.alive("vps"), "the server")
            talk = stack.enter_context(contextlib.closing(Talk(desk, laptop)))
            begun = time.monotonic()
            answered = 0.0
            while (desk.path("laptop") or {}).get("kind") != "internet" or not talk.answered:
                talk.go(0.05)
                if talk.answered and not answered:
                    answered = time.monotonic() - begun
                if time.monotonic() > begun + PATIENCE:
                    raise BenchError("two machines did not meet")
            direct = time.monotonic() - begun
        return Sample(value=direct, seconds={"answered": answered, "direct": direct})

    return measure


ROWS = (
    Row(
        name="contact",
        what="first contact of two machines behind masquerade, until the path is direct",
        unit=Unit.SECONDS,
        bound=Bound(limit=3),
        prepare=contact,
        needs_root=True,
    ),
)
