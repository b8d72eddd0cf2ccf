"""From samples to figures: medians, ranges, whether they reach their bounds. Pure."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import TYPE_CHECKING

from bench.harness.row import Of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.harness.row import Row, Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Figure:
    """What became of a row: its samples, in the order they were taken; one at least."""

    bench: str
    row: Row
    samples: tuple[Sample, ...]

    @property
    def values(self) -> list[float]:
        """Every sample's value."""
        return [sample.value for sample in self.samples]

    @property
    def value(self) -> float:
        """The figure itself."""
        ordered = sorted(self.values)
        match self.row.of:
            case Of.MEDIAN:
                return statistics.median(ordered)
            case Of.P95:
                return ordered[-(-len(ordered) * 95 // 100) - 1]
            case Of.HIGHEST:
                return ordered[-1]

    @property
    def low(self) -> float:
        """The smallest sample."""
        return min(self.values)

    @property
    def high(self) -> float:
        """The largest sample."""
        return max(self.values)

    @property
    def is_met(self) -> bool:
        """Whether the figure reaches the bound; what single samples do is shown, not judged."""
        return self.row.bound is None or self.row.bound.is_met(self.value)

    @property
    def seconds(self) -> dict[str, float]:
        """The median of each thing that was measured for the samples: label -> seconds."""
        labels = dict.fromkeys(label for sample in self.samples for label in sample.seconds)
        return {
            label: statistics.median(
                [sample.seconds[label] for sample in self.samples if label in sample.seconds]
            )
            for label in labels
        }


def ratio(of: Mapping[str, float]) -> float:
    """Return the first of two times divided by the second."""
    first, second = of.values()
    return first / second


def difference(of: Mapping[str, float]) -> float:
    """Return the first of two times less the second, in seconds."""
    first, second = of.values()
    return first - second


def exponent(points: Sequence[tuple[float, float]]) -> float:
    """Return the k of the y = c·x^k that is nearest to the points: least squares of logarithms.

    1 is growth in proportion, 2 is with the square. Raises ValueError for fewer than two sizes,
    or for what has no logarithm.
    """
    if len({x for x, _ in points}) < 2:
        raise ValueError("an exponent needs two sizes at least")
    xs = [math.log(x) for x, _ in points]
    ys = [math.log(y) for _, y in points]
    return statistics.linear_regression(xs, ys).slope
