"""An admin leaves: machines make their own keys anew, and nobody is cut off meanwhile."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.office import CLAN, Office
from tests.lab.test_deaths import killed
from tests.lab.test_wireguard import let_in, ssh

from clan.errors import ClanError
from clan.lab.cuts import Cut
from clan.model.exports import Var
from clan.vars.age import decrypt, read_identity
from clan.vars.rotation import rotations
from clan.vars.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

MACHINES = ("m1", "m2", "m3")
LAB = """
[sites.hosting]
router = { nat = "none" }
[admin]
site = "hosting"
[names]
"""
CLAN_FILE = """
[meta]
name = "office"
[instances.vpn]
module.name = "wireguard"
[instances.vpn.roles.controller]
machines.m1 = {}
settings.endpoint = "m1.example"
[instances.vpn.roles.peer]
machines.m2 = {}
machines.m3 = {}
[instances.token.roles.default.tags.all]
"""
MODULE = '''
"""A secret for each machine, what a person says of its tunnel's key, and a file."""

import os
from pathlib import Path

from clan.model.exports import Var
from clan.model.generator import Generator, Prompt, VarFile
from clan.model.module import Module, Role
from clan.model.plan import File, HealthCheck


class Token(Module):
    name = "token"
    description = "A secret."
    roles = {"default": Role(description="Has it.")}

    def generators(self, instance, clan):
        for machine in instance.members["default"]:
            yield Generator(
                name="token",
                machine=machine,
                files=(VarFile(name="value"),),
                make=lambda inputs: {"value": os.urandom(8).hex().encode()},
            )
            yield Generator(
                name="slogan",
                machine=machine,
                files=(VarFile(name="text", secret=False),),
                make=lambda inputs: {"text": inputs.prompts["words"].encode()},
                prompts=(Prompt(name="words", description="What is said"),),
                depends=("wireguard-keys-vpn",),
            )

    def plan(self, machine, role, instance, clan, values):
        yield File(path="/etc/token", content=Var(machine=machine, generator="token", file="value"))
        if Path(__file__).with_name(f"{machine}.ill").exists():
            yield HealthCheck(name="ill", command=("false",))


module = Token
'''
FILE = "/etc/ssh/ssh_host_ed25519_key"


class Story(Office):
    """An office whose machines have secrets, a tunnel and several admins."""

    def wants(self, **_: Any) -> None:
        """Write the clan's file."""
        text = CLAN_FILE
        for name in MACHINES:
            text += f"[machines.{name}]\n"
            text += f"[instances.internet.roles.default.machines.{name}.settings]\n"
            text += f"host = '{name}.example'\n"
        (self.lab.clan_dir / "modules/token.py").write_text(MODULE)
        (self.lab.clan_dir / "clan.toml").write_text(text)

    @property
    def store(self) -> Store:
        return Store.of(self.lab.clan_dir, self.lab.environment())

    def on(self, machine: str, command: str) -> str:
        return self.lab.exec(machine, ["sh", "-c", command]).stdout.strip()

    def updated(self, machine: str) -> dict[str, Any]:
        """Update a machine, and those that have to learn its keys; return its outcome."""
        return next(each for each in self.update(machine) if each["machine"] == machine)

    def due(self, machine: str) -> list[str]:
        return [each.what for each in rotations(self.store, machine)]

    def shown(self, machine: str) -> str:
        """Return the host key that sshd shows on the machine itself, over the network."""
        said = self.on(machine, "ssh-keyscan -t ed25519 localhost 2>/dev/null")
        return " ".join(said.split()[1:3])

    def all_is_well(self, *machines: str) -> None:
        """All are reached by `clan ssh`, and by name from each other; one host key will do."""
        for name in machines:
            reached = self.clan("ssh", name, "hostname")
            assert reached.stdout == f"{name}\n", reached.stderr
            assert self.store.host_keys(name) == [self.shown(name)]
            value = self.clan("vars", "get", f"{name}/token/value", check=True).stdout
            assert self.on(name, "cat /etc/token") == value.strip()
        for source in machines:
            for target in machines:
                if source != target:
                    self.eventually(partial(self.logs_in, source, target))

    def logs_in(self, source: str, target: str) -> bool:
        return ssh(self.lab, source, f"{target}.vpn", "hostname").stdout == f"{target}\n"

    def eventually(self, holds: Callable[[], bool]) -> None:
        end = time.monotonic() + 60
        while not holds():
            assert time.monotonic() < end
            time.sleep(0.3)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Return where anna's private key is."""
    return str(tmp_path_factory.mktemp("config"))


@pytest.fixture(autouse=True)
def at_annas(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", config)


@pytest.fixture(scope="module")
def office(labs: Labs, config: str) -> Story:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", config)
        names = "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
        machines = "".join(f'[machines.{name}]\nsite = "hosting"\n' for name in MACHINES)
        office = Story(labs(LAB + names + machines))
        office.clan("vars", "keys", "generate", "--name", "anna", check=True)
        for name in MACHINES:
            words = ["vars", "set", f"{name}/slogan/words", "--stdin"]
            office.lab.run([*CLAN, *words], text=f"{name} is fine\n")
        for name in MACHINES:
            office.install(name)
        office.clan("machines", "update", check=True)
        for name in MACHINES:
            let_in(office.lab, name, [other for other in MACHINES if other != name])
        office.all_is_well(*MACHINES)
    return office


def add(office: Story, name: str, folder: Path) -> Path:
    """Make someone an admin; return their private ssh key, which reads and logs in."""
    key = folder / name
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    login = str(key.with_suffix(".pub"))
    public = key.with_suffix(".pub").read_text()
    office.clan("vars", "keys", "add", name, "--key", public, "--login", login, check=True)
    return key


def test_who_leaves_has_no_key_any_more(office: Story, tmp_path: Path) -> None:
    key = add(office, "ben", tmp_path)
    office.clan("machines", "update", check=True)
    stolen = {name: office.on(name, "cat /etc/clan/age.key") for name in MACHINES}
    host_keys = {name: office.shown(name) for name in MACHINES}
    tunnels = {name: office.on(name, "wg show vpn public-key") for name in MACHINES}
    office.clan("vars", "keys", "remove", "ben", "--yes", check=True)

    office.lab.cut(Cut(what="m3"))
    outcomes = {each["machine"]: each for each in office.update()}
    states = {name: outcome["state"] for name, outcome in outcomes.items()}
    assert states == {"m1": "updated", "m2": "updated", "m3": "offline"}, outcomes
    due = ["its identity", "its host key", "the key of wireguard-keys-vpn"]
    assert {name: each["due"] for name, each in outcomes.items()} == {
        "m1": [], "m2": [], "m3": due
    }  # fmt: skip
    office.all_is_well("m1", "m2")
    office.lab.restore()
    # It has the keys that it had, and is reached as it was.
    assert office.clan("ssh", "m3", "hostname").stdout == "m3\n"
    assert office.shown("m3") == host_keys["m3"]
    outcome = office.updated("m3")
    assert (outcome["state"], outcome["due"]) == ("updated", [])
    office.all_is_well(*MACHINES)

    for name in MACHINES:
        assert office.shown(name) != host_keys[name]
        assert host_keys[name] not in office.on("m1", "cat /etc/ssh/ssh_known_hosts")
        assert office.on(name, "wg show vpn public-key") != tunnels[name]
        assert office.on(name, "ls /etc/clan/host-key") == ""
        old = tmp_path / f"{name}.key"
        old.write_text(stolen[name])
        old.chmod(0o600)
        sealed = office.store.sealed(Var(machine=name, generator="token", file="value"))
        assert sealed is not None
        for identity in (read_identity(old), read_identity(key)):
            with pytest.raises(ClanError):
                decrypt(sealed, identity)
    assert all(outcome["state"] == "unchanged" for outcome in office.update())


def test_a_machine_that_is_waited_for_makes_what_is_due_when_it_is_back(
    office: Story, tmp_path: Path
) -> None:
    add(office, "cara", tmp_path)
    office.clan("vars", "keys", "remove", "cara", "--yes", check=True)
    old = office.shown("m3"), office.on("m3", "wg show vpn public-key")
    assert len(office.due("m3")) == 3
    office.lab.cut(Cut(what="m3"))
    run = office.begin("machines", "update", "--wait")
    assert run.stderr is not None
    while "m3  offline" not in (said := run.stderr.readline()):
        assert said, "it ended"
    office.lab.restore()
    _, errors = run.communicate(timeout=300)
    assert run.returncode == 0, errors
    assert office.due("m3") == [], errors
    assert office.shown("m3") != old[0]
    assert office.on("m3", "wg show vpn public-key") != old[1]
    # Nobody was asked about what follows the new key, and nothing was held up by it.
    asks = "left as it is until `clan vars generate` asks for words"
    assert f"m3/slogan: m3/wireguard-keys-vpn is made again; {asks}" in errors
    assert office.clan("vars", "get", "m3/slogan/text").stdout == "m3 is fine"
    office.all_is_well(*MACHINES)


def test_an_older_generation_is_decrypted_still(office: Story) -> None:
    """The machine keeps the identity as long as it keeps a generation that needs it."""
    older, value = office.whole("m2")["confirmed"], office.on("m2", "cat /etc/token")
    for service in ("openssh", "identity", "token"):
        words = ("--service", service, "--regenerate", "--machine", "m2")
        office.clan("vars", "generate", *words, check=True)
    assert office.updated("m2")["due"] == []
    key = office.shown("m2")
    assert office.on("m2", "cat /etc/token") != value
    assert office.on("m2", "grep -c AGE-SECRET /etc/clan/age.key") != "1"
    went = office.clan("machines", "rollback", "m2", str(older), "--confirm-timeout", "20")
    assert went.returncode == 0, went.stderr
    assert office.on("m2", "cat /etc/token") == value
    # The key that somebody else may have does not come back with it.
    assert office.shown("m2") == key
    assert office.updated("m2")["state"] == "updated"
    office.all_is_well("m1", "m2")
    # Once no generation needs them, the old identities are gone.
    for _ in range(6):
        office.clan("vars", "generate", "--service", "token", "--regenerate", "--machine", "m2")
        assert office.updated("m2")["state"] == "updated"
    assert office.on("m2", "grep -c AGE-SECRET /etc/clan/age.key") == "1"


def regenerate(office: Story, machine: str) -> None:
    words = ["--service", "openssh", "--service", "identity", "--regenerate", "--machine", machine]
    said = office.clan("vars", "generate", *words, check=True).stdout
    assert f"Due:  {machine}/openssh (asked for; made at its next update)" in said


def test_an_update_that_fails_keeps_the_host_key(office: Story) -> None:
    old = office.shown("m2")
    ill = office.lab.clan_dir / "modules/m2.ill"
    regenerate(office, "m2")
    ill.touch()
    outcome = office.updated("m2")
    ill.unlink()
    assert outcome["state"] == "rolled back"
    assert outcome["due"] == ["its host key"]
    assert office.shown("m2") == old
    assert office.clan("ssh", "m2", "hostname").stdout == "m2\n"
    assert office.updated("m2")["state"] == "updated"
    assert office.shown("m2") != old
    assert office.due("m2") == []
    office.all_is_well("m1", "m2")


MOMENTS = {
    "as the identity is made": "[ $(grep -c AGE-SECRET /etc/clan/age.key) -gt $HAD ]",
    "as the host key is made": "test -e /etc/clan/host-key/new",
    "as it is shown": "test -e /etc/clan/host-key/old",
    "as it is confirmed": "! test -e /etc/clan/host-key/new",
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_admin_s_computer_dies(office: Story, moment: str) -> None:
    old = office.shown("m2")
    had = office.on("m2", "grep -c AGE-SECRET /etc/clan/age.key")
    regenerate(office, "m2")
    run = office.begin("machines", "update", "m2", "--confirm-timeout", "8")
    seen = MOMENTS[moment].replace("$HAD", had)
    begun = "until test -e /etc/clan/host-key/new; do sleep 0.02; done; " if "!" in seen else ""
    office.on("m2", f"timeout 60 sh -c '{begun}until {seen}; do sleep 0.02; done'")
    killed(run)
    assert office.clan("ssh", "m2", "hostname").stdout == "m2\n"
    outcome = office.updated("m2")
    assert outcome["state"] in {"updated", "unchanged"}, outcome
    assert outcome["due"] == []
    assert office.shown("m2") != old
    office.all_is_well("m1", "m2")


def test_the_machine_loses_power_while_it_shows_the_new_key(office: Story) -> None:
    old = office.shown("m2")
    regenerate(office, "m2")
    run = office.begin("machines", "update", "m2", "--confirm-timeout", "8")
    office.on("m2", "timeout 60 sh -c 'until test -e /etc/clan/host-key/old; do sleep 0.02; done'")
    office.cut_power("m2")
    killed(run)
    office.boot()
    office.eventually(lambda: office.clan("ssh", "m2", "hostname").stdout == "m2\n")
    assert office.updated("m2")["state"] in {"updated", "unchanged"}
    assert office.shown("m2") != old
    assert office.due("m2") == []
    office.all_is_well("m1", "m2")
