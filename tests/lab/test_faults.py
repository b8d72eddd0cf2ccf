"""What goes wrong while a machine is updated, and that it can always be reached afterwards.

After each event the machine answers `clan ssh`, and its files, units, names and firewall are those
of one generation: the last confirmed, or the new one.
"""

from __future__ import annotations

import contextlib
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from tests.lab.office import LAB, Office, Wish, and_unit, oneshot, service, wish

from clan.lab.processes import Runner

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

MACHINES = ("m1", "m2", "m3", "full")
SOON = "6"
"""Seconds for a confirmation that does not come: waiting for more proves nothing more."""


@pytest.fixture(scope="module")
def lab(labs: Labs) -> Lab:
    text = LAB + "".join(f'[machines.{name}]\nsite = "hosting"\n' for name in MACHINES)
    names = "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
    return labs(f"{text}[names]\n{names}")


@pytest.fixture(scope="module")
def installed(lab: Lab) -> Iterator[Office]:
    office = Office(lab)
    with small_disk(office, "full"):
        office.wants(**{name: wish("old") for name in MACHINES})
        office.install(*MACHINES)
        yield office


@pytest.fixture
def office(installed: Office) -> Iterator[Office]:
    yield installed
    installed.lab.restore()
    installed.boot()


@contextlib.contextmanager
def small_disk(office: Office, machine: str) -> Iterator[None]:
    """Have all of a machine's root file system on a small disk for as long as it lasts."""
    folder = office.lab.unit(machine).folder
    run = Runner()
    office.cut_power(machine)
    kept = folder.with_name("kept")
    run.step(["mv", str(folder), str(kept)])
    folder.mkdir()
    run.step(["mount", "-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs", str(folder)])
    run.step(["cp", "-a", f"{kept}/.", str(folder)])
    # The console is ours, and not on that disk.
    run.step(["ln", "-sf", f"{kept}/console.log", f"{folder}/console.log"])
    office.boot()
    try:
        yield
    finally:
        office.cut_power(machine)
        run.step(["umount", "--lazy", str(folder)])


def undone(office: Office, machine: str) -> None:
    """See the old generation, whole, and that `status` says so."""
    found = office.settles(machine)
    assert (office.text(machine), found["state"]) == ("old", "behind"), found


def test_a_unit_that_fails_is_undone_with_its_own_words(office: Office) -> None:
    office.wants(m1=and_unit(wish("new"), bad=service("echo no teapot; exit 3", "Type=oneshot")))
    (outcome,) = office.update("m1")
    assert outcome["state"] == "rolled back"
    assert "no teapot" in outcome["reason"]
    undone(office, "m1")
    assert office.whole("m1")["failed"] == []


def test_a_unit_that_ends_soon_after_it_started_is_undone(office: Office) -> None:
    """systemd has called it started."""
    office.wants(m1=and_unit(wish("new"), dies=service("sleep 0.2; exit 3")))
    (outcome,) = office.update("m1")
    assert outcome["state"] == "rolled back", outcome
    assert "story-dies.service is not running" in outcome["reason"]
    undone(office, "m1")


def test_a_unit_that_is_started_again_and_again_is_undone(office: Office) -> None:
    """Also when it is looked at just as it runs."""
    name = "story-dies.service"
    again = f"systemctl show -P NRestarts {name} | grep -q [1-9] && systemctl -q is-active {name}"
    office.wants(
        m1=and_unit(
            wish("new"),
            dies=service("sleep 2; exit 3", "Restart=always", "RestartSec=1"),
            waits=oneshot(f"until {again}; do sleep 0.05; done"),
        )
    )
    (outcome,) = office.update("m1")
    assert outcome["state"] == "rolled back", outcome
    assert f"{name} is not running" in outcome["reason"]
    undone(office, "m1")


def test_a_changed_unit_that_fails_often_runs_again_as_it_was(office: Office) -> None:
    """systemd refuses to start a unit that failed five times in a row."""
    fails = Wish(
        files={"/etc/story/text": "new\n"},
        units={"story-main.service": service("exit 3", "Restart=always", "RestartSec=10ms")},
    )
    office.wants(m1=fails)
    (outcome,) = office.update("m1")
    assert outcome["state"] == "rolled back", outcome
    undone(office, "m1")


def test_a_unit_that_never_starts_is_undone_when_the_time_is_over(office: Office) -> None:
    hangs = service("exec sleep infinity", "Type=notify", "TimeoutStartSec=600")
    office.wants(m1=and_unit(wish("new"), hangs=hangs))
    (outcome,) = office.update("m1", "--confirm-timeout", SOON)
    assert outcome["state"] == "rolled back", outcome
    assert "no confirmation came in 6 s" in outcome["reason"]
    undone(office, "m1")


def test_a_health_check_that_fails_undoes_it(office: Office) -> None:
    office.wants(m1=wish("new", checks={"teapot": ["sh", "-c", "echo no tea >&2; exit 1"]}))
    (outcome,) = office.update("m1")
    assert outcome["state"] == "rolled back"
    assert "teapot: sh -c" in outcome["reason"]
    assert "no tea" in outcome["reason"]
    undone(office, "m1")


def test_a_package_that_cannot_be_installed_changes_nothing(office: Office) -> None:
    office.wants(m1=wish("new", packages=("no-such-package",)))
    (outcome,) = office.update("m1")
    assert outcome["state"] == "failed"
    assert "no-such-package" in outcome["reason"]
    undone(office, "m1")
    assert office.lab.exec("m1", ["ls", "/usr/sbin/policy-rc.d"], check=False).returncode != 0


CUTS = {
    "a firewall": oneshot(
        'printf "table inet cut { chain c { type filter hook input priority 0; policy drop;}\\n}'
        '\\n" | nft -f -',
        "ExecStop=/bin/sh -c 'nft delete table inet cut'",
    ),
    "an interface that is down": oneshot("ip link set host0 down"),
}


@pytest.mark.parametrize("cut", CUTS)
def test_a_generation_that_cuts_the_network_is_undone_by_itself(office: Office, cut: str) -> None:
    # Nothing is open, or the check names the chain before anybody has to wait.
    office.wants(m2=and_unit(replace(wish("new"), ports=()), cut=CUTS[cut]))
    (outcome,) = office.update("m2", "--confirm-timeout", SOON)
    assert outcome["state"] == "rolled back", outcome
    assert outcome["reason"] in {"no confirmation came in 6 s", "no answer any more over internet"}
    undone(office, "m2")


SSHD = {
    "a mistake": "Prot 22\n",
    "a port nobody knows": "Port 2222\n",
    "nobody let in": "AllowUsers nobody\nPermitRootLogin no\n",
}


@pytest.mark.parametrize(
    ("fault", "how"),
    [("a mistake", "restart"), ("a port nobody knows", "restart"), ("nobody let in", "reload")],
)
def test_a_generation_that_breaks_sshd_is_undone(office: Office, fault: str, how: str) -> None:
    base = wish("new")
    files = {**base.files, "/etc/ssh/sshd_config": SSHD[fault]}
    broken = Wish(files=files, units=base.units, hosts=base.hosts, ports=base.ports)
    office.wants(m3=and_unit(broken, sshd=oneshot(f"systemctl {how} ssh")))
    (outcome,) = office.update("m3", "--confirm-timeout", SOON)
    assert outcome["state"] == "rolled back", outcome
    undone(office, "m3")
    config = office.lab.exec("m3", ["stat", "-c", "%F", "/etc/ssh/sshd_config"]).stdout
    assert config == "regular file\n"


def test_a_generation_that_fills_the_disk_is_undone_on_the_full_disk(office: Office) -> None:
    filler = oneshot("cat /dev/zero >/var/fill 2>/dev/null; exit 3")
    office.wants(full=and_unit(wish("new"), fill=filler))
    (outcome,) = office.update("full")
    assert outcome["state"] == "rolled back", outcome
    undone(office, "full")
    left = office.lab.exec("full", ["sh", "-c", "df --output=avail / | tail -1"]).stdout
    assert int(left) < 2048, "it is full still"


def test_a_generation_that_does_not_fit_changes_nothing(office: Office) -> None:
    office.lab.exec("full", ["sh", "-c", "cat /dev/zero >/var/fill 2>/dev/null"], check=False)
    # Larger than all that old generations leave free when they make room for it.
    large = {"/etc/story/large": "x" * 8_000_000}
    wanted = wish("new")
    office.wants(full=replace(wanted, files={**wanted.files, **large}))
    (outcome,) = office.update("full")
    assert outcome["state"] == "failed", outcome
    assert "No space left on device" in outcome["reason"]
    undone(office, "full")
    office.lab.exec("full", ["rm", "/var/fill"])
    assert office.update("full")[0]["state"] == "updated"
    assert office.settles("full")["state"] == "up to date"


def test_a_disk_that_is_full_when_it_boots_starts_the_confirmed_one(office: Office) -> None:
    version = office.text("full")
    office.lab.exec("full", ["sh", "-c", "cat /dev/zero >/var/fill 2>/dev/null"], check=False)
    office.cut_power("full")
    office.boot()
    assert not office.settles("full")["wrong"]
    assert office.text("full") == version
    office.lab.exec("full", ["rm", "/var/fill"])
