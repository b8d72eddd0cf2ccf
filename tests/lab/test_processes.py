from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

import pytest

from clan.errors import LabError, MissingProgramError
from clan.lab.processes import Group, Runner, hierarchies, require, start

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


@pytest.fixture
def group(lab_ready: None) -> Iterator[Group]:
    del lab_ready
    made = Group(path=f"clan-lab-test-{os.getpid()}-group")
    made.make()
    yield made
    made.end()


def until(happens: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not happens():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_step_returns_what_was_printed_or_says_what_failed() -> None:
    run = Runner()
    assert run.step(["cat"], text="hello") == "hello"
    assert run.step(["sh", "-c", "echo $WHO"], env={"WHO": "me"}) == "me\n"
    with pytest.raises(LabError, match="sh -c echo oops >&2; exit 3: oops"):
        run.step(["sh", "-c", "echo oops >&2; exit 3"])
    with pytest.raises(MissingProgramError, match="no-such-program is not installed"):
        run.step(["no-such-program"])
    with pytest.raises(MissingProgramError, match="no-such-program is not installed"):
        require(["sh", "no-such-program"])


@pytest.mark.lab
def test_what_is_started_in_a_group_ends_with_it(group: Group, tmp_path: Path) -> None:
    """Children, and groups that they made inside, end too."""
    log = tmp_path / "log"
    group.child("inner").make()
    argv = ["sh", "-c", "pwd; sleep 1000 & sleep 1000 & wait"]
    process = start(argv, group.child("inner"), folder=tmp_path, log=log)
    until(lambda: len(list(group.processes())) == 3)
    assert process in set(group.processes())
    assert log.read_text() == f"{tmp_path}\n"
    group.end()
    assert not any((top / group.path).exists() for top in hierarchies())
    group.end()
