from __future__ import annotations

import contextlib
import sys
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from bench.harness.catalogue import benches, choose
from bench.harness.ground import laid
from bench.harness.rounds import play
from bench.harness.row import Bench, BenchError, Bound, LeftOutError, Measure, Row, Sample, Unit
from bench.harness.run import as_people_run, run
from clan.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from bench.harness.ground import Ground


def counting(name: str, log: list[str], *, samples: int = 1) -> Row:
    """Return a row whose figures are 1, 2, 3 and so on, and which says when it takes them."""

    def prepare(ground: Ground) -> Measure:
        del ground
        log.append(f"prepare {name}")

        def measure() -> Sample:
            log.append(name)
            return Sample(value=log.count(name))

        return measure

    bound = Bound(limit=2)
    return Row(
        name=name, what=name, unit=Unit.SECONDS, bound=bound, prepare=prepare, samples=samples
    )


def test_rounds_interleave_the_rows() -> None:
    log: list[str] = []
    rows = {"x.a": counting("a", log), "x.b": counting("b", log, samples=2)}
    steps: list[str] = []
    with laid(steps.append) as ground:
        figures, left_out = play(rows, rounds=2, ground=ground)
    assert left_out == {}
    assert log == ["prepare a", "prepare b", "a", "b", "b", "a", "b", "b"]
    assert [(figure.bench, figure.row.name, figure.values) for figure in figures] == [
        ("x", "a", [1, 2]),
        ("x", "b", [1, 2, 3, 4]),
    ]
    assert steps[0] == "preparing x.a"
    assert steps[-1] == "round 2 of 2: x.b"


def test_a_row_takes_part_in_the_last_rounds_or_is_left_out_with_its_reason() -> None:
    log: list[str] = []

    def missing(ground: Ground) -> Measure:
        raise LeftOutError(f"no daemon in {ground.folder.name[:5]}")

    once = replace(counting("once", log), rounds=1)
    rows = {"x.once": once, "x.not": replace(once, prepare=missing), "x.b": counting("b", log)}
    with laid(lambda _: None) as ground:
        figures, left_out = play(rows, rounds=3, ground=ground)
    assert log == ["prepare once", "prepare b", "b", "b", "once", "b"]
    assert [figure.row.name for figure in figures] == ["once", "b"]
    assert left_out == {"x.not": "no daemon in clan-"}


def test_what_rows_share_is_made_once_and_taken_away_even_after_a_failure() -> None:
    log: list[str] = []

    @contextlib.contextmanager
    def lab(ground: Ground) -> Iterator[Path]:
        log.append("up")
        try:
            yield ground.folder
        finally:
            log.append("down")

    def prepare(ground: Ground) -> Measure:
        folder = ground.once(lab)

        def measure() -> Sample:
            raise BenchError(f"nothing in {folder}")

        return measure

    row = Row(name="a", what="a", unit=Unit.TIMES, bound=Bound(limit=1), prepare=prepare)
    with pytest.raises(BenchError), laid(log.append) as ground:
        play({"x.a": row, "x.b": row}, rounds=1, ground=ground)
    assert log.count("up") == log.count("down") == 1
    assert not ground.folder.exists()


def test_a_command_that_fails_is_no_figure() -> None:
    with laid(print) as ground:
        fine = ground.time([sys.executable, "-c", "import os; os.environ['MORE']"], {"MORE": "1"})
        assert 0 < fine < 60
        with pytest.raises(BenchError, match="ended with 3: so there"):
            ground.time(
                [
                    sys.executable,
                    "-c",
                    "import sys; print('so there', file=sys.stderr); sys.exit(3)",
                ]
            )


def test_a_command_that_hangs_is_ended_with_what_it_started() -> None:
    script = "import subprocess; subprocess.run(['sleep', '60'])"
    done = run([sys.executable, "-c", script], environment={"PATH": "/usr/bin:/bin"}, limit=0.5)
    assert done.status is None
    assert 0.5 <= done.seconds < 30


def test_commands_run_on_byte_code_and_without_this_users_clan() -> None:
    inherited = {"PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1", "CLAN_DIR": "/x", "HOME": "/root"}
    assert as_people_run(inherited) == {"PATH": "/bin", "HOME": "/root"}


LOG: list[str] = []
TABLES = {
    "reach": Bench(title="r", rows=(counting("start", LOG), counting("dead networks", LOG))),
    "mesh": Bench(title="m", rows=(counting("start", LOG),)),
}


@pytest.mark.parametrize(
    ("wanted", "chosen"),
    [
        ([], ["reach.start", "reach.dead-networks", "mesh.start"]),
        (["mesh"], ["mesh.start"]),
        (["reach.dead-networks"], ["reach.dead-networks"]),
        (["mesh", "reach.start"], ["reach.start", "mesh.start"]),
        (["reach.start", "reach"], ["reach.start", "reach.dead-networks"]),
    ],
)
def test_names_are_of_benches_and_of_rows(wanted: list[str], chosen: list[str]) -> None:
    assert list(choose(TABLES, wanted)) == chosen


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    with pytest.raises(UsageError, match="no benchmark 'reech'") as refused:
        choose(TABLES, ["reech"])
    assert "reach" in (refused.value.hint or "")


def test_every_bench_of_the_folder_is_found() -> None:
    assert {"reach", "config", "mesh"} == benches().keys()
