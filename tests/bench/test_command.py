from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bench.harness.catalogue import benches

if TYPE_CHECKING:
    from bench.harness.row import Row

CHECKOUT = Path(__file__).parents[2]


def bench(*words: str) -> subprocess.CompletedProcess[str]:
    argv = [sys.executable, "-m", "bench", *words]
    return subprocess.run(argv, capture_output=True, text=True, cwd=CHECKOUT, check=False)


def test_help_has_examples() -> None:
    done = bench("--help")
    assert done.returncode == 0
    assert "scripts/bench reach.start reach.list" in done.stdout


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["reech"], "hint: did you mean 'reach'?"),
        (["--rounds", "0"], "'--rounds'"),
    ],
)
def test_what_cannot_be_measured_is_told_from_what_falls_short(words: list[str], said: str) -> None:
    done = bench(*words)
    assert done.returncode == 2
    assert said in done.stderr
    assert done.stdout == ""


ROWS = [row for bench in benches().values() for row in bench.rows]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)
def test_every_row_is_explained_with_its_bound(row: Row) -> None:
    page = (CHECKOUT / "docs/reference/benchmarks.md").read_text()
    (line,) = [line for line in page.splitlines() if line.startswith(f"| {row.name} |")]
    wanted = "stated" if row.bound is None else f"{row.bound.limit:g} {row.unit}".rstrip()
    assert line.endswith(f"| {wanted} |")
