"""A command that is killed at any step leaves old values or new ones, and can be run again."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from textwrap import dedent
from typing import TYPE_CHECKING

from tests.vars.family import Family, changed, made, pair

from clan.model.exports import Var
from clan.vars import folder
from clan.vars.admins import read_admins
from clan.vars.folder import Kept, Meta
from clan.vars.names import GeneratorId

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.generator import Generator, Inputs

ROOT = Path(__file__).parents[2]
PAIR = GeneratorId(machine="nas", name="pair")

# Does a thing in one folder after another, and is killed at the Nth thing that it does to the disk
# in the Nth; prints what became of each. It forks, for starting Python each time takes long.
KILLED = dedent("""
    import os, signal, sys
    from pathlib import Path
    from tests.vars import test_crash
    from tests.vars.family import Family

    WATCHED = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "shutil.rmtree"}

    def run(family, left):
        def count(event, arguments):
            nonlocal left
            opened = event == "open" and isinstance(arguments[0], (str, bytes))
            if event in WATCHED or (opened and str(family.folder) in os.fsdecode(arguments[0])):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(count)
        getattr(test_crash, sys.argv[3])(family)

    import clan.vars.people, clan.vars.survey, pyrage, asyncio
    for step in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            run(Family(Path(sys.argv[1], str(step))), step)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""")


def regenerate(family: Family) -> None:
    family.regenerate(pair(), after(), service="pair")


def remove_ben(family: Family) -> None:
    from clan.vars.people import remove_admin

    remove_admin(family.store, family.graph(pair(), after()), "ben", ("nas",), "2026-02-01")


def after() -> Generator:
    """Return what depends on the pair, and has no secret of its own."""

    def copy(inputs: Inputs) -> Mapping[str, bytes]:
        return {"value": inputs.files["pair"]["public"]}

    return changed(made("after", secret=False, make=copy), depends=("pair",))


def families(tmp_path: Path, number: int) -> list[Family]:
    """Return copies of a family with two admins, of whom Anna sits here."""
    first = tmp_path / "0"
    first.mkdir()
    family = Family(first)
    family.admin()
    family.admin("ben", here=False)
    family.generate(pair(), after())
    for step in range(1, number):
        shutil.copytree(first, tmp_path / str(step))
    return [Family(tmp_path / str(step)) for step in range(number)]


def killed(tmp_path: Path, most: int, what: str) -> list[int]:
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(most), what]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT)
    codes = [int(line) for line in done.stdout.split()]
    assert set(codes) == {0, -9}
    assert codes.count(-9) > 30
    return codes


def values(family: Family) -> tuple[str, str]:
    return (
        family.store.reveal(PAIR.var("private")),
        family.store.reveal(PAIR.var("public")),
    )


def test_a_regeneration_killed_at_any_step_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    most = 110
    all_of_them = families(tmp_path, most)
    before = [values(family) for family in all_of_them]
    codes = killed(tmp_path, most, "regenerate")
    news = 0
    for family, old, code in zip(all_of_them, before, codes, strict=True):
        private, public = values(family)
        assert private == public
        news += (private, public) != old
        assert code == -9 or (private, public) != old
        family.generate(pair(), after())  # what follows is made good
        assert values(family) == (private, public)
        assert family.store.read("nas", "after", "value") == public
        regenerate(family)
        assert list(family.store.folder.rglob(".*")) == []
    assert 0 < news < most


def test_a_removal_killed_at_any_step_can_be_finished(tmp_path: Path) -> None:
    most = 140
    all_of_them = families(tmp_path, most)
    before = [values(family) for family in all_of_them]
    codes = killed(tmp_path, most, "remove_ben")
    for family, old, code in zip(all_of_them, before, codes, strict=True):
        private, public = values(family)
        assert private == public
        if "ben" in read_admins(family.store.folder):
            assert code == -9
            remove_ben(family)
        assert values(family) != old
        assert family.store.read("nas", "after", "value") == values(family)[1]
        kept = folder.load(family.store.place_of(PAIR))
        assert kept is not None
        assert kept.meta is not None
        assert len(kept.meta.recipients["private"]) == 1


def test_between_the_two_renames_the_old_state_is_read(tmp_path: Path) -> None:
    place = tmp_path / "token"
    meta = Meta(serial="1", made="now")
    folder.save(place, Kept(meta=meta, files={"value": b"old"}))
    place.rename(tmp_path / ".token.old")
    assert folder.read_file(place, "value", folder.VALUE) == b"old"
    assert folder.load(place) == Kept(meta=meta, files={"value": b"old"})
    folder.recover(place)
    assert (place / "value/value").read_bytes() == b"old"
    place.rename(tmp_path / ".token.old")
    folder.save(place, Kept(meta=meta, files={"value": b"new"}))
    assert folder.read_file(place, "value", folder.VALUE) == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["token"]


def test_two_commands_at_once_make_a_value_once(tmp_path: Path) -> None:
    family = Family(tmp_path)
    family.admin()
    code = dedent("""
        import sys
        from pathlib import Path
        from tests.vars.family import Family, made, pair
        family = Family(Path(sys.argv[1]))
        for number in range(5):
            done = family.generate(*(made(f"g{each}") for each in range(number + 1)), pair())
            print(*(each.id for each in done if each.made))
            family.regenerate(pair(), service="pair")
    """)
    command = [sys.executable, "-c", code, str(tmp_path)]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT) for _ in range(4)
    ]
    said = [process.communicate()[0].split() for process in running]
    assert [process.returncode for process in running] == [0, 0, 0, 0]
    names = sorted(name for each in said for name in each)
    assert names == ["nas/g0", "nas/g1", "nas/g2", "nas/g3", "nas/g4", "nas/pair"]
    private, public = values(family)
    assert private == public
    assert family.store.value(Var(machine="nas", generator="g0", file="value"))
