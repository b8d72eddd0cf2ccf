"""`clan mesh` at the admin's desk: a root on paper; maps signed, forked, merged, overruled."""

from __future__ import annotations

import json
import re
import shutil
from typing import TYPE_CHECKING, Any

import pytest
from tests.mesh import signers

from clan.errors import ClanError
from clan.mesh.chart.carry import Told
from clan.mesh.identity import born, of_text, read, text
from clan.modules.mesh.desk import Desk, own_key, pen
from clan.modules.mesh.signing import following
from clan.vars.store import Store

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

CLAN = """
[meta]
name = "family"
[machines.nas]
tags = ["server"]
[machines.laptop]
[machines.phone]
[instances.home]
module.name = "mesh"
roles.member.tags = ["all"]
"""


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch, clan: Run) -> Path:
    """Be Anna, an admin with a recovery key, in a clan's folder; two machines are installed."""
    (home / "clan.toml").write_text(CLAN)
    monkeypatch.setenv("USER", "anna")
    monkeypatch.setenv("LOGNAME", "anna")
    monkeypatch.setenv("HOME", str(home / "anna"))
    for name in ("CONFIG", "STATE", "CACHE"):
        monkeypatch.setenv(f"XDG_{name}_HOME", str(home / "anna" / name.lower()))
    assert clan("vars", "keys", "generate").code == 0
    secret = clan("vars", "keys", "recovery").out
    (home / "paper").write_text(secret)
    (home / "paper").chmod(0o600)
    installed(home, "nas", "laptop")
    return home


def installed(folder: Path, *machines: str) -> None:
    """Have machines hand out their identities."""
    for name in machines:
        public = text(signers.key(name).public)
        Store.of(folder, {}).write(name, "mesh-home", "publickey", public)


def desk(folder: Path) -> Desk:
    """Sit down at the folder, as the code of an update does."""
    import os

    from clan.inventory.open import open_clan

    found = open_clan(folder / "clan.toml")
    return Desk.begin(found.instances["home"], found, Store.of(folder, os.environ))


def shown(clan: Run) -> dict[str, Any]:
    done = clan("mesh", "map", "--json")
    assert done.code == 0, done.err
    found: dict[str, Any] = json.loads(done.out)
    return found


def names(shape: dict[str, Any]) -> list[str]:
    return [each["name"] for each in shape["machines"]]


def apart(folder: Path, clan: Run) -> str:
    """Let Ben sign as well, and have him sign apart from Anna; return the second map's name."""
    ben = born(folder / "ben.key")
    assert clan("mesh", "admins", "add", "ben", text(ben.public)).code == 0
    other = desk(folder)
    clan_file = folder / "clan.toml"
    clan_file.write_text(CLAN.replace('["server"]', '["server", "ben"]'))
    mine = desk(folder)
    clan_file.write_text(CLAN.replace('["server"]', '["server", "anna"]'))
    by_ben = following(mine.held, mine.wanted(), pen(ben))
    by_anna = following(other.held, desk(folder).wanted(), pen(own()))
    assert by_ben is not None
    assert by_anna is not None
    here = desk(folder)
    here.hear(Told(maps=(by_ben.raw, by_anna.raw)))
    here.keep()
    return str(by_ben)


def own() -> Any:
    import os

    key = own_key(os.environ)
    assert key is not None
    return key


def test_a_mesh_begins_with_a_root_that_only_the_paper_can_read(folder: Path, clan: Run) -> None:
    done = clan("mesh", "root", "--json")
    assert done.code == 0, done.err
    made = json.loads(done.out)
    store = Store.of(folder, {})
    root = of_text(made["root"])
    assert (folder / "vars/shared/mesh-root-home/publickey/value").read_text().strip() == made[
        "root"
    ]
    key = folder / "anna/config/clan/mesh.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert text(read(key).public) == made["admin"]
    from clan.modules.mesh.kept import Kept
    from clan.vars.age import read_identity

    kept = Kept(store=store, instance="home")
    assert kept.root(read_identity(folder / "paper")).public == root
    with pytest.raises(ClanError, match="does not decrypt it"):
        kept.root(read_identity(folder / "anna/config/clan/age.key"))
    there = shown(clan)
    assert names(there) == ["laptop", "nas"]
    assert there["state"] == "clear"
    assert [each["called"] for each in there["maps"]] == ["map 1.1 of anna"]
    assert there["admins"] == [{"name": "anna", "key": made["admin"]}]
    said = clan("mesh", "map").out
    line = said.splitlines()[0]
    assert re.fullmatch(r"map 1\.1 of anna in home, signed (just now|\d+ seconds? ago)", line)
    assert max(map(len, said.splitlines())) <= 80
    again = clan("mesh", "root")
    assert (again.code, again.out) == (1, "")
    assert "the mesh home has a root" in again.err
    assert "\x1b" not in said


def test_without_a_recovery_key_there_is_no_root(folder: Path, clan: Run) -> None:
    (folder / "vars/admins/recovery.toml").unlink()
    done = clan("mesh", "root")
    assert done.code == 1
    assert "hint: `clan vars keys recovery` prints one" in done.err
    done = clan("mesh", "root", "--recovery", "anna")
    assert "the root's key must not be readable here" in done.err
    assert not (folder / "vars/mesh").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("map", "-n", "hom"), "the clan has no mesh 'hom'"),
        (("map", "-n", "hom"), "did you mean 'home'?"),
        (("map",), "the mesh home has no root yet"),
        (("merge",), "`clan mesh root --network home` makes it"),
        (("mpa",), "did you mean 'map'?"),
    ],
)
def test_what_cannot_be_says_what_to_do(
    folder: Path, clan: Run, words: tuple[str, ...], said: str
) -> None:
    done = clan("mesh", *words)
    assert done.code != 0
    assert said in done.err
    assert folder.exists()


def test_an_update_signs_what_the_file_says_now(folder: Path, clan: Run) -> None:
    clan("mesh", "root")
    here = desk(folder)
    assert here.update(own()) is None
    installed(folder, "phone")
    made = desk(folder).update(own())
    assert made is not None
    assert [each.name for each in made.content.machines] == ["laptop", "nas", "phone"]
    (folder / "clan.toml").write_text(CLAN.replace("[machines.phone]\n", ""))
    here = desk(folder)
    here.take(made)
    gone = here.update(own())
    assert gone is not None
    assert signers.key("phone").public in gone.content.removed
    here.keep()
    assert names(shown(clan)) == ["laptop", "nas"]
    assert shown(clan)["removed"] == 1


def test_who_is_no_admin_is_told_how_to_become_one(folder: Path, clan: Run) -> None:
    clan("mesh", "root")
    installed(folder, "phone")
    with pytest.raises(ClanError, match="`clan mesh key` makes one"):
        desk(folder).update(None)
    (folder / "anna/config/clan/mesh.key").unlink()
    public = clan("mesh", "key").out.strip()
    with pytest.raises(ClanError) as refused:
        desk(folder).update(own())
    assert f"`clan mesh admins add NAME {public}`" in str(refused.value)
    assert clan("mesh", "key").out.strip() == public


def test_a_stale_folder_removes_nobody(folder: Path, clan: Run) -> None:
    clan("mesh", "root")
    old = folder.parent / "old"
    shutil.copytree(folder, old)
    (old / "clan.toml").write_text(CLAN.replace("[machines.phone]\n", ""))
    installed(folder, "phone")
    newer = desk(folder).update(own())
    assert newer is not None
    stale = desk(old)
    stale.hear(Told(maps=(newer.raw,)))
    with pytest.raises(ClanError, match="has phone, and the clan's file here does not"):
        stale.update(own())
    stale.keep()
    assert desk(old).held.top == newer
    assert desk(old).strangers(desk(old).wanted()) == ["phone"]


def test_a_fork_is_shown_and_merged_on_request_alone(folder: Path, clan: Run) -> None:
    clan("mesh", "root")
    apart(folder, clan)
    there = shown(clan)
    assert there["state"] == "forked"
    assert sorted(each["signer"] for each in there["maps"]) == ["anna", "ben"]
    assert any(line.startswith("nas is not as") for line in there["differences"])
    said = clan("mesh", "map")
    assert "`clan mesh merge --network home` makes one of them" in said.err
    with pytest.raises(ClanError, match="is forked, so none is signed"):
        desk(folder).update(own())
    refused = clan("mesh", "merge")
    assert (refused.code, "there is no terminal to ask at" in refused.err) == (2, True)
    done = clan("mesh", "merge", "--yes", "--json")
    assert done.code == 0, done.err
    assert json.loads(done.out)["signed"] == {"epoch": 1, "serial": 4}
    after = shown(clan)
    assert (after["state"], len(after["maps"])) == ("clear", 1)
    assert "nothing to merge" in clan("mesh", "merge").out


def test_a_thief_is_removed_and_what_they_signed_counts_for_nothing(
    folder: Path, clan: Run
) -> None:
    clan("mesh", "root")
    apart(folder, clan)
    done = clan("mesh", "admins", "remove", "ben", "--json")
    assert done.code == 0, done.err
    there = shown(clan)
    assert there["state"] == "clear"
    assert [each["name"] for each in there["admins"]] == ["anna"]
    unknown = clan("mesh", "admins", "remove", "eve")
    assert "no 'eve' signs maps here; who does: anna" in unknown.err
    alone = clan("mesh", "admins", "remove", "anna")
    assert "another admin has to remove them" in alone.err
    assert "anna (here)" in clan("mesh", "admins", "list").out


def test_the_root_begins_an_epoch_and_may_hand_over_to_a_new_one(folder: Path, clan: Run) -> None:
    first = json.loads(clan("mesh", "root", "--json").out)["root"]
    prefix = shown(clan)["prefix"]
    apart(folder, clan)
    done = clan(
        *("mesh", "epoch", "--recovery-key", "paper"),
        *("--without", "ben", "--new-root", "--yes", "--json"),
    )
    assert done.code == 0, done.err
    there = shown(clan)
    assert [each["called"] for each in there["maps"]] == ["map 2.1 of the root"]
    assert [each["name"] for each in there["admins"]] == ["anna"]
    assert there["root"] != first
    assert there["prefix"] == prefix
    # The new one signs the next epoch; the paper reads it.
    assert clan("mesh", "epoch", "--recovery-key", "paper", "--yes").code == 0
    assert shown(clan)["maps"][0]["epoch"] == 3
    other = clan("mesh", "epoch", "--recovery-key", "anna/config/clan/age.key", "--yes")
    assert other.code == 1
    assert "does not decrypt it" in other.err
    assert clan("mesh", "epoch", "--yes").code == 2


def test_maps_are_read_by_whoever_becomes_an_admin_of_the_clan(folder: Path, clan: Run) -> None:
    import os

    from clan.vars.age import decrypt, new_key, read_identity

    clan("mesh", "root")
    secret, public = new_key()
    assert clan("vars", "keys", "add", "ben", "--key", public).code == 0
    desk(folder).keep()
    (path,) = (folder / "vars/mesh/home/maps").iterdir()
    (folder / "ben").write_text(secret)
    (folder / "ben").chmod(0o600)
    assert decrypt(path.read_bytes(), read_identity(folder / "ben")).startswith(b"clan map 1\n")
    assert os.environ["USER"] == "anna"


def test_a_map_that_cannot_be_read_keeps_from_signing_until_a_machine_tells_it(
    folder: Path, clan: Run
) -> None:
    clan("mesh", "root")
    (path,) = (folder / "vars/mesh/home/maps").iterdir()
    told = desk(folder).held.maps
    before = path.read_bytes()
    path.write_bytes(before[:200])
    installed(folder, "phone")
    here = desk(folder)
    with pytest.raises(ClanError, match="cannot be read, so none is signed"):
        here.update(own())
    here.keep()
    assert path.read_bytes() == before[:200]
    here.hear(Told(maps=tuple(each.raw for each in told)))
    newer = here.update(own())
    assert newer is not None
    # So does one that comes from it.
    again = desk(folder)
    again.hear(Told(maps=(newer.raw,)))
    assert again.unread == {}
    path.unlink()
    missing = clan("mesh", "map")
    assert "has a root and no map" in missing.err


def test_a_machine_that_was_copied_is_no_second_one(folder: Path, clan: Run) -> None:
    clan("mesh", "root")
    same = text(signers.key("nas").public)
    Store.of(folder, {}).write("phone", "mesh-home", "publickey", same)
    with pytest.raises(ClanError, match="nas, phone: have the same identity"):
        desk(folder).update(own())


def test_lies_of_a_machine_are_told_and_change_nothing(folder: Path, clan: Run) -> None:
    clan("mesh", "root")
    here = desk(folder)
    before = here.held
    nas, laptop = signers.key("nas").public, signers.record("laptop")
    wrong = here.hear(Told(maps=(b"hello",), records={nas: laptop}))
    assert wrong[0].startswith("it told a map that is none")
    assert len(wrong) == 2
    assert here.held == before
    assert here.records == {}
