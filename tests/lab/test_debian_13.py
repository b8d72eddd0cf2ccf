"""A machine with Debian 13: all of an update's story once more, with the systemd of 2025."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.lab.office import LAB, Office, and_unit, oneshot, wish

from clan.errors import LabError
from clan.lab import image

if TYPE_CHECKING:
    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

NAME = "newer"


@pytest.fixture(scope="module")
def office(labs: Labs) -> Office:
    try:
        image.find(13)
    except LabError as missing:
        pytest.skip(f"{missing} ({missing.hint})")
    machine = f'[machines.{NAME}]\nsite = "hosting"\ndebian = 13\n'
    return Office(labs(f'{LAB}{machine}[names]\n"{NAME}.example" = "{NAME}"\n'))


def test_it_is_installed_updated_and_undone(office: Office) -> None:
    release = office.lab.exec(NAME, ["cat", "/etc/debian_version"]).stdout
    assert release.startswith("13")
    office.wants(**{NAME: wish("one", packages=("tree",))})
    office.install(NAME)
    assert office.settles(NAME)["state"] == "up to date"
    office.wants(**{NAME: wish("two", packages=("tree",))})
    assert office.update(NAME)[0]["state"] == "updated"
    assert office.text(NAME) == "two"
    office.wants(**{NAME: and_unit(wish("cut"), cut=oneshot("ip link set host0 down"))})
    (outcome,) = office.update(NAME, "--confirm-timeout", "6")
    assert outcome["state"] == "rolled back", outcome
    assert office.settles(NAME)["state"] == "behind"
    assert office.text(NAME) == "two"


def test_it_loses_power_while_it_switches(office: Office) -> None:
    office.wants(**{NAME: wish("three")})
    run = office.begin("machines", "update", NAME)
    seen = "until grep -q switching /run/clan/activation.json; do sleep 0.01; done"
    office.lab.exec(NAME, ["timeout", "60", "sh", "-c", f"({seen}) 2>/dev/null"])
    office.cut_power(NAME)
    run.terminate()
    run.communicate()
    office.boot()
    office.settles(NAME)
    assert office.text(NAME) in {"two", "three"}


def test_nothing_is_left_behind(office: Office) -> None:
    assert office.clan("machines", "uninstall", NAME, "--yes").returncode == 0
    left = office.lab.exec(
        NAME, ["sh", "-c", "ls -d /etc/clan /var/lib/clan /run/clan"], check=False
    )
    assert not left.stdout, left.stdout
