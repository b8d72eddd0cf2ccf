"""A generation's files at their places, and what stood there before."""

from __future__ import annotations

import getpass
import grp
import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from tests.machine.kill import killed_at_each_step

from clan.machine.files import give_up_others, place_files
from clan.machine.layout import CURRENT, MANIFEST, Layout

ONE = {"/etc/motd": "one\n", "/etc/alias": "one\n", "/etc/story/deep/text": "one\n"}
TWO = {"/etc/motd": "two\n", "/etc/story/other": "two\n", "/srv/ours/text": "two\n"}


class Disk:
    """A machine's disk with two generations, and files of someone else's."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.layout = Layout(root=root)
        self.layout.prepare()
        (root / "srv").mkdir()
        (root / "etc/motd").write_text("mine\n")
        (root / "etc/motd").chmod(0o4750)
        (root / "etc/alias").symlink_to("motd")
        for number, files in ((1, ONE), (2, TWO)):
            folder = self.layout.generation(number)
            shape = []
            for path, text in files.items():
                place = folder / "files" / path.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                place.write_text(text)
                shape.append(
                    {
                        "path": path,
                        "mode": 0o644,
                        "owner": getpass.getuser(),
                        "group": grp.getgrgid(os.getgid()).gr_name,
                    }
                )
            (folder / MANIFEST).write_text(json.dumps({"files": shape, "number": number}))

    def go(self, number: int) -> None:
        give_up_others(self.layout, self.layout.manifest(number))
        self.layout.choose(CURRENT, number)
        place_files(self.layout, self.layout.manifest(number))

    def outside(self) -> dict[str, Any]:
        """Return all that is not in folders of ours, with permissions."""
        found: dict[str, Any] = {}
        ours = (self.layout.state, self.layout.own, self.layout.run)
        for folder, folders, files in os.walk(self.root):
            for name in (*folders, *files):
                path = Path(folder, name)
                if any(path == own or own in path.parents for own in ours):
                    continue
                mode = path.lstat().st_mode
                target = str(path.readlink()) if path.is_symlink() else None
                text = path.read_text() if path.is_file() and not target else None
                found[str(path.relative_to(self.root))] = (mode, target, text)
        return found

    def has(self, files: dict[str, str]) -> None:
        for path, text in files.items():
            assert (self.root / path.lstrip("/")).read_text() == text


@pytest.fixture
def disk(tmp_path: Path) -> Disk:
    return Disk(tmp_path / "disk")


def test_files_are_placed_replaced_and_given_up(disk: Disk) -> None:
    before = disk.outside()
    disk.go(1)
    disk.has(ONE)
    disk.go(2)
    disk.has(TWO)
    assert not (disk.root / "etc/story/deep").exists()
    assert str((disk.root / "etc/alias").readlink()) == "motd"
    disk.go(0)
    assert disk.outside() == before
    assert list((disk.layout.state / "displaced/etc").iterdir()) == []


def test_a_change_of_generation_is_one_rename_for_what_both_have(disk: Disk) -> None:
    disk.go(1)
    disk.layout.choose(CURRENT, 2)
    assert (disk.root / "etc/motd").read_text() == "two\n"


def test_someone_else_s_file_in_a_folder_of_ours_stays(disk: Disk) -> None:
    disk.go(1)
    theirs = disk.root / "etc/story/theirs"
    theirs.write_text("theirs\n")
    disk.go(0)
    assert theirs.read_text() == "theirs\n"
    theirs.unlink()
    disk.go(0)
    assert not theirs.parent.exists(), "made for ours, and empty now"


def test_a_file_put_where_our_link_was_is_its_owner_s(disk: Disk) -> None:
    disk.go(1)
    place = disk.root / "etc/motd"
    place.unlink()
    place.write_text("edited\n")
    disk.go(0)
    assert place.read_text() == "edited\n"
    disk.go(1)
    disk.has(ONE)
    disk.go(0)
    assert place.read_text() == "edited\n"


def test_what_was_removed_meanwhile_does_not_come_back(disk: Disk) -> None:
    place = disk.root / "etc/motd"
    disk.go(1)
    disk.go(0)
    place.unlink()
    disk.go(1)
    disk.go(0)
    assert not place.exists()


def test_a_folder_in_the_way_is_said_and_left(disk: Disk) -> None:
    (disk.root / "etc/motd").unlink()
    (disk.root / "etc/motd").mkdir()
    with pytest.raises(IsADirectoryError, match="/etc/motd is a folder here"):
        disk.go(1)
    before = [name for name in disk.outside() if name.startswith("etc/motd")]
    disk.go(0)
    assert [name for name in disk.outside() if name.startswith("etc/motd")] == before


@pytest.mark.parametrize(("start", "end"), [(0, 1), (1, 2), (2, 0)])
def test_killed_at_any_step_it_ends_in_the_same_place(tmp_path: Path, start: int, end: int) -> None:
    """What there was is never lost, whichever way the machine goes afterwards."""
    original = Disk(tmp_path / "original").outside()
    place = tmp_path / "disk"
    steps = 0

    def fresh() -> Any:
        shutil.rmtree(place, ignore_errors=True)
        disk = Disk(place)
        disk.go(start)
        return lambda: disk.go(end)

    for steps in killed_at_each_step(fresh):  # noqa: B007 (looked at below)
        disk = Disk.__new__(Disk)
        disk.root, disk.layout = place, Layout(root=place)
        motd = (place / "etc/motd").read_text()
        assert motd in {"mine\n", "one\n", "two\n"}, "there at every moment"
        for number in (end, start, end):
            disk.go(number)
            disk.has({0: {"/etc/motd": "mine\n"}, 1: ONE, 2: TWO}[number])
        disk.go(0)
        assert disk.outside() == original
    assert steps > 8, "it was killed, and often"
