"""The WireGuard service: the configuration that its documentation prints, on real machines."""

from __future__ import annotations

import itertools
import json
import platform
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clan.lab.built import at_admin
from clan.static import version
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    import subprocess

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

EXAMPLES = Path(__file__).parents[2] / "examples"
CLAN = [sys.executable, "-m", "clan"]
SERVERS = ("server1", "server2", "server3")
PLACES = """
[sites.home]
router = { nat = "masquerade" }
[sites.hosting]
router = { nat = "none" }
[machines.laptop1]
site = "home"
clan = true
[machines.server1]
site = "hosting"
clan = true
[admin]
site = "home"
"""
MORE = '[machines.server2]\nsite = "hosting"\n[machines.server3]\nsite = "hosting"\n'
"""How the machines are reached before there is a tunnel; the documentation leaves that open."""
LANGUAGES = ("nix", "toml") if shutil.which("nix-instantiate") else ("toml",)
needs_nix = pytest.mark.skipif(
    len(LANGUAGES) < 2, reason="nix is not installed (apt install nix-bin)"
)
IN_NIX = """
let documented = import ./documented.nix;
in documented // {
  instances = {
    @name@ = documented.instances.wireguard;
    lan.roles.default.tags.all = { };
    internet.roles.default.machines = {
      @servers@
    };
  };
}
"""


class Fleet:
    """A clan on lab machines, and the admin's commands."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.store = Store.of(lab.clan_dir, lab.environment())
        self.said: list[str] = []

    def clan(self, *words: str) -> subprocess.CompletedProcess[str]:
        done = self.lab.run([*CLAN, *words], check=False)
        assert done.returncode == 0, done.stderr
        self.said += done.stderr.splitlines()
        return done

    def install(self) -> None:
        """Make the machines members, by turns from the clan in Nix and the same in TOML."""
        for machine in self.lab.config.machines:
            self.store.write(machine, *HOST_KEY, self.lab.host_key(machine))
        for machine, language in zip(self.lab.config.machines, itertools.cycle(LANGUAGES)):
            self.speak(language)
            self.clan("machines", "install", machine)
        # The first could not know the keys of the last.
        self.clan("machines", "update")

    def speak(self, language: str) -> None:
        """Have the clan's file be the one in this language, and there be no other."""
        folder = self.lab.clan_dir
        for old in folder.glob("clan.*"):
            old.unlink()
        shutil.copy(folder / f"written.{language}", folder / f"clan.{language}")

    def pings(self, source: str, target: str) -> bool:
        words = ["ping", "-c", "1", "-W", "2", target]
        return self.lab.exec(source, words, check=False).returncode == 0

    def eventually_pings(self, source: str, target: str) -> None:
        deadline = time.monotonic() + 60
        while not self.pings(source, target):
            assert time.monotonic() < deadline, f"{target} does not answer {source}"


def brought_up(labs: Labs, folder: Path, example: str, places: str, instance: str) -> Fleet:
    servers = [name for name in SERVERS if f"machines.{name}]" in places]
    folder.mkdir()
    text = (EXAMPLES / example / "toml/clan.toml").read_text()
    text = text.replace("instances.wireguard", f"instances.{instance}")
    for name in servers:
        text += (
            f"[instances.internet.roles.default.machines.{name}.settings]\n"
            f'host = "{name}.example.net"\n'
        )
    (folder / "written.toml").write_text(text + "[instances.lan.roles.default.tags.all]\n")
    shutil.copy(EXAMPLES / example / "nix/clan.nix", folder / "documented.nix")
    hosts = "".join(f'{name}.settings.host = "{name}.example.net"; ' for name in servers)
    nix = IN_NIX.replace("@name@", instance).replace("@servers@", hosts)
    (folder / "written.nix").write_text(nix)
    shutil.copy(folder / "written.toml", folder / "clan.toml")
    names = "".join(f'"{name}.example.net" = "{name}"\n' for name in servers)
    names += "".join(f'"vpn{n}.example.com" = "{name}"\n' for n, name in enumerate(servers, 1))
    fleet = Fleet(labs(f'{places}[names]\n"vpn.example.com" = "server1"\n{names}', clan_dir=folder))
    fleet.install()
    return fleet


@pytest.fixture(scope="module")
def single(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """One controller; the instance is called vpn."""
    folder = tmp_path_factory.mktemp("single") / "clan"
    return brought_up(labs, folder, "seed-001-single", PLACES, "vpn")


@pytest.fixture(scope="module")
def multiple(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """Three controllers, as printed."""
    folder = tmp_path_factory.mktemp("multiple") / "clan"
    return brought_up(labs, folder, "seed-001-multiple", PLACES + MORE, "wireguard")


@pytest.mark.parametrize(("source", "target"), [("laptop1", "server1"), ("server1", "laptop1")])
def test_machines_reach_each_other_by_name(single: Fleet, source: str, target: str) -> None:
    single.eventually_pings(source, f"{target}.vpn")
    done = single.lab.exec(source, ["ssh", f"root@{target}.vpn", "hostname"], check=False)
    assert done.stdout == f"{target}\n", done.stderr


def test_each_machine_was_sent_wireguard_go_once_where_its_kernel_has_none(
    single: Fleet,
) -> None:
    lab = single.lab
    if at_admin(lab.state).find("wireguard-go", platform.machine()) is None:
        pytest.skip("wireguard-go was not built: scripts/setup says why")
    place = "/var/lib/clan/static"
    name = f"wireguard-go-{version('wireguard-go')}"
    for machine in lab.config.machines:
        if "wireguard" in lab.exec(machine, ["ip", "-d", "link", "show", "dev", "vpn"]).stdout:
            pytest.skip("this computer's kernel has WireGuard")
        assert lab.exec(machine, ["ls", place]).stdout.split() == [name]
        runs = lab.exec(machine, ["sh", "-c", "readlink /proc/$(pgrep -x wireguard-go)/exe"])
        assert runs.stdout.strip() == f"{place}/{name}"
    # The first one learnt the key of the second in a generation of its own.
    lines = [line for line in single.said if line.startswith("laptop1 ")]
    assert [line.split()[1] for line in lines].count("updated") == 2
    assert len([line for line in lines if "sending wireguard-go" in line]) == 1


def test_the_commands_of_the_documentation_s_troubleshooting_work(single: Fleet) -> None:
    lab = single.lab
    assert "peer:" in lab.exec("server1", ["wg", "show"]).stdout
    assert "fd" in lab.exec("server1", ["ip", "addr", "show", "dev", "vpn"]).stdout
    assert "fd" in lab.exec("laptop1", ["ip", "-6", "route", "show", "dev", "vpn"]).stdout
    assert ":51820" in lab.exec("server1", ["ss", "-ulnp"]).stdout


@pytest.mark.parametrize("language", [pytest.param("nix", marks=needs_nix), "toml"])
def test_a_second_update_changes_nothing(single: Fleet, language: str) -> None:
    """The documentation's Nix and the same in TOML plan the same, byte for byte."""
    single.speak(language)
    done = json.loads(single.clan("machines", "update", "--json").stdout)
    assert [outcome["state"] for outcome in done] == ["unchanged"] * 2
    assert "behind" not in single.clan("machines", "status").stdout


def test_private_keys_never_leave_their_machines(single: Fleet) -> None:
    key = single.lab.exec("laptop1", ["cat", "/etc/clan/keys/wireguard-keys-vpn/privatekey"])
    secret = key.stdout.strip().encode()
    for folder in (single.store.folder, single.lab.clan_dir):
        for file in folder.rglob("*"):
            assert not file.is_file() or secret not in file.read_bytes()
    said = single.lab.exec("laptop1", ["journalctl", "--no-pager", "-o", "cat"]).stdout
    assert key.stdout.strip() not in said


def test_every_machine_reaches_every_other_over_three_controllers(multiple: Fleet) -> None:
    machines = list(multiple.lab.config.machines)
    for source in machines:
        for target in machines:
            if source != target:
                multiple.eventually_pings(source, f"{target}.wireguard")


@needs_nix
def test_in_nix_and_in_toml_all_have_the_same(multiple: Fleet) -> None:
    for language in LANGUAGES:
        multiple.speak(language)
        done = json.loads(multiple.clan("machines", "update", "--json").stdout)
        assert [outcome["state"] for outcome in done] == ["unchanged"] * 4


def test_one_machine_s_keys_are_regenerated_and_nobody_is_cut_off(multiple: Fleet) -> None:
    before = multiple.store.read("laptop1", "wireguard-keys-wireguard", "publickey")
    multiple.clan(
        "vars", "generate", "--service", "wireguard-keys-wireguard", "--regenerate",
        "--machine", "laptop1",
    )  # fmt: skip
    after = multiple.store.read("laptop1", "wireguard-keys-wireguard", "publickey")
    assert after != before
    # Until the update the old key is used on both sides.
    multiple.eventually_pings("server1", "laptop1.wireguard")
    done = json.loads(multiple.clan("machines", "update", "laptop1", "--json").stdout)
    assert {outcome["machine"] for outcome in done} == {"laptop1", *SERVERS}
    assert {outcome["state"] for outcome in done} == {"updated"}
    assert f"public key: {after}" in multiple.lab.exec("laptop1", ["wg", "show"]).stdout
    for server in SERVERS:
        multiple.eventually_pings(server, "laptop1.wireguard")
        multiple.eventually_pings("server1" if server != "server1" else "server2",
                                  f"{server}.wireguard")  # fmt: skip


def test_a_controller_dies_and_the_rest_goes_on(multiple: Fleet) -> None:
    multiple.lab.exec("server1", ["systemctl", "poweroff"], check=False)
    addresses = multiple.lab.exec("server2", ["getent", "ahosts", "laptop1.wireguard"]).stdout
    over = {line.split()[0] for line in addresses.splitlines()}
    assert len(over) == 3
    deadline = time.monotonic() + 60
    while True:
        answering = [address for address in over if multiple.pings("server2", address)]
        if len(answering) >= 2 or time.monotonic() > deadline:
            break
    assert len(answering) >= 2
    multiple.eventually_pings("laptop1", "server2.wireguard")
