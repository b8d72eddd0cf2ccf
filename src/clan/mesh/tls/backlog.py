"""What waits until a stream takes it: at most 100 ms of datagrams, and seldom that much. Pure.

A stream cannot lose anything, so when it is slower than what comes, something before it must drop.
It is the oldest that is dropped, one datagram at a time, by CoDel (RFC 8289): as soon as the wait
has been longer than TARGET for INTERVAL, and then more and more often. So the senders inside slow
down early, and the wait stays short. What still waits longer than LONGEST is dropped whole, and
above MOST bytes the oldest goes too: nobody can fill the relay's memory.

What else was measured is in docs/architecture.md.
"""

from __future__ import annotations

import math
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clan.mesh.tls.frames import Batch

TARGET = 0.005
INTERVAL = 0.1
LONGEST = 0.1
"""Seconds."""
MOST = 4 << 20
"""Bytes."""


class Backlog:
    """Batches in the order that they came. `dropped` counts bytes."""

    def __init__(self) -> None:
        self._batches: deque[Batch] = deque()
        self._size = 0
        self._above: float | None = None
        """When the wait will have been too long for an interval; None if it is not too long."""
        self._next: float | None = None
        """When the next one is dropped; None while none is."""
        self._count = 0
        self.dropped = 0

    def __len__(self) -> int:
        return self._size

    def put(self, batch: Batch) -> None:
        """Add a batch, with the time that it came at."""
        self._size += len(batch)
        if not self._batches or not self._batches[-1].join(batch):
            self._batches.append(batch)
        oldest = batch.at - LONGEST
        while self._size > MOST or self._batches[0].at < oldest:
            self._drop_whole()

    def take(self, now: float, longest: int) -> memoryview | None:
        """Return the next frame to send, as `Batch.piece` does; None if nothing waits."""
        self._thin(now)
        if not self._batches:
            return None
        first = self._batches[0]
        before = len(first)
        piece = first.piece(longest)
        self._size -= before - len(first)
        if not first:
            self._batches.popleft()
        return piece

    def clear(self) -> None:
        """Drop everything."""
        while self._batches:
            self._drop_whole()

    def _thin(self, now: float) -> None:
        while self._batches and now - self._batches[0].at > LONGEST:
            self._drop_whole()
        if not self._is_slow(now):
            self._next = None
            return
        if self._next is None:
            # Begins where it was, if that was not long ago (RFC 8289, section 5.4).
            self._count = max(1, self._count - 2)
            self._next = now
        while self._next is not None and now >= self._next and self._batches:
            self._drop_one()
            self._count += 1
            self._next += INTERVAL / math.sqrt(self._count)
            if not self._is_slow(now):
                self._next = None

    def _is_slow(self, now: float) -> bool:
        """Whether the wait has been above the target for an interval."""
        if not self._batches or now - self._batches[0].at < TARGET:
            self._above = None
            return False
        if self._above is None:
            self._above = now + INTERVAL
        return now >= self._above

    def _drop_one(self) -> None:
        first = self._batches[0]
        before = len(first)
        first.drop_one()
        self._lost(before - len(first))
        if not first:
            self._batches.popleft()

    def _drop_whole(self) -> None:
        self._lost(len(self._batches.popleft()))

    def _lost(self, size: int) -> None:
        self._size -= size
        self.dropped += size
