"""Edits on the disk: nothing is lost when they are killed, or when two come at once."""

from __future__ import annotations

import shutil
import subprocess
import sys
from textwrap import dedent
from typing import TYPE_CHECKING

import pytest

from clan.errors import ClanError, InventoryError
from clan.inventory.apply import apply, apply_rename
from clan.inventory.edit import create_machine, delete_machine
from clan.inventory.load import load
from clan.inventory.registry import Registry

if TYPE_CHECKING:
    from pathlib import Path

CLAN = """\
# our clan
[machines.nas]
[machines.vps]
deploy.targetHost = "vps.example.com"
[instances.lan]
roles.default.machines = ["nas", "vps"]
"""

# Renames a machine in one folder after another, and is killed at the Nth thing that it does to the
# disk in the Nth; prints what became of each. It forks, for starting Python each time takes long.
KILLED = dedent("""
    import os, signal, sys
    from pathlib import Path
    from clan.inventory import apply, load, locate, registry, resolve

    WATCHED = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.utime",
               "shutil.copyfile", "shutil.copymode"}

    def rename(folder, left):
        def count(event, arguments):
            nonlocal left
            opened = event == "open" and isinstance(arguments[0], (str, bytes))
            if event in WATCHED or (opened and str(folder) in os.fsdecode(arguments[0])):
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                left -= 1

        sys.addaudithook(count)
        clan = registry.Registry(folder)
        apply.apply_rename(folder / "clan.toml", clan, ("nas", "box"), folder / "vars")

    first = Path(sys.argv[1], "0")
    resolve.resolve(load.load(first / "clan.toml"), registry.Registry(first))  # import it all
    for step in range(int(sys.argv[2])):
        child = os.fork()
        if child == 0:
            rename(Path(sys.argv[1], str(step)), step)
            os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
""")


def family(folder: Path) -> Path:
    """Write a clan whose machine `nas` has vars."""
    folder.mkdir(exist_ok=True)
    (folder / "clan.toml").write_text(CLAN)
    generated = folder / "vars/per-machine/nas/tor_lan"
    (generated / "key").mkdir(parents=True)
    (generated / "key/value").write_bytes(b"secret")
    (generated / "key/value").chmod(0o600)
    (generated / "hostname").mkdir()
    (generated / "hostname/value").write_bytes(b"abc.onion")
    return folder


def whole(vars_of: Path) -> bool:
    return {
        str(file.relative_to(vars_of)): file.read_bytes()
        for file in vars_of.rglob("*")
        if file.is_file()
    } == {"tor_lan/key/value": b"secret", "tor_lan/hostname/value": b"abc.onion"}


def test_a_rename_killed_at_any_step_loses_nothing_and_can_be_finished(tmp_path: Path) -> None:
    most = 60
    folders = [family(tmp_path / str(step)) for step in range(most)]
    command = [sys.executable, "-c", KILLED, str(tmp_path), str(most)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    ends = list(zip(folders, map(int, done.stdout.split()), strict=True))
    killed = [folder for folder, code in ends if code == -9]
    finished = [folder for folder, code in ends if code == 0]
    assert len(killed) > 20
    assert len(killed) + len(finished) == most
    assert finished
    for folder in killed:
        name = "nas" if (folder / "clan.toml").read_text() == CLAN else "box"
        assert (folder / "clan.toml").read_text() == CLAN.replace("nas", name)
        assert whole(folder / "vars/per-machine" / name)
        if name == "nas" or list(folder.glob("vars/per-machine/*nas*")):
            apply_rename(folder / "clan.toml", Registry(folder), ("nas", "box"), folder / "vars")
        assert (folder / "clan.toml").read_text() == CLAN.replace("nas", "box")
        assert whole(folder / "vars/per-machine/box")
    for folder in [*killed, *finished]:
        assert [path.name for path in (folder / "vars/per-machine").iterdir()] == ["box"]
    for folder in finished:
        assert sorted(path.name for path in folder.iterdir()) == ["clan.toml", "vars"]
        assert (folder / "vars/per-machine/box/tor_lan/key/value").stat().st_mode & 0o777 == 0o600


def test_vars_of_an_earlier_machine_are_not_taken_over(tmp_path: Path) -> None:
    folder = family(tmp_path)
    shutil.copytree(folder / "vars/per-machine/nas", folder / "vars/per-machine/box")
    (folder / "vars/per-machine/box/tor_lan/key/value").write_bytes(b"another")
    with pytest.raises(ClanError, match="is there already"):
        apply_rename(folder / "clan.toml", Registry(folder), ("nas", "box"), folder / "vars")
    assert (folder / "clan.toml").read_text() == CLAN
    assert whole(folder / "vars/per-machine/nas")


def test_edits_at_the_same_time_are_all_there_afterwards(tmp_path: Path) -> None:
    folder = family(tmp_path)
    code = dedent("""
        import sys
        from pathlib import Path
        from clan.inventory.apply import apply
        from clan.inventory.edit import create_machine
        from clan.inventory.registry import Registry
        folder = Path(sys.argv[1])
        for number in range(3):
            name = f"{sys.argv[2]}{number}"
            apply(folder / "clan.toml", Registry(folder), lambda c: create_machine(c, name))
    """)
    running = [subprocess.Popen([sys.executable, "-c", code, str(folder), name]) for name in "abcd"]
    assert [process.wait() for process in running] == [0, 0, 0, 0]
    names = {f"{name}{number}" for name in "abcd" for number in range(3)}
    assert set(load(folder / "clan.toml").machines) == {"nas", "vps", *names}


def test_a_change_by_an_editor_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    file = family(tmp_path) / "clan.toml"

    def slow(inventory: object) -> object:
        file.write_text(CLAN + "# saved by the editor\n")
        return create_machine(inventory, "pi")  # type: ignore[arg-type]

    with pytest.raises(ClanError, match="changed meanwhile"):
        apply(file, Registry(tmp_path), slow)  # type: ignore[arg-type]
    assert file.read_text().endswith("# saved by the editor\n")


def test_a_refused_edit_writes_nothing(tmp_path: Path) -> None:
    file = family(tmp_path) / "clan.toml"
    text = CLAN + (
        "[instances.vpn]\nmodule.name = 'wireguard'\n"
        "roles.controller.machines.vps.settings.endpoint = 'vps.example.com'\n"
        "roles.peer.machines.nas.settings.controller = 'vps'\n"
    )
    file.write_text(text)
    registry = Registry(tmp_path)
    with pytest.raises(InventoryError):
        apply(file, registry, lambda clan: delete_machine(clan, registry, "vps"))
    assert file.read_text() == text


def test_what_changed_is_staged(tmp_path: Path) -> None:
    folder = family(tmp_path)
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", "-C", str(folder), *command], check=True)
    apply_rename(folder / "clan.toml", Registry(folder), ("nas", "box"), folder / "vars")
    listed = ["git", "-C", str(folder), "ls-files", "vars"]
    staged = subprocess.run(listed, check=True, capture_output=True, text=True).stdout.split()
    assert staged == [
        "vars/per-machine/box/tor_lan/hostname/value",
        "vars/per-machine/box/tor_lan/key/value",
    ]
    unstaged = subprocess.run(["git", "-C", str(folder), "diff", "--quiet"], check=False)
    assert unstaged.returncode == 0
