"""Waiting for what can be read or is due, and noticing that the machine slept meanwhile."""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

ASLEEP = 2.0
"""Seconds by which the clock that counts sleep gains on the other when the machine slept."""


class Waiting:
    """This process's."""

    def __init__(self) -> None:
        self._slept = _slept()
        self._watched: dict[int, int] = {}
        self._poll = select.poll()

    def watch(self, sockets: Mapping[int, int]) -> None:
        """Wait on these descriptors alone, each with the events of `poll` that it is about."""
        if sockets == self._watched:
            return
        self._watched, self._poll = dict(sockets), select.poll()
        for descriptor, events in sockets.items():
            self._poll.register(descriptor, events)

    def wait(self, due: float) -> set[int]:
        """Wait until something happens to a descriptor, or until `due`; return those.

        `due` is a time of the monotonic clock, in seconds, perhaps infinite.
        """
        left = max(0.0, due - time.monotonic())
        # Rounded up: woken a little too early, it would ask and find nothing to do.
        found = self._poll.poll(None if math.isinf(left) else math.ceil(left * 1000))
        return {descriptor for descriptor, _ in found}

    def has_slept(self) -> bool:
        """Return whether the machine slept since this was asked last."""
        before, self._slept = self._slept, _slept()
        return self._slept - before > ASLEEP


def _slept() -> float:
    """Return the seconds that this machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
