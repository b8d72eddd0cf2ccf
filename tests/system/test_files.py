from __future__ import annotations

import os
import subprocess
import sys
import threading
from typing import TYPE_CHECKING

import pytest

from clan.errors import ClanError
from clan.system.files import copy_tree, create_new, locked, same_or_subset, write_atomic

if TYPE_CHECKING:
    from pathlib import Path


def test_a_replaced_file_keeps_its_mode_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    file = tmp_path / "clan.toml"
    file.write_bytes(b"old")
    file.chmod(0o640)
    write_atomic(file, b"new")
    assert file.read_bytes() == b"new"
    assert file.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["clan.toml"]


def test_a_new_file_gets_the_mode_that_is_asked_for(tmp_path: Path) -> None:
    write_atomic(tmp_path / "key", b"secret", mode=0o600)
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600


def test_a_symbolic_link_stays_and_its_file_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.toml").write_bytes(b"old")
    link = tmp_path / "clan.toml"
    link.symlink_to("real.toml")
    write_atomic(link, b"new")
    assert link.is_symlink()
    assert (tmp_path / "real.toml").read_bytes() == b"new"


def test_a_failed_write_leaves_the_old_file_alone(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomic(target, b"new")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_new_file_never_replaces_one_that_is_there(tmp_path: Path) -> None:
    create_new(tmp_path / "clan.toml", b"first")
    with pytest.raises(FileExistsError):
        create_new(tmp_path / "clan.toml", b"second")
    assert (tmp_path / "clan.toml").read_bytes() == b"first"
    assert len(list(tmp_path.iterdir())) == 1


def test_a_copied_folder_has_the_same_files_and_a_stale_draft_is_made_anew(tmp_path: Path) -> None:
    source = tmp_path / "nas"
    (source / "tor_tor").mkdir(parents=True)
    (source / "tor_tor/key").write_bytes(b"k")
    (source / "tor_tor/key").chmod(0o600)
    (source / "link").symlink_to("tor_tor/key")
    (tmp_path / ".box.copy").mkdir()
    (tmp_path / ".box.copy/stale").touch()
    copy_tree(source, tmp_path / "box")
    assert same_or_subset(source, tmp_path / "box")
    assert same_or_subset(tmp_path / "box", source)
    assert (tmp_path / "box/tor_tor/key").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "box/link").is_symlink()
    (tmp_path / "box/more").touch()
    assert not same_or_subset(tmp_path / "box", source)


def test_a_second_writer_waits_for_the_first(tmp_path: Path) -> None:
    order = []

    def second() -> None:
        with locked(tmp_path):
            order.append("second")

    with locked(tmp_path):
        thread = threading.Thread(target=second)
        thread.start()
        thread.join(0.1)
        order.append("first")
    thread.join()
    assert order == ["first", "second"]
    assert list(tmp_path.iterdir()) == []


def test_a_writer_that_waits_too_long_says_so(tmp_path: Path) -> None:
    with locked(tmp_path):
        second = locked(tmp_path, patience=0.05)
        with pytest.raises(ClanError, match="another command") as caught:
            second.__enter__()
    assert caught.value.where == str(tmp_path)


def test_a_killed_writer_leaves_no_lock(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from clan.system.files import locked\n"
        "with locked(Path(sys.argv[1])): os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", code, os.fspath(tmp_path)], check=False)
    assert done.returncode == -9
    with locked(tmp_path, patience=0):
        pass
