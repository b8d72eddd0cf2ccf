"""What was noted is written some steps at a time, is there for who asks, and can be replayed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.mesh.test_journal import eventful

from clan.mesh import journal
from clan.mesh.agent import diary, setting
from clan.mesh.agent.diary import Diary
from clan.mesh.step import State, step

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.mesh.world import Node


def place(folder: Path) -> setting.Setting:
    return setting.Setting(
        instance="home",
        root=b"",
        identity=folder / "key",
        state=folder,
        socket=folder / "socket",
        streams=folder / "streams",
        journal=folder / "journal",
    )


def lived(node: Node, kept: Diary) -> Iterator[State]:
    """Live a machine's life again, note it, and yield the state after each step."""
    state = State()
    assert node.log is not None
    for desired, observed, now in node.log:
        before = state
        state, actions = step(before, desired, observed, now)
        kept.note(before, state, observed, now, actions)
        yield state


def lines(kept: Diary) -> list[str]:
    return [line for each in kept.journals for line in each.read_text().splitlines()]


@pytest.mark.parametrize("longest", [1 << 30, 30_000])
def test_who_asks_finds_all_that_was_noted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, longest: int
) -> None:
    monkeypatch.setattr(diary, "LONGEST_JOURNAL", longest)
    node, kept = eventful(), Diary(place(tmp_path))
    for number, state in enumerate(lived(node, kept)):
        if number % 50 == 0:
            *_, last = journal.replay(lines(kept))
            assert last.state == state
    assert all(each.stat().st_size < 2 * longest for each in kept.journals)
    replayed = list(journal.replay(lines(kept)))
    assert replayed[-1].state == node.state
    assert all(each.recorded == each.again for each in replayed)


def test_steps_are_written_together_and_never_many_are_kept(tmp_path: Path) -> None:
    node, kept = eventful(), Diary(place(tmp_path))
    file, sizes = tmp_path / "journal", set[int]()
    for number, _ in enumerate(lived(node, kept), 1):
        sizes.add(file.stat().st_size if file.exists() else 0)
        assert len(sizes) == 1 + number // diary.MOST_NOTED
    kept.close()
    *_, last = journal.replay(file.read_text().splitlines())
    assert last.state == node.state


def test_a_decision_is_written_at_once(tmp_path: Path) -> None:
    node, kept = eventful(), Diary(place(tmp_path))
    for state in lived(node, kept):
        if state.pairs and kept.why:
            break
    (told,) = {each["why"] for each in kept.decisions("nas", 1)}
    assert told in (tmp_path / "log").read_text()
