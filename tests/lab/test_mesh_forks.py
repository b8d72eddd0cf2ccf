"""Two admins who sign apart: machines hold both maps, until one of the admins makes one of them."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from tests.lab.home import LAB, UNIT, Home, clan_file, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

MEMBERS = ("nas", "desktop")


def tagged(home: Home, machine: str, tag: str) -> None:
    """Give a machine a tag in an admin's copy of the clan's file."""
    text = clan_file(*MEMBERS)
    before, after = f"[machines.{machine}]\n", f"[machines.{machine}]\ntags = ['{tag}']\n"
    (home.folder / "clan.toml").write_text(text.replace(before, after))


@pytest.fixture
def admins(labs: Labs, tmp_path: Path) -> tuple[Home, Home]:
    """Anna and Ben, each with a copy of the clan's folder, and two machines in the mesh."""
    anna = Home(labs(LAB))
    anna.begin()
    (anna.folder / "clan.toml").write_text(clan_file(*MEMBERS))
    anna.clan("vars", "keys", "generate")
    anna.clan("vars", "keys", "recovery")
    anna.clan("mesh", "root", "--name", "anna")
    for name in MEMBERS:
        anna.clan("machines", "install", name)
    anna.clan("machines", "update", *MEMBERS)
    ben = Home(anna.lab, tmp_path / "ben")
    shutil.copytree(anna.folder, ben.folder, ignore=shutil.ignore_patterns("admin"))
    reads = ben.json("vars", "keys", "generate")["key"]
    signs = ben.json("mesh", "key")["key"]
    anna.clan("vars", "keys", "add", "ben", "--key", reads)
    anna.clan("mesh", "admins", "add", "ben", signs)
    shutil.copytree(anna.folder / "vars", ben.folder / "vars", dirs_exist_ok=True)
    for path in (ben.folder / "vars/mesh/home/maps").iterdir():
        if not (anna.folder / "vars/mesh/home/maps" / path.name).exists():
            path.unlink()
    return anna, ben


def test_a_fork_is_held_by_all_and_merged_by_one(admins: tuple[Home, Home]) -> None:
    anna, ben = admins
    for name in MEMBERS:
        anna.on(name, f"systemctl stop {UNIT}")
    tagged(ben, "nas", "of-ben")
    (outcome,) = ben.json("machines", "update", "desktop")
    assert outcome["maps"] == {"home": "newer"}
    tagged(anna, "nas", "of-anna")
    (outcome,) = anna.json("machines", "update", "nas")
    assert outcome["maps"] == {"home": "newer"}
    for name in MEMBERS:
        anna.on(name, f"systemctl start {UNIT}")

    def states() -> set[str]:
        return {each["map_state"] for each in anna.json("mesh", "status").values()}

    # Each hears of the other's map, and holds both.
    until(lambda: states() == {"forked"})
    assert anna.pings("nas", "desktop.home")
    done = anna.lab.run(anna.words("machines", "update", "nas"), check=False)
    assert done.returncode == 0
    assert "the map of the mesh home is forked, so none is signed" in done.stderr
    there = anna.json("mesh", "map")
    assert there["state"] == "forked"
    assert sorted(each["signer"] for each in there["maps"]) == ["anna", "ben"]
    merged = anna.json("mesh", "merge", "--yes")
    assert len(merged["merged"]) == 2
    until(lambda: states() == {"clear"})
    (nas,) = [e for e in anna.json("mesh", "map")["machines"] if e["name"] == "nas"]
    assert nas["tags"] == ["of-anna"]
