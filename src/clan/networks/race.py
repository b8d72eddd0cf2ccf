"""The race: attempts start in rank order, slightly apart, and the best that works is used.

It knows nothing of networks: an attempt is a function that returns a value or raises. The idea is
that of Happy Eyeballs (RFC 8305), where 250 ms is the recommended delay between attempts too.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Generic, TypeVar

from clan.errors import ClanError
from clan.networks.technology import DialError, crashed

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

T = TypeVar("T")

STAGGER = 0.25
"""Seconds after which the next attempt starts, unless one failed before."""
GRACE = 0.1
"""Seconds that a better-ranked attempt still open is given once another has succeeded."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lap:
    """How one attempt went; times in seconds from the start of the race.

    `started` is None for one that was not needed. `fault` is None for one that worked or was
    still open when the race ended (then `ended` is None).
    """

    started: float | None = None
    ended: float | None = None
    fault: BaseException | None = None

    @property
    def error(self) -> str | None:
        """What went wrong, for people. What no attempt should raise is called a crash."""
        if self.fault is None or isinstance(self.fault, (DialError, ClanError)):
            return None if self.fault is None else str(self.fault)
        return crashed(self.fault)


@dataclass(frozen=True, slots=True, kw_only=True)
class Race(Generic[T]):
    """How the race went: `winner` is the index of the attempt whose `value` is used."""

    winner: int | None
    value: T | None
    laps: tuple[Lap, ...]
    seconds: float


async def race(
    attempts: Sequence[Callable[[], Awaitable[T]]],
    *,
    discard: Callable[[T], Awaitable[None]],
    stagger: float = STAGGER,
    grace: float = GRACE,
) -> Race[T]:
    """Run the attempts, best first, and return the best that worked in time.

    The next attempt starts `stagger` seconds after the last, or at once when one fails. After the
    first success, better-ranked attempts still open have `grace` seconds. What is not used is
    given to `discard`; attempts still open are cancelled and waited for.
    """
    course = _Course(attempts, discard, stagger, grace)
    try:
        while course.step():
            await course.wait()
    except BaseException:
        course.drop_best()
        raise
    finally:
        await course.stop()
    return course.result()


class _Course(Generic[T]):
    """A race while it is run."""

    def __init__(
        self,
        attempts: Sequence[Callable[[], Awaitable[T]]],
        discard: Callable[[T], Awaitable[None]],
        stagger: float,
        grace: float,
    ) -> None:
        self.attempts = attempts
        self.discard = discard
        self.stagger = stagger
        self.grace = grace
        self.clock = asyncio.get_running_loop().time
        self.begin = self.clock()
        self.laps = [Lap() for _ in attempts]
        self.running: dict[asyncio.Task[T], int] = {}
        self.next = 0
        self.next_start = self.begin
        self.best: tuple[int, T] | None = None
        self.unused: list[T] = []
        self.decide_at = self.begin

    def step(self) -> bool:
        """Start what is due. Return whether there is anything to wait for."""
        now = self.clock()
        if self.best is not None:
            better = any(index < self.best[0] for index in self.running.values())
            return better and now < self.decide_at
        if self.next < len(self.attempts) and (now >= self.next_start or not self.running):
            self.running[asyncio.ensure_future(_run(self.attempts[self.next]))] = self.next
            self.laps[self.next] = Lap(started=now - self.begin)
            self.next += 1
            self.next_start = now + self.stagger
        return bool(self.running)

    async def wait(self) -> None:
        """Wait until attempts end or something is due, and judge those that ended."""
        if self.best is not None:
            limit = self.decide_at - self.clock()
        elif self.next < len(self.attempts):
            limit = self.next_start - self.clock()
        else:
            limit = None
        done, _ = await asyncio.wait(
            self.running, timeout=limit, return_when=asyncio.FIRST_COMPLETED
        )
        for task in done:
            self.judge(self.running.pop(task), task)

    def judge(self, index: int, task: asyncio.Task[T]) -> None:
        """Take the result of one attempt."""
        now = self.clock()
        fault = task.exception()
        begun = self.laps[index].started
        self.laps[index] = Lap(started=begun, ended=now - self.begin, fault=fault)
        if fault is not None:
            self.next_start = now
        elif self.best is not None and self.best[0] < index:
            self.unused.append(task.result())
        else:
            if self.best is None:
                self.decide_at = now + self.grace
            self.drop_best()
            self.best = index, task.result()

    def drop_best(self) -> None:
        """Give up what would have been used."""
        if self.best is not None:
            self.unused.append(self.best[1])
            self.best = None

    async def stop(self) -> None:
        """Cancel what is still open, wait until it is closed, and discard what is not used."""
        for task in self.running:
            task.cancel()
        for outcome in await asyncio.gather(*self.running, return_exceptions=True):
            if not isinstance(outcome, BaseException):
                self.unused.append(outcome)
        for value in self.unused:
            await self.discard(value)

    def result(self) -> Race[T]:
        """Say how it went."""
        winner, value = self.best if self.best is not None else (None, None)
        return Race(
            winner=winner, value=value, laps=tuple(self.laps), seconds=self.clock() - self.begin
        )


async def _run(attempt: Callable[[], Awaitable[T]]) -> T:
    return await attempt()
