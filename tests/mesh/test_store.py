"""The maps on a machine's disk: what was taken is there after a kill, an older one never again."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.machine.kill import killed_at_each_step
from tests.mesh.signers import ALICE, BOB, ROOT, content, key, names, signed

from clan.mesh.chart.accept import Outcome
from clan.mesh.chart.forks import State
from clan.mesh.chart.store import Store
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Callable

FIRST = signed(content("nas", "phone", "tv"))
SECOND = signed(content("nas", "tv"), BOB, after=[FIRST])
BESIDE = signed(content("nas", "phone"), ALICE, after=[FIRST])


def store(folder: Path) -> Store:
    return Store(folder / "mesh", ROOT.public)


def test_what_is_taken_is_kept_for_root_alone(tmp_path: Path) -> None:
    own = store(tmp_path)
    assert own.held().heads == ()
    assert own.offer(FIRST.raw).outcome is Outcome.NEWER
    assert own.offer(SECOND.raw).outcome is Outcome.NEWER
    assert own.offer(FIRST.raw).outcome is Outcome.OLDER
    assert store(tmp_path).held().heads == (SECOND,)
    assert (tmp_path / "mesh").stat().st_mode & 0o777 == 0o700
    for file in (tmp_path / "mesh").iterdir():
        assert file.stat().st_mode & 0o777 == 0o600


def test_a_fork_is_kept_with_its_branches(tmp_path: Path) -> None:
    for each in (FIRST, SECOND, BESIDE):
        store(tmp_path).offer(each.raw)
    held = store(tmp_path).held()
    assert set(held.heads) == {SECOND, BESIDE}
    assert held.view.state is State.FORKED
    assert names(held.view.content) == ["nas"]


def test_what_is_no_map_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    own = store(tmp_path)
    own.offer(FIRST.raw)
    before = (tmp_path / "mesh/map").stat()
    other = Store(tmp_path / "other", key("another root").public)
    for verdict in (own.offer(b"noise"), own.offer(SECOND.raw[:-1]), other.offer(FIRST.raw)):
        assert verdict.outcome is Outcome.REFUSED
        assert verdict.reason
    own.offer(FIRST.raw)
    after = (tmp_path / "mesh/map").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)


def test_a_kill_at_any_step_leaves_the_old_or_the_new_map(tmp_path: Path) -> None:
    seen = []

    def begin() -> Callable[[], object]:
        shutil.rmtree(tmp_path / "mesh", ignore_errors=True)
        store(tmp_path).offer(FIRST.raw)
        store(tmp_path).offer(SECOND.raw)
        return lambda: store(tmp_path).offer(third.raw)

    third = signed(content("nas"), ALICE, after=[SECOND])
    for _ in killed_at_each_step(begin):
        seen.append(store(tmp_path).held().heads)
        assert store(tmp_path).offer(third.raw).outcome in {Outcome.NEWER, Outcome.SAME}
        assert store(tmp_path).held().heads == (third,)
    assert set(seen) == {(SECOND,), (third,)}
    assert seen == sorted(seen, key=lambda heads: heads[0].serial)


def test_a_process_killed_while_it_takes_map_after_map_has_the_last_or_the_one_before(
    tmp_path: Path,
) -> None:
    code = """
import sys
sys.path.insert(0, sys.argv[2])
from pathlib import Path
from tests.mesh.signers import *
from clan.mesh.chart.store import Store
own = Store(Path(sys.argv[1]) / "mesh", ROOT.public)
chart = own.held().top or signed(content("nas"))
while True:
    own.offer(chart.raw)
    print(chart.serial, flush=True)
    chart = signed(content("nas"), after=[chart])
"""
    root = Path(__file__).parents[2]
    last = 0
    for number in range(3):
        child = subprocess.Popen(
            [sys.executable, "-c", code, tmp_path, root], stdout=subprocess.PIPE, text=True
        )
        assert child.stdout
        child.stdout.readline()
        time.sleep(0.05 + number / 30)
        os.kill(child.pid, signal.SIGKILL)
        said = [int(line) for line in child.communicate()[0].split()]
        top = store(tmp_path).held().top
        assert top
        assert top.serial >= max(said, default=last)
        last = top.serial


def test_a_damaged_map_falls_back_to_the_one_before(tmp_path: Path) -> None:
    for each in (FIRST, SECOND):
        store(tmp_path).offer(each.raw)
    path = tmp_path / "mesh/map"
    whole = path.read_bytes()
    for damaged in (b"", whole[:100], whole[:-1], whole[:-9] + b"x" + whole[-8:], whole + whole):
        path.write_bytes(damaged)
        assert store(tmp_path).held().heads == (FIRST,)
    (tmp_path / "mesh/map.before").write_bytes(b"")
    with pytest.raises(MeshError, match="map is damaged") as raised:
        store(tmp_path).held()
    assert "clan machines update" in str(raised.value)
    path.write_bytes(whole)
    assert store(tmp_path).held().heads == (SECOND,)
