from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.harness.figures import Figure, difference, exponent, ratio
from bench.harness.row import Bound, Of, Row, Sample, Unit

if TYPE_CHECKING:
    from bench.harness.ground import Ground
    from bench.harness.row import Measure


def unprepared(ground: Ground) -> Measure:
    raise AssertionError(ground)


def figure(
    *values: float, limit: float = 2.0, at_least: bool = False, of: Of = Of.MEDIAN
) -> Figure:
    row = Row(
        name="shell",
        what="clan ssh against ssh",
        unit=Unit.TIMES,
        bound=Bound(limit=limit, at_least=at_least),
        prepare=unprepared,
        of=of,
    )
    samples = tuple(Sample(value=v, seconds={"clan": v / 10, "ssh": 0.1}) for v in values)
    return Figure(bench="reach", row=row, samples=samples)


@pytest.mark.parametrize(
    ("values", "median", "low", "high"),
    [
        ([1.5], 1.5, 1.5, 1.5),
        ([3.0, 1.0, 2.0], 2.0, 1.0, 3.0),
        ([1.0, 2.0], 1.5, 1.0, 2.0),
        ([1.0, 1.0, 50.0], 1.0, 1.0, 50.0),
        ([-0.1, 0.1, 0.0], 0.0, -0.1, 0.1),
    ],
    ids=["one", "out of order", "an even number", "an outlier", "differences below zero"],
)
def test_figure_is_the_median_with_its_range(
    values: list[float], median: float, low: float, high: float
) -> None:
    of = figure(*values)
    assert (of.value, of.low, of.high) == (median, low, high)


@pytest.mark.parametrize(
    ("values", "limit", "at_least", "met"),
    [
        ([1.0, 1.9, 9.0], 2.0, False, True),
        ([2.0, 2.0, 2.0], 2.0, False, True),
        ([1.0, 2.1, 9.0], 2.0, False, False),
        ([0.1, 0.9, 3.0], 1.0, True, False),
        ([0.1, 1.0, 3.0], 1.0, True, True),
        ([0.1, 1.2, 3.0], 1.0, True, True),
    ],
)
def test_the_median_is_judged_not_the_samples(
    values: list[float], limit: float, *, at_least: bool, met: bool
) -> None:
    assert figure(*values, limit=limit, at_least=at_least).is_met is met


@pytest.mark.parametrize(
    ("of", "samples", "value"),
    [
        (Of.P95, 100, 95.0),
        (Of.P95, 20, 19.0),
        (Of.P95, 16, 16.0),
        (Of.P95, 1, 1.0),
        (Of.HIGHEST, 20, 20.0),
        (Of.MEDIAN, 20, 10.5),
    ],
)
def test_a_row_says_which_of_its_samples_is_judged(of: Of, samples: int, value: float) -> None:
    assert figure(*(float(n) for n in range(samples, 0, -1)), of=of).value == value


def test_each_side_has_a_median_of_its_own() -> None:
    of = figure(1.0, 2.0, 6.0)
    assert of.seconds == {"clan": 0.2, "ssh": 0.1}


def test_pairs_are_compared_in_the_order_they_were_measured() -> None:
    assert ratio({"clan": 3.0, "python": 2.0}) == 1.5
    assert difference({"dead": 1.5, "alive": 0.5}) == 1.0


SIZES = (1000, 3000, 10000)


@pytest.mark.parametrize(
    ("k", "seconds"),
    [
        (0.0, [0.2, 0.2, 0.2]),
        (1.0, [0.1, 0.3, 1.0]),
        (2.0, [0.01, 0.09, 1.0]),
    ],
    ids=["does not grow", "in proportion", "with the square"],
)
def test_exponent_of_known_growths(k: float, seconds: list[float]) -> None:
    assert exponent(list(zip(SIZES, seconds, strict=True))) == pytest.approx(k)


@given(
    st.floats(min_value=-1, max_value=4),
    st.floats(min_value=1e-6, max_value=1e3),
    st.lists(st.integers(min_value=1, max_value=10**6), min_size=2, max_size=8, unique=True),
)
def test_exponent_of_any_power_is_found(k: float, c: float, sizes: list[int]) -> None:
    assert exponent([(size, c * size**k) for size in sizes]) == pytest.approx(k, abs=1e-3)


@pytest.mark.parametrize("points", [[], [(10, 1.0)], [(10, 1.0), (10, 2.0)], [(1, 0.0), (2, 1.0)]])
def test_exponent_of_what_has_none_is_refused(points: list[tuple[float, float]]) -> None:
    with pytest.raises(ValueError, match=r"two sizes|math domain|positive"):
        exponent(points)
