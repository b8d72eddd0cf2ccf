"""Rounds: in each, every row takes its samples in turn.

What else this computer does in the meantime then hurts all rows, and both sides of each, alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bench.harness.figures import Figure

if TYPE_CHECKING:
    from collections.abc import Mapping

    from bench.harness.ground import Ground
    from bench.harness.row import Row, Sample


def play(rows: Mapping[str, Row], *, rounds: int, ground: Ground) -> list[Figure]:
    """Prepare the rows (`BENCH.ROW` -> row), play the rounds, and return the figures in order.

    Raises BenchError when something cannot be measured.
    """
    measures = {}
    for name, row in rows.items():
        ground.report(f"preparing {name}")
        measures[name] = row.prepare(ground)
    taken: dict[str, list[Sample]] = {name: [] for name in rows}
    for number in range(1, rounds + 1):
        for name, row in rows.items():
            ground.report(f"round {number} of {rounds}: {name}")
            taken[name] += [measures[name]() for _ in range(row.samples)]
    return [
        Figure(bench=name.partition(".")[0], row=row, samples=tuple(taken[name]))
        for name, row in rows.items()
    ]
