"""What is printed: a table of at most 80 columns, or JSON. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import groupby
from typing import TYPE_CHECKING, Any

from bench.harness.row import Bound, Unit

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.harness.figures import Figure
    from bench.harness.row import Bench

HEAD = ("", "figure", "range", "bound", "measured")
WHOLE = (Unit.MOVES, Unit.LOST)
"""What is counted one by one."""
GAP = "  "
MARK = "short"


@dataclass(frozen=True, slots=True, kw_only=True)
class Circumstances:
    """How it was measured: `load` is the computer's, processes that wanted to run in a minute."""

    rounds: int
    load: float
    processors: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    """Row -> why it was not measured."""

    def __str__(self) -> str:
        rounds = "1 round" if self.rounds == 1 else f"{self.rounds} rounds"
        processors = "1 processor" if self.processors == 1 else f"{self.processors} processors"
        return f"{rounds}, load {self.load:.1f} on {processors}"


def digits(figure: Figure) -> int:
    """Return how many decimals a row shows: none for counts, one for ratios from ten on."""
    if figure.row.unit in WHOLE:
        return 0
    return 1 if figure.row.unit is Unit.TIMES and figure.value >= 10 else 2


def seconds(value: float) -> str:
    """Write a time in seconds as people read it."""
    return f"{value:.2f} s" if value >= 1 else f"{value * 1000:.0f} ms"


def bound(of: Bound | None, unit: Unit) -> str:
    """Write what is asked for."""
    if of is None:
        return "stated"
    return f"{'≥' if of.at_least else '≤'} {of.limit:g} {unit}".rstrip()


def cells(figure: Figure) -> tuple[str, ...]:
    """Return a figure as a row of the table."""
    unit, places = figure.row.unit, digits(figure)
    return (
        figure.row.name,
        f"{figure.value:.{places}f} {unit}".rstrip(),
        f"{figure.low:.{places}f} to {figure.high:.{places}f}",
        bound(figure.row.bound, unit),
        " : ".join(seconds(time) for time in figure.seconds.values()),
    )


def table(benches: Mapping[str, Bench], figures: Sequence[Figure], how: Circumstances) -> str:
    """Write a table for each bench, and below them which figures fall short or were left out."""
    blocks = []
    for name, group in groupby(figures, key=lambda figure: figure.bench):
        own = list(group)
        written = [HEAD, *(cells(figure) for figure in own)]
        widths = [max(len(row[column]) for row in written) for column in range(len(HEAD))]
        marks = ["", *("" if figure.is_met else MARK for figure in own)]
        lines = [f"{name}: {benches[name].title} ({how})"]
        for row, mark in zip(written, marks, strict=True):
            first, *figured, last = (
                cell.ljust(width) if index in {0, len(HEAD) - 1} else cell.rjust(width)
                for index, (cell, width) in enumerate(zip(row, widths, strict=True))
            )
            lines.append(GAP.join([first, *figured, last, mark]).rstrip())
        blocks.append("\n".join(lines))
    short = [figure.row.name for figure in figures if not figure.is_met]
    if short:
        blocks.append(f"falls short: {', '.join(short)}")
    if how.left_out:
        every = len(figures) + len(how.left_out)
        lines = [f"left out ({len(how.left_out)} of {every} rows):"]
        for why in dict.fromkeys(how.left_out.values()):
            names = ", ".join(name for name, its in how.left_out.items() if its == why)
            lines.append(f"  {names}: {why}")
        blocks.append("\n".join(lines))
    return "\n\n".join(blocks)


def document(figures: Sequence[Figure], how: Circumstances) -> dict[str, Any]:
    """Return everything as JSON values; times are in seconds."""
    return {
        "rounds": how.rounds,
        "load": how.load,
        "processors": how.processors,
        "figures": [
            {
                "bench": figure.bench,
                "row": figure.row.name,
                "what": figure.row.what,
                "unit": figure.row.unit.value,
                "figure": figure.value,
                "of": figure.row.of.value,
                "low": figure.low,
                "high": figure.high,
                "bound": None if (bound := figure.row.bound) is None else bound.limit,
                "at_least": None if bound is None else bound.at_least,
                "met": figure.is_met,
                "values": figure.values,
                "seconds": figure.seconds,
            }
            for figure in figures
        ],
        "left_out": dict(how.left_out),
    }


def status(figures: Sequence[Figure], how: Circumstances) -> int:
    """Return the exit status: 1 when a figure falls short, 3 when not every one was measured."""
    if not all(figure.is_met for figure in figures):
        return 1
    return 3 if how.left_out else 0
