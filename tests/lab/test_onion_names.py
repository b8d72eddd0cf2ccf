"""A machine that only Tor leads to gets another onion name, and is reached all the while."""

from __future__ import annotations

import json
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.office import CLAN, Office

from clan.modules.tor.onion import service
from clan.vars.store import Store

if TYPE_CHECKING:
    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

PLACES = """
tor = true
[sites.home]
router = { nat = "masquerade" }
[sites.cafe]
router = { nat = "masquerade" }
[machines.nas]
site = "home"
[admin]
site = "home"
"""
CLAN_FILE = """
[meta]
name = "office"
[machines.nas]
[instances.tor.roles.server.machines.nas]
[instances.tor.settings]
"""
ONIONS = "ls -d /run/clan-tor-tor/*onion | xargs -n 1 basename"
CLIENTS = "ls /run/clan-tor-tor/onion/authorized_clients"


class Remote(Office):
    """An admin who is elsewhere, and a machine that is nothing but an onion service."""

    def wants(self, **_: Any) -> None:
        """Write the clan's file."""
        (self.lab.clan_dir / "clan.toml").write_text(
            CLAN_FILE + self.lab.state.tor_settings.read_text()
        )

    def address(self) -> str:
        """Return the machine's address on its LAN."""
        listed = self.on("ip -j -4 address show dev host0")
        return str(json.loads(listed)[0]["addr_info"][0]["local"])

    def on(self, command: str) -> str:
        return self.lab.exec("nas", ["sh", "-c", command]).stdout.strip()

    def reached(self) -> str:
        """Log in until it works, as a service is not known at once; return how."""
        deadline = time.monotonic() + 240
        while (done := self.clan("ssh", "nas", "hostname")).stdout != "nas\n":
            assert time.monotonic() < deadline, done.stderr
        return done.stderr.strip()

    def overlaps(self) -> bool:
        """Whether vars count beside what they replaced."""
        store = Store.of(self.lab.clan_dir, self.lab.environment())
        return any(store.folder.rglob("former"))

    def updated(self, *words: str) -> dict[str, Any]:
        done = self.clan("machines", "update", "--json", *words)
        (outcome,) = json.loads(done.stdout)
        assert outcome["state"] in {"updated", "unchanged"}, done.stderr
        return dict(outcome)

    def name(self) -> str:
        return self.clan("vars", "get", "nas/tor_tor/hostname", check=True).stdout.strip()

    def is_named(self, name: str) -> None:
        words = [*CLAN, "vars", "set", "nas/tor_tor/hostname", "--stdin"]
        self.lab.run(words, text=f"{name}\n")

    def replace(self, *services: str) -> None:
        words = [word for name in services for word in ("--service", name)]
        self.clan("vars", "generate", "--regenerate", *words, check=True)

    def until_the_old_is_gone(self) -> None:
        """Update until there is nothing to do: twice, and once more where the new name was late."""
        for _ in range(4):
            over = not self.overlaps()
            outcome = self.updated()
            if over and outcome["state"] == "unchanged":
                return
        raise AssertionError(outcome)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(tmp_path_factory.mktemp("config"))


@pytest.fixture(autouse=True)
def at_the_admin_s(config: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", config)


@pytest.fixture(scope="module")
def office(labs: Labs, config: str) -> Remote:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CONFIG_HOME", config)
        office = Remote(labs(PLACES))
        office.clan("vars", "keys", "generate", check=True)
        office.clan("machines", "install", "nas", "--target-host", office.address(), check=True)
        office.lab.move("admin", "cafe")
        office.reached()
    return office


def test_a_new_name_is_brought_by_the_old_one(office: Remote) -> None:
    old = office.name()
    office.replace("tor_tor")
    new = office.name()
    assert new != old
    assert office.reached() == "nas: over tor, nas's former onion service"
    assert office.updated()["state"] == "updated"
    assert office.on(ONIONS) == "former.onion\nonion"
    office.reached()
    office.until_the_old_is_gone()
    assert office.on(ONIONS) == "onion"
    assert office.on("cat /run/clan-tor-tor/onion/hostname") == new
    assert office.reached() == "nas: over tor, nas's onion service"


def test_a_new_name_that_never_answers_leaves_the_old_one(office: Remote) -> None:
    office.replace("tor_tor")
    right = office.name()
    office.is_named(service(bytes(32)).hostname)
    for state in ("updated", "unchanged"):
        outcome = office.updated()
        assert (outcome["state"], outcome["due"]) == (state, ["a login by its new tor_tor"])
    assert office.on(ONIONS) == "former.onion\nonion"
    assert office.reached() == "nas: over tor, nas's former onion service"
    office.is_named(right)
    office.until_the_old_is_gone()
    assert office.on(ONIONS) == "onion"


def test_name_and_key_at_once_as_when_an_admin_leaves(office: Remote) -> None:
    office.replace("tor_tor", "tor_tor_auth")
    assert office.reached() == "nas: over tor, nas's former onion service"
    office.until_the_old_is_gone()
    assert office.on(ONIONS) == "onion"
    assert office.on(CLIENTS) == "clan.auth"
    assert office.reached() == "nas: over tor, nas's onion service"


def test_a_new_key_for_the_same_name(office: Remote) -> None:
    office.replace("tor_tor_auth")
    assert office.reached() == "nas: over tor, nas's former onion service"
    office.until_the_old_is_gone()
    assert office.on(CLIENTS) == "clan.auth"
    assert office.reached() == "nas: over tor, nas's onion service"


def test_an_update_over_another_way_ends_the_old_one(office: Remote) -> None:
    office.lab.move("admin", "home")
    at_home = ("--target-host", office.address())
    office.replace("tor_tor")
    outcome = office.updated(*at_home)
    assert (outcome["state"], outcome["due"]) == ("updated", [])
    assert not office.overlaps()
    assert office.on(ONIONS) == "former.onion\nonion"
    assert office.updated(*at_home)["state"] == "updated"
    assert office.on(ONIONS) == "onion"
    office.lab.move("admin", "cafe")
    assert office.reached() == "nas: over tor, nas's onion service"
