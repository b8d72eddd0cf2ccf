"""What a benchmark is made of: rows, each with a bound and a way to take one more sample.

A bench is one module of `bench/` with a `BENCH` in it. To add a row, write a function that prepares
what it needs on the ground and returns the function that takes a sample; then list it.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.harness.ground import Ground


class LeftOutError(Exception):
    """A row cannot be measured on this computer; the message says what it lacks."""


class BenchError(Exception):
    """Something could not be measured at all; the message says what."""


class Unit(enum.StrEnum):
    """What a figure counts; the value is what follows it in the table."""

    TIMES = "×"
    SECONDS = "s"
    MEGABYTES = "MB"
    MEBIBYTES = "MiB"
    MOVES = "moves"
    LOST = "lost"
    EXPONENT = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """What a figure has to reach: `limit` at most or, where more is better, at least."""

    limit: float
    at_least: bool = False

    def is_met(self, figure: float) -> bool:
        """Say whether a figure is good enough; one on the limit is."""
        return figure >= self.limit if self.at_least else figure <= self.limit


class Of(enum.StrEnum):
    """Which of all its samples is a row's figure."""

    MEDIAN = "median"
    P95 = "p95"
    """What 95 of 100 do not exceed."""
    HIGHEST = "highest"


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One figure, in its row's unit, and what was measured for it: label -> seconds."""

    value: float
    seconds: Mapping[str, float] = field(default_factory=dict)


Measure = Callable[[], Sample]
"""Takes one sample. Raises BenchError when that cannot be done."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One figure of a bench. `what` is one line for people.

    `samples` are taken in each round, or in the last `rounds` of them. Without a bound a figure is
    only stated. `prepare` raises LeftOutError where this computer lacks what it needs.
    """

    name: str
    what: str
    unit: Unit
    bound: Bound | None
    prepare: Callable[[Ground], Measure]
    of: Of = Of.MEDIAN
    samples: int = 1
    rounds: int | None = None
    needs_root: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Bench:
    """A table of figures. Its name is that of its module."""

    title: str
    rows: tuple[Row, ...]
