"""Waiting for what can be read or is due, and noticing that the machine slept meanwhile."""

from __future__ import annotations

import math
import select
import time
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterable

ASLEEP = 2.0
"""Seconds by which the clock that counts sleep gains on the other when the machine slept."""


class _Readable(Protocol):
    def fileno(self) -> int: ...


class Waiting:
    """This process's."""

    def __init__(self) -> None:
        self._slept = _slept()

    def wait(
        self, readers: Iterable[_Readable], sockets: Iterable[tuple[int, int]], due: float
    ) -> set[int]:
        """Wait until something can be read, or until `due`; return what can be read.

        `sockets` are descriptors, each with the events of `poll` that are waited for. `due` is a
        time of the monotonic clock, in seconds, perhaps infinite.
        """
        poll = select.poll()
        for each in readers:
            poll.register(each.fileno(), select.POLLIN)
        for descriptor, events in sockets:
            poll.register(descriptor, events)
        left = max(0.0, due - time.monotonic())
        # Rounded up: woken a little too early, it would ask and find nothing to do.
        found = poll.poll(None if math.isinf(left) else math.ceil(left * 1000))
        return {descriptor for descriptor, _ in found}

    def has_slept(self) -> bool:
        """Return whether the machine slept since this was asked last."""
        before, self._slept = self._slept, _slept()
        return self._slept - before > ASLEEP


def _slept() -> float:
    """Return the seconds that this machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
