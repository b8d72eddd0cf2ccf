from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from clan.networks.login import FOLDERS, own_folder

HOLD = """
import sys, time
from clan.networks.login import own_folder
with own_folder() as place:
    print(place, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def own_tmp(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)


def test_a_login_s_folder_is_its_own_and_goes_with_it(tmp_path: Path) -> None:
    with own_folder() as place:
        assert place.parent == tmp_path
        assert place.stat().st_mode & 0o777 == 0o700
    assert not list(tmp_path.iterdir())


def test_what_a_killed_login_left_goes_with_the_next_and_what_is_in_use_stays(
    tmp_path: Path,
) -> None:
    words = [sys.executable, "-c", HOLD]
    killed, living = (subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2))
    try:
        folders = [Path(each.stdout.readline().strip()) for each in (killed, living) if each.stdout]
        os.kill(killed.pid, signal.SIGKILL)
        killed.wait()
        assert all(folder.is_dir() for folder in folders)
        with own_folder() as mine:
            assert set(tmp_path.glob(f"{FOLDERS}*")) == {folders[1], mine}
    finally:
        for each in (killed, living):
            each.kill()
            each.communicate()


def test_a_link_that_somebody_laid_is_not_followed(tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "lock").touch()
    (tmp_path / f"{FOLDERS}x").symlink_to(precious)
    with own_folder():
        assert (precious / "lock").exists()
