"""Rounds: in each, every row takes its samples in turn.

What else this computer does in the meantime then hurts all rows, and both sides of each, alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.harness.figures import Figure
from bench.harness.row import LeftOutError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.harness.ground import Ground
    from bench.harness.row import Measure, Row, Sample


def play(
    rows: Mapping[str, Row], *, rounds: int, ground: Ground
) -> tuple[list[Figure], dict[str, str]]:
    """Prepare the rows (`BENCH.ROW` -> row), play the rounds, and return the figures in order.

    With them come the rows that were left out, and why. A row that takes part in fewer rounds does
    so in the last ones: what it needs has had time to settle.

    Raises BenchError when something cannot be measured.
    """
    measures: dict[str, Measure] = {}
    left_out: dict[str, str] = {}
    for name, row in rows.items():
        ground.report(f"preparing {name}")
        try:
            measures[name] = row.prepare(ground)
        except LeftOutError as why:
            left_out[name] = str(why)
    taken: dict[str, list[Sample]] = {name: [] for name in measures}
    for number in range(1, rounds + 1):
        for name, measure in measures.items():
            row = rows[name]
            if row.rounds is not None and number <= rounds - row.rounds:
                continue
            ground.report(f"round {number} of {rounds}: {name}")
            taken[name] += [measure() for _ in range(row.samples)]
    return [
        Figure(bench=name.partition(".")[0], row=rows[name], samples=tuple(samples))
        for name, samples in taken.items()
    ], left_out
