"""Who may begin, confirm or undo an activation: bound to its number, its token and this boot."""

from __future__ import annotations

import shutil
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.machine.kill import killed_at_each_step
from tests.machine.test_layout import with_generations

from clan.machine import activate
from clan.machine.activate import Activation, activation, confirm, uptime
from clan.machine.layout import CONFIRMED, CURRENT, Layout, boot_id
from clan.machine.system import BusyError, StepError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    layout = with_generations(tmp_path, 1, 2)
    layout.choose(CURRENT, 2)
    layout.choose(CONFIRMED, 1)
    return layout


def waiting(**changes: object) -> Activation:
    now = Activation(
        number=2, token="token", boot=boot_id(), stage="waiting", deadline=uptime() + 60
    )
    return replace(now, **changes)  # type: ignore[arg-type]


def test_the_token_confirms_it(layout: Layout) -> None:
    waiting().note(layout)
    confirm(layout, 2, "token")
    assert layout.chosen(CONFIRMED) == 2
    now = activation(layout)
    assert now is not None
    assert now.stage == "confirmed"
    confirm(layout, 2, "token")  # whoever did not hear the answer asks again


@pytest.mark.parametrize(
    ("number", "token", "noted"),
    [
        (2, "other", waiting()),
        (2, "", waiting()),
        (2, "tokén", waiting()),
        (1, "token", waiting()),
        (2, "token", waiting(boot="another")),
        (2, "token", waiting(stage="switching")),
        (2, "token", waiting(stage="rolled back", reason="no tea")),
        (2, "token", None),
    ],
)
def test_nothing_else_does(
    layout: Layout, number: int, token: str, noted: Activation | None
) -> None:
    if noted is not None:
        noted.note(layout)
    with pytest.raises(StepError) as caught:
        confirm(layout, number, token)
    assert layout.chosen(CONFIRMED) == 1
    assert noted is None or noted.reason is None or "no tea" in str(caught.value)


def test_a_second_one_is_refused_until_the_first_one_s_lease_ends(layout: Layout) -> None:
    activate.begin(layout, 2, "first", "u.service")
    with pytest.raises(BusyError, match="generation 2 is being activated"):
        activate.begin(layout, 1, "second", "u.service")
    waiting().note(layout)
    with pytest.raises(BusyError, match="generation 2 waits for its confirmation, for 60 s"):
        activate.begin(layout, 1, "second", "u.service")
    waiting(deadline=uptime() - 1).note(layout)
    activate.begin(layout, 1, "second", "u.service")
    now = activation(layout)
    assert now is not None
    assert (now.number, now.token, now.stage) == (1, "second", "preparing")


@pytest.mark.parametrize("stage", ["confirmed", "rolled back", "failed"])
def test_one_that_ended_holds_nobody_up(layout: Layout, stage: str) -> None:
    waiting(stage=stage).note(layout)
    activate.begin(layout, 2, "next", "u.service")


def test_one_that_did_not_start_is_given_up(layout: Layout) -> None:
    activate.begin(layout, 2, "token", "u.service")
    activate.abandon(layout, 1, "not this one")
    with pytest.raises(BusyError):
        activate.refuse_second(layout)
    activate.abandon(layout, 2, "systemd said no")
    now = activation(layout)
    assert now is not None
    assert (now.stage, now.reason) == ("failed", "systemd said no")


@pytest.mark.parametrize("stage", ["confirmed", "rolled back", "failed"])
def test_a_late_timer_undoes_nothing(layout: Layout, stage: str) -> None:
    waiting(stage=stage).note(layout)
    activate.rollback(layout, 2, "too late")
    waiting(number=1).note(layout)
    activate.rollback(layout, 2, "another's")
    assert layout.chosen(CURRENT) == 2


def test_one_at_a_time(layout: Layout) -> None:
    with activate.alone(layout), pytest.raises(BusyError), activate.alone(layout, patience=0.05):
        pytest.fail("two at once")


def test_only_the_last_few_are_kept(tmp_path: Path) -> None:
    layout = with_generations(tmp_path, *range(1, 12))
    layout.choose(CURRENT, 2)
    layout.choose(CONFIRMED, 1)
    assert activate.collect(layout) == [3, 4, 5, 6, 7, 8]
    assert layout.numbers() == [0, 1, 2, 9, 10, 11]


def test_a_generation_that_is_half_removed_is_none(tmp_path: Path) -> None:
    def fresh() -> Callable[[], object]:
        shutil.rmtree(tmp_path / "disk", ignore_errors=True)
        layout = with_generations(tmp_path / "disk", *range(1, 8))
        for number in range(1, 8):
            for name in "abcdefgh":
                (layout.generation(number) / name).write_text("its own")
        return lambda: activate.collect(layout)

    layout = Layout(root=tmp_path / "disk")
    for _ in killed_at_each_step(fresh):
        for number in layout.numbers()[1:]:
            assert len(list(layout.generation(number).iterdir())) == 9
    activate.collect(layout)
    assert {each.name for each in layout.generations.iterdir()} == set("034567")
