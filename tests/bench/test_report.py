from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from bench.harness import report
from bench.harness.figures import Figure
from bench.harness.row import Bench, Bound, Row, Sample, Unit

if TYPE_CHECKING:
    from bench.harness.ground import Ground
    from bench.harness.row import Measure


def unprepared(ground: Ground) -> Measure:
    raise AssertionError(ground)


def row(name: str, unit: Unit, limit: float, *, at_least: bool = False) -> Row:
    bound = Bound(limit=limit, at_least=at_least)
    return Row(name=name, what=f"what {name} is", unit=unit, bound=bound, prepare=unprepared)


ROWS = (
    row("start", Unit.TIMES, 6),
    row("list", Unit.TIMES, 20),
    row("dead networks", Unit.SECONDS, 1),
    row("growth", Unit.EXPONENT, 1.1),
    row("relay", Unit.TIMES, 3, at_least=True),
)
BENCHES = {"reach": Bench(title="reaching machines", rows=ROWS)}


def figures(*medians: float) -> list[Figure]:
    return [
        Figure(
            bench="reach",
            row=row,
            samples=tuple(
                Sample(value=value, seconds={"clan": value / 100, "other": 0.008, "third": 1.5})
                for value in (median - 0.25, median, median + 10)
            ),
        )
        for row, median in zip(ROWS, medians, strict=True)
    ]


ROOT = "for root only"


def how(*left_out: str, rounds: int = 3) -> report.Circumstances:
    return report.Circumstances(
        rounds=rounds, load=0.55, processors=2, left_out=dict.fromkeys(left_out, ROOT)
    )


MET = figures(4.5, 17.25, 0.75, 1.0, 3.5)
SHORT = figures(4.5, 20.5, 0.75, 1.25, 2.0)


def test_table_shows_median_range_bound_and_both_sides() -> None:
    assert report.table(BENCHES, MET, how()) == (
        "reach: reaching machines (3 rounds, load 0.6 on 2 processors)\n"
        "               figure          range   bound  measured\n"
        "start          4.50 ×  4.25 to 14.50   ≤ 6 ×  45 ms : 8 ms : 1.50 s\n"
        "list           17.2 ×   17.0 to 27.2  ≤ 20 ×  172 ms : 8 ms : 1.50 s\n"
        "dead networks  0.75 s  0.50 to 10.75   ≤ 1 s  8 ms : 8 ms : 1.50 s\n"
        "growth           1.00  0.75 to 11.00   ≤ 1.1  10 ms : 8 ms : 1.50 s\n"
        "relay          3.50 ×  3.25 to 13.50   ≥ 3 ×  35 ms : 8 ms : 1.50 s"
    )


def test_a_row_that_falls_short_is_marked_and_named_below() -> None:
    heading, *lines = report.table(BENCHES, SHORT, how(rounds=1)).splitlines()
    assert heading.endswith("(1 round, load 0.6 on 2 processors)")
    assert [line.split()[0] for line in lines if line.endswith("  short")] == [
        "list",
        "growth",
        "relay",
    ]
    assert lines[-1] == "falls short: list, growth, relay"


def test_what_is_left_out_is_counted_and_named() -> None:
    shown = report.table(BENCHES, MET, how("reach.shell", "reach.moving"))
    assert shown.endswith("left out (2 of 7 rows):\n  reach.shell, reach.moving: for root only")


def test_table_fits_a_terminal_of_80_columns() -> None:
    wide = figures(23.4, 123.5, 99.75, 1.25, 2.0)
    assert max(map(len, report.table(BENCHES, wide, how(rounds=30)).splitlines())) <= 80


@pytest.mark.parametrize(
    ("measured", "left_out", "status"),
    [(MET, [], 0), (SHORT, [], 1), (MET, ["reach.shell"], 3), (SHORT, ["reach.shell"], 1)],
    ids=["all met", "short", "not all measured", "short, and not all measured"],
)
def test_exit_status(measured: list[Figure], left_out: list[str], status: int) -> None:
    assert report.status(measured, how(*left_out)) == status


@pytest.mark.parametrize(
    ("value", "shown"), [(0.0076, "8 ms"), (0.9994, "999 ms"), (1, "1.00 s"), (61.5, "61.50 s")]
)
def test_times_are_written_as_people_read_them(value: float, shown: str) -> None:
    assert report.seconds(value) == shown


def test_json_has_every_sample() -> None:
    document = json.loads(json.dumps(report.document(SHORT, how("reach.shell"))))
    assert (document["rounds"], document["load"], document["processors"]) == (3, 0.55, 2)
    assert document["left_out"] == {"reach.shell": ROOT}
    start, *_, growth, relay = document["figures"]
    assert start == {
        "bench": "reach",
        "row": "start",
        "what": "what start is",
        "unit": "×",
        "figure": 4.5,
        "of": "median",
        "low": 4.25,
        "high": 14.5,
        "bound": 6,
        "at_least": False,
        "met": True,
        "values": [4.25, 4.5, 14.5],
        "seconds": {"clan": 0.045, "other": 0.008, "third": 1.5},
    }
    assert growth["met"] is False
    assert relay["at_least"] is True


def test_a_figure_without_a_bound_is_stated_and_counts_have_no_decimals() -> None:
    rows = [
        Row(name="other", what="o", unit=unit, bound=None, prepare=unprepared)
        for unit in (Unit.SECONDS, Unit.MOVES)
    ]
    shown = [Figure(bench="reach", row=row, samples=(Sample(value=7),)) for row in rows]
    assert report.cells(shown[0])[1:4] == ("7.00 s", "7.00 to 7.00", "stated")
    assert report.cells(shown[1])[1:4] == ("7 moves", "7 to 7", "stated")
    assert report.status(shown, how()) == 0
    assert report.document(shown, how())["figures"][0]["bound"] is None
