"""Many machines on one LAN: all pairs of thirty talk, and one that is removed, with nobody."""

from __future__ import annotations

import contextlib
import itertools
import select
import time
from functools import partial
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import PORT
from tests.lab.links import until
from tests.mesh.signers import content as of
from tests.mesh.signers import signed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

COUNT = 30
TALK = 20.0
"""Seconds in which all pairs of thirty machines on two processors have talked."""
MEMORY = 60.0
"""MiB that an agent may have to itself."""
REMOVED = 5.0
"""Seconds until a removed machine is cut off; a test waits up to five times as long."""


class Crowd:
    """The machines, each with a socket that answers; and the first map of them all."""

    def __init__(self, town: Town, count: int) -> None:
        lan = town.switch()
        self.boxes = town.boxes(*(f"m{number:02}" for number in range(count)))
        self.chart = signed(of(*(each.name for each in self.boxes)))
        for each in self.boxes:
            lan.plug(each)
            each.give(self.chart)
        for each in self.boxes:
            each.start()
        for each in self.boxes:
            until(partial(each.space.run, "ip -6 addr show dev lo to fd00::/8"), 60)
        self.sockets = [each.udp() for each in self.boxes]

    def close(self) -> None:
        for each in self.sockets:
            each.close()

    def talk(self, pairs: Iterable[tuple[int, int]], seconds: float) -> set[tuple[int, int]]:
        """Have machines ask others, each second, until all answered; return who got no answer."""
        left = set(pairs)
        end = time.monotonic() + seconds
        while left and time.monotonic() < end:
            for one, other in sorted(left):
                with contextlib.suppress(OSError):
                    self.sockets[one].sendto(b"?", (str(self.boxes[other].address), PORT))
            self._hear(left, min(end, time.monotonic() + 1))
        return left

    def _hear(self, left: set[tuple[int, int]], end: float) -> None:
        by_address = {str(each.address): number for number, each in enumerate(self.boxes)}
        numbers = {each: number for number, each in enumerate(self.sockets)}
        while left and (wait := end - time.monotonic()) > 0:
            readable, _, _ = select.select(self.sockets, [], [], wait)
            for each in readable:
                data, source = each.recvfrom(9)
                if data == b"?":
                    with contextlib.suppress(OSError):
                        each.sendto(b"!", source)
                else:
                    left.discard((numbers[each], by_address[source[0]]))


def memory(box: Box) -> float:
    """Return the MiB that an agent has to itself."""
    assert box.agent is not None
    shown = box.space.run(f"cat /proc/{box.agent.pid}/smaps_rollup")
    private = [line for line in shown.splitlines() if line.startswith("Private")]
    return sum(int(line.split()[1]) for line in private) / 1024


def test_all_pairs_of_thirty_machines_talk(
    town: Town, record_property: Callable[[str, object], None]
) -> None:
    thirty = Crowd(town, COUNT)
    begun = time.monotonic()
    assert thirty.talk(itertools.permutations(range(COUNT), 2), 5 * TALK) == set()
    record_property("seconds until all pairs talked", round(time.monotonic() - begun, 1))
    assert max(memory(each) for each in thirty.boxes) < MEMORY
    thirty.close()


def test_who_is_removed_is_cut_off_by_all(
    town: Town, record_property: Callable[[str, object], None]
) -> None:
    """The map comes to one, who talks to all, and goes on from there."""
    crowd, gone = Crowd(town, COUNT), COUNT - 1
    talks = {(gone, other) for other in range(gone)}
    assert crowd.talk(talks | {(0, other) for other in range(1, gone)}, 60) == set()
    left = [each.name for each in crowd.boxes[:gone]]
    crowd.boxes[0].take(signed(of(*left), after=[crowd.chart]))
    begun = last = time.monotonic()
    while time.monotonic() < last + 3:
        if crowd.talk(talks, 0.5) != talks:
            last = time.monotonic()
        assert last < begun + 5 * REMOVED
    record_property("seconds until a removed machine was cut off", round(last - begun, 1))
    crowd.close()
