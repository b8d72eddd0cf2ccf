"""The introduction's own configuration on a real machine, reached through Tor alone."""

from __future__ import annotations

import json
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    import subprocess

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

EXAMPLE = Path(__file__).parents[2] / "examples/seed-000"
CLAN = [sys.executable, "-m", "clan"]
IN_NIX = """
let introduced = import ./introduced.nix { };
in introduced // {
  inventory = introduced.inventory // {
    instances.tor = introduced.inventory.instances.tor // {
      settings = builtins.fromTOML (builtins.readFile ./tor.toml);
    };
  };
}
"""
MACHINE = "my_cool_machine"
PLACES = f"""
tor = true
[sites.home]
router = {{ nat = "symmetric" }}
[sites.cafe]
router = {{ nat = "masquerade" }}
[machines.{MACHINE}]
site = "home"
[admin]
site = "home"
"""


class Admin:
    """The admin's commands in a lab."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab

    def clan(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        own = f"XDG_CONFIG_HOME={self.lab.clan_dir.parent}"  # where the admin's key is
        done = self.lab.run(["env", own, *CLAN, *words], check=False)
        assert not check or done.returncode == 0, done.stderr
        return done

    def address(self) -> str:
        """Return the machine's address on its LAN."""
        listed = self.lab.exec(MACHINE, ["ip", "-j", "-4", "address", "show", "dev", "host0"])
        return str(json.loads(listed.stdout)[0]["addr_info"][0]["local"])

    def reaches_the_machine(self) -> subprocess.CompletedProcess[str]:
        """Log in until it works: a new service is not known to the Tor network at once."""
        deadline = time.monotonic() + 240
        while True:
            done = self.clan("ssh", MACHINE, "hostname", check=False)
            if done.returncode == 0 or time.monotonic() > deadline:
                return done


@pytest.fixture(scope="module")
def admin(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Admin:
    """At home the machine is given an address by hand, once; then it is known by Tor only."""
    folder = tmp_path_factory.mktemp("seed") / "clan"
    shutil.copytree(EXAMPLE / "toml", folder)
    lab = labs(PLACES, clan_dir=folder)
    with (folder / "clan.toml").open("a") as file:
        file.write(f"\n[instances.tor.settings]\n{lab.state.tor_settings.read_text()}")
    admin = Admin(lab)
    Store.of(folder, lab.environment()).write(MACHINE, *HOST_KEY, lab.host_key(MACHINE))
    admin.clan("vars", "keys", "generate")
    admin.clan("machines", "install", MACHINE, "--target-host", admin.address())
    return admin


def test_the_var_is_selected_as_the_introduction_prints_it(admin: Admin) -> None:
    query = "clan.exports.instances.*.networking.{priority,peers}"
    shown = json.loads(admin.clan("select", query).stdout)
    assert shown["tor"] == {
        "priority": 10,
        "peers": {
            MACHINE: {
                "SSHOptions": [],
                "host": {"var": {"file": "hostname", "generator": "tor_tor", "machine": MACHINE}},
                "name": MACHINE,
            }
        },
    }


def test_the_network_is_listed_as_the_introduction_prints_it(admin: Admin) -> None:
    head, rule, row = admin.clan("network", "list").stdout.splitlines()
    assert head.split() == ["Network", "Priority", "Module", "Running", "Peers"]
    assert set(rule) == {"-"}
    assert row.split() == ["tor", "10", "tor", "No", MACHINE]


def test_from_elsewhere_the_machine_is_reached_through_tor(admin: Admin) -> None:
    admin.lab.move("admin", "cafe")
    done = admin.reaches_the_machine()
    assert done.stdout == "my-cool-machine\n", done.stderr
    assert f"{MACHINE}: over tor, " in done.stderr


def test_the_onion_s_name_is_nowhere_in_the_clear(admin: Admin) -> None:
    name = admin.clan("vars", "get", f"{MACHINE}/tor_tor/hostname").stdout.strip()
    assert name.endswith(".onion")
    vars_folder = Path(admin.lab.environment()["CLAN_VARS_DIR"])
    for folder in (admin.lab.clan_dir, vars_folder):
        for file in folder.rglob("*"):
            assert not file.is_file() or name.encode() not in file.read_bytes(), file


def test_through_tor_alone_a_machine_says_how_it_stands(admin: Admin) -> None:
    assert admin.lab.site_of("admin") == "cafe"
    with (admin.lab.clan_dir / "clan.toml").open("a") as file:
        file.write("priority = 11\n")  # of the network: nothing of the machine changes
    done = admin.clan("machines", "update", "--json")
    assert json.loads(done.stdout)[0]["state"] == "unchanged", done.stderr


def test_the_package_s_own_tor_stays_off(admin: Admin) -> None:
    """Debian's package enables a Tor of its own, which the next boot would start."""
    shown = admin.lab.exec(MACHINE, ["systemctl", "is-enabled", "tor.service"], check=False)
    assert shown.stdout.strip() == "disabled"


@pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="nix is not installed (apt install nix-bin)"
)
def test_the_introduction_s_own_file_in_nix_deploys_the_same(admin: Admin) -> None:
    folder = admin.lab.clan_dir
    (folder / "clan.toml").unlink()
    shutil.copy(EXAMPLE / "nix/clan.nix", folder / "introduced.nix")
    shutil.copy(admin.lab.state.tor_settings, folder / "tor.toml")
    (folder / "clan.nix").write_text(IN_NIX)
    done = admin.clan("machines", "update", "--json")
    assert json.loads(done.stdout)[0]["state"] == "unchanged", done.stderr
    admin.lab.move("admin", "home")
    at_home = ("--target-host", admin.address())
    admin.clan("machines", "uninstall", "--yes", MACHINE, *at_home)
    admin.clan("machines", "install", MACHINE, *at_home)
    done = admin.reaches_the_machine()
    assert done.stdout == "my-cool-machine\n", done.stderr
    assert f"{MACHINE}: over tor, " in done.stderr
