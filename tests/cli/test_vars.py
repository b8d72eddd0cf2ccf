"""`clan vars` as a person uses it: from no key at all to an admin who leaves."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run

CLAN = """
[meta]
name = "family"
[machines.nas]
[machines.laptop]
[instances.home]
module.name = "home"
module.input = "self"
roles.default.tags = ["all"]
"""
MODULE = '''
"""A module as a family may write it."""

from clan.model.generator import Generator, MachineKey, Prompt, VarFile
from clan.model.module import Module, Role


class Home(Module):
    """Wi-Fi, a token and a key for each machine."""

    name = "home"
    description = "What every machine at home has."
    roles = {"default": Role(description="Is at home.")}

    def generators(self, instance, clan):
        wifi = Prompt(name="password", description="Wi-Fi password")
        yield Generator(
            name="wifi",
            files=(VarFile(name="conf"),),
            make=lambda inputs: {"conf": b"psk=" + inputs.prompts["password"].encode()},
            prompts=(wifi,),
        )
        for machine in instance.members["default"]:
            yield Generator(
                name="wireguard-keys-vpn",
                machine=machine,
                files=(VarFile(name="privatekey"), VarFile(name="publickey", secret=False)),
                make=MachineKey.WIREGUARD,
            )
            yield Generator(
                name="id",
                machine=machine,
                files=(VarFile(name="token"), VarFile(name="name", secret=False)),
                make=lambda inputs: {"token": bytes([0, 255]), "name": b"abc"},
            )


module = Home
'''
SECRET = "open sesame"


@pytest.fixture
def folder(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in the clan's folder, with a home of one's own and without a terminal."""
    (home / "clan.toml").write_text(CLAN)
    (home / "modules").mkdir()
    (home / "modules/home.py").write_text(MODULE)
    monkeypatch.setenv("USER", "anna")
    monkeypatch.setenv("LOGNAME", "anna")
    monkeypatch.setattr("clan.cli.prompt.has_terminal", lambda: False)
    return home


def give(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


def test_from_no_key_to_all_values(
    clan: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, own_home: Path
) -> None:
    refused = clan("vars", "generate")
    assert refused.code == 1
    assert "`clan vars keys generate` makes your key" in refused.err
    made = clan("vars", "keys", "generate")
    assert made.code == 0
    key = own_home / "config/clan/age.key"
    assert key.stat().st_mode & 0o777 == 0o600
    assert f"Made the private key {key}." in made.out
    assert "it is the only one" in made.err
    assert "AGE-SECRET" not in made.out + made.err
    refused = clan("vars", "generate")
    assert refused.code == 2
    assert "shared/wifi/password: Wi-Fi password" in refused.err
    assert "`clan vars set shared/wifi/password --stdin`" in refused.err
    give(monkeypatch, f"{SECRET}\n".encode())
    assert (
        clan("vars", "set", "shared/wifi/password", "--stdin").out == "Made shared/wifi (missing)\n"
    )
    done = clan("vars", "generate")
    assert done.code == 0
    assert "Made nas/id (missing)" in done.out
    late = "Due:  laptop/wireguard-keys-vpn (missing; not reached, due at its next update)"
    assert late in done.out
    assert "root is the only admin" in done.err or "anna is the only admin" in done.err
    assert clan("vars", "get", "shared/wifi/conf").out == f"psk={SECRET}"
    assert json.loads(clan("vars", "get", "nas/id/token", "--json").out) == {
        "id": "nas/id/token",
        "base64": "AP8=",
    }
    assert clan("vars", "check").code == 0
    for path in folder.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes()


@pytest.fixture
def generated(clan: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Have all values there."""
    clan("vars", "keys", "generate", "--name", "anna")
    give(monkeypatch, SECRET.encode())
    clan("vars", "set", "shared/wifi/password", "--stdin")
    assert clan("vars", "generate").code == 0
    return folder


def test_a_list_shows_states_and_no_values(clan: Run, generated: Path) -> None:
    assert generated.is_dir()
    listed = clan("vars", "list", "--machine", "nas")
    assert listed.out.splitlines()[2:] == [
        "nas/id/name                        public  present",
        "nas/id/token                       secret  present",
        "nas/wireguard-keys-vpn/privatekey  secret  on its machine",
        "nas/wireguard-keys-vpn/publickey   public  missing",
        "shared/wifi/conf                   secret  present",
    ]
    everything = clan("vars", "list", "--json").out + clan("vars", "check", "--json").out
    assert SECRET not in everything
    assert len(json.loads(clan("vars", "list", "--json").out)) == 9


def test_a_values_escape_sequences_do_not_reach_the_terminal(clan: Run, generated: Path) -> None:
    (generated / "vars/per-machine/nas/id/name/value").write_bytes(b"\x1b[2Jabc\n")
    assert clan("vars", "get", "nas/id/name").out == "\x1b[2Jabc\n"  # a pipe gets what is there
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "clan", "vars", "get", "nas/id/name"]
    subprocess.run(command, check=True, stdout=theirs, cwd=generated)
    assert os.read(ours, 100) == b"\\x1b[2Jabc\r\n"


def test_a_change_of_readers_that_this_admin_cannot_make_is_warned_of(
    clan: Run, generated: Path, own_home: Path
) -> None:
    (own_home / "config/clan/age.key").unlink()
    clan("vars", "keys", "generate")
    other = clan("vars", "keys", "list", "--json")
    assert [each["here"] for each in json.loads(other.out)] == [False]
    record = generated / "vars/admins/ben.toml"
    secret = (own_home / "config/clan/age.key").read_text()
    public = next(word for word in secret.split() if word.startswith("age1"))
    record.write_text(f'key = "{public}"\n')
    done = clan("vars", "generate")
    assert done.code == 0
    assert "not all is encrypted to those who should read it" in done.err
    assert "nas/id/token is not encrypted" not in done.err
    assert "is not encrypted to those who should read it" in clan("vars", "check").out


def test_the_seeds_line_for_a_new_key(clan: Run, generated: Path) -> None:
    line = "vars generate --service wireguard-keys-vpn --regenerate --machine nas"
    done = clan(*line.split())
    assert done.code == 0
    assert done.out == (
        "Due:  nas/wireguard-keys-vpn (missing; not reached, due at its next update)\n"
    )
    due = json.loads((generated / "vars/per-machine/nas/due.json").read_text())["due"]
    assert [each["what"] for each in due] == ["generator/wireguard-keys-vpn"]


def test_a_dry_run_shows_what_and_why_and_changes_nothing(clan: Run, generated: Path) -> None:
    before = {path: path.read_bytes() for path in generated.rglob("*") if path.is_file()}
    shown = clan("vars", "generate", "--regenerate", "--service", "id", "--dry-run")
    assert re.search(r"nas/id +would be made +asked for", shown.out)
    asked = clan("vars", "generate", "--dry-run", "--json")
    assert json.loads(asked.out) == [
        {"id": f"{machine}/wireguard-keys-vpn", "action": "ask", "why": "missing"}
        for machine in ("nas", "laptop")
    ]
    assert {path: path.read_bytes() for path in generated.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("vars generate --regenerate", "name a generator with --service"),
        ("vars generate --service wifii", "did you mean 'wifi'?"),
        ("vars generate --machine nsa", "did you mean 'nas'?"),
        ("vars get nas/id/tokne", "did you mean 'token'?"),
        ("vars get nas/wireguard-keys-vpn/privatekey", "private keys never leave"),
        ("vars get nas/wireguard-keys-vpn/publickey", "`clan vars generate` makes"),
        ("vars set nas/wireguard-keys-vpn/publickey --stdin", "born on its machine"),
        ("vars set nas/id/token", "`clan vars set nas/id/token --stdin`"),
        ("vars keys remove anna --yes", "the only admin"),
        ("vars keys remove ann --yes", "did you mean 'anna'?"),
        ("vars keys remove anna", "`--yes` goes ahead"),
        ("vars keys add ben --key age1xyz", "no key to encrypt to"),
        ("vars keys add ../ben", "no name for an admin"),
        ("vars keys add ben", "`clan vars keys generate` shows it"),
        ("vars list --machine nsa", "did you mean 'nas'?"),
    ],
)
def test_what_cannot_work_says_what_would(clan: Run, generated: Path, line: str, said: str) -> None:
    assert generated.is_dir()
    refused = clan(*line.split())
    assert refused.code in {1, 2}
    assert said in refused.err


def test_an_admin_joins_with_an_ssh_key_and_leaves_again(clan: Run, generated: Path) -> None:
    ssh = generated / "ben"
    command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "ben@desk", "-f", str(ssh)]
    subprocess.run(command, check=True)
    public = ssh.with_suffix(".pub").read_text()
    added = clan("vars", "keys", "add", "ben", "--key", public, "--login", f"{ssh}.pub")
    assert added.out == "Added ben: the secrets of 3 generators are encrypted to them too.\n"
    listed = json.loads(clan("vars", "keys", "list", "--json").out)
    assert [(each["name"], each["here"]) for each in listed] == [("anna", True), ("ben", False)]
    assert listed[1]["logins"] == [public.strip()]
    assert listed[1]["key"] == " ".join(public.split()[:2])
    assert clan("vars", "check").code == 0
    gone = clan("vars", "keys", "remove", "ben", "--yes")
    assert gone.code == 0
    assert gone.out.splitlines() == [
        "Removed ben.",
        "Made anew: nas/id",
        "Made anew: laptop/id",
        "Left to you: shared/wifi (only a person knows another value)",
    ]
    due = clan("vars", "generate").out
    assert "Due:  shared/wifi (ben, who could read it, is no admin any more)" in due


def test_a_recovery_key_reads_everything_and_is_kept_nowhere(
    clan: Run, generated: Path, own_home: Path
) -> None:
    printed = clan("vars", "keys", "recovery")
    secret = printed.out.strip()
    assert secret.startswith("AGE-SECRET-KEY-1")
    for place in (generated, own_home):
        for path in place.rglob("*"):
            assert not path.is_file() or secret.encode() not in path.read_bytes()
    key = own_home / "config/clan/age.key"
    key.write_text(secret)
    assert clan("vars", "get", "shared/wifi/conf").out == f"psk={SECRET}"
    key.chmod(0o644)
    refused = clan("vars", "get", "shared/wifi/conf")
    assert refused.code == 1
    assert f"chmod 600 {key}" in refused.err


def test_prune_asks_and_removes_only_what_nothing_declares(clan: Run, generated: Path) -> None:
    (generated / "clan.toml").write_text(CLAN.replace("[machines.laptop]\n", ""))
    shown = clan("vars", "prune", "--dry-run")
    assert shown.out == "Would remove vars/per-machine/laptop\n"
    assert clan("vars", "prune").code == 2
    assert (generated / "vars/per-machine/laptop").is_dir()
    assert clan("vars", "prune", "--yes").out == "Removed vars/per-machine/laptop\n"
    assert not (generated / "vars/per-machine/laptop").exists()
    assert clan("vars", "prune", "--yes").out == "Everything that is kept is declared.\n"


def test_a_faulty_generator_is_found_by_check_with_its_line(clan: Run, folder: Path) -> None:
    module = folder / "modules/home.py"
    module.write_text(MODULE.replace('name="wifi"', 'name="../wifi"'))
    for line in ("check", "vars list"):
        refused = clan(*line.split())
        assert refused.code == 3
        assert "clan.toml:6: instances.home: " in refused.err
        assert "generator 'shared/../wifi' has a name that cannot be a folder's" in refused.err


def test_ids_are_completed(clan: Run, generated: Path) -> None:
    assert clan("vars", "check").code == 0
    environ = {"_CLAN_COMPLETE": "bash_complete", "COMP_WORDS": "clan vars get nas/i"}
    done = subprocess.run(
        [sys.executable, "-m", "clan"],
        check=True,
        capture_output=True,
        text=True,
        cwd=generated,
        env={**os.environ, **environ, "COMP_CWORD": "3"},
    )
    assert done.stdout.split() == ["plain,nas/id/name", "plain,nas/id/token"]


def test_a_password_typed_at_the_terminal_is_not_shown(clan: Run, folder: Path) -> None:
    clan("vars", "keys", "generate")
    child, terminal = pty.fork()
    if child == 0:
        arguments = [sys.executable, "-m", "clan", "vars", "generate", "--service", "wifi"]
        os.chdir(folder)
        os.execv(sys.executable, arguments)  # the terminal is its own
    seen = b""
    while b"(not shown): " not in seen:
        seen += os.read(terminal, 1024)
    os.write(terminal, f"{SECRET}\n".encode())
    while True:
        try:
            seen += os.read(terminal, 1024)
        except OSError:  # the far end is closed
            break
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert b"shared/wifi/password: Wi-Fi password (not shown): " in seen
    assert b"Made shared/wifi (missing)" in seen
    assert SECRET.encode() not in seen
    assert clan("vars", "get", "shared/wifi/conf").out == f"psk={SECRET}"
