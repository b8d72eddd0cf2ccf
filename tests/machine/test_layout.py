from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

from tests.machine.kill import killed_at_each_step

from clan.machine import reserve
from clan.machine.layout import CONFIRMED, CURRENT, MANIFEST, Layout, write

if TYPE_CHECKING:
    from pathlib import Path


def with_generations(root: Path, *numbers: int) -> Layout:
    layout = Layout(root=root)
    layout.prepare()
    for number in numbers:
        layout.generation(number).mkdir()
        (layout.generation(number) / MANIFEST).write_text("{}")
    return layout


def test_a_new_machine_has_the_empty_generation(tmp_path: Path) -> None:
    layout = with_generations(tmp_path)
    assert (layout.numbers(), layout.manifest(0)) == ([0], {})
    assert layout.chosen(CURRENT) == layout.chosen(CONFIRMED) == 0


def test_others_may_read_what_is_not_secret(tmp_path: Path) -> None:
    (tmp_path / "run/clan").mkdir(parents=True, mode=0o700)
    layout = with_generations(tmp_path)
    assert layout.run.stat().st_mode & 0o777 == 0o755
    assert layout.own.stat().st_mode & 0o777 == 0o755
    assert (layout.own / "keys").stat().st_mode & 0o777 == 0o700


def test_a_generation_that_is_not_whole_does_not_count(tmp_path: Path) -> None:
    layout = with_generations(tmp_path, 1)
    layout.generation(2).mkdir()
    (layout.generations / ".incoming").mkdir()
    assert layout.numbers() == [0, 1]
    layout.choose(CURRENT, 2)
    assert layout.chosen(CURRENT) == 0


def test_choosing_is_one_moment(tmp_path: Path) -> None:
    seen = []

    def fresh() -> Any:
        shutil.rmtree(tmp_path / "disk", ignore_errors=True)
        layout = with_generations(tmp_path / "disk", 1, 2)
        layout.choose(CURRENT, 1)
        return lambda: layout.choose(CURRENT, 2)

    layout = Layout(root=tmp_path / "disk")
    for _ in killed_at_each_step(fresh):
        seen.append(layout.chosen(CURRENT))
        layout.choose(CURRENT, 2)
        assert layout.chosen(CURRENT) == 2
    assert set(seen) == {1, 2}
    assert seen == sorted(seen)


def test_a_file_is_the_old_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "file"

    def fresh() -> Any:
        path.write_text("old")
        return lambda: write(path, b"new", 0o600)

    assert {path.read_text() for _ in killed_at_each_step(fresh)} == {"old", "new"}


def test_the_reserve_is_kept_spent_and_kept_again(tmp_path: Path) -> None:
    layout = with_generations(tmp_path)
    for _ in range(2):
        reserve.keep(layout)
        reserve.keep(layout)
        assert layout.reserve.stat().st_blocks * 512 >= reserve.SIZE
        reserve.spend(layout)
        reserve.spend(layout)
        assert not layout.reserve.exists()
