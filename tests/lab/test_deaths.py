"""The admin's computer dies, the machine loses power, two admins come at once: at each step.

After each, the machine answers `clan ssh` and runs one generation, the last confirmed or the new.
"""

from __future__ import annotations

import json
import signal
import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.office import LAB, Office, wish

if TYPE_CHECKING:
    import subprocess

    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

MACHINES = ("m1", "m2", "m4")
SOON = "6"
"""Seconds for a confirmation that does not come: waiting for more proves nothing more."""


@pytest.fixture(scope="module")
def office(labs: Labs) -> Office:
    text = LAB + "".join(f'[machines.{name}]\nsite = "hosting"\n' for name in MACHINES)
    names = "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
    office = Office(labs(f"{text}[names]\n{names}"))
    office.wants(**{name: wish("old") for name in MACHINES})
    office.install(*MACHINES)
    return office


def test_the_old_generation_is_back_soon_after_the_time_is_over(office: Office) -> None:
    """The admin's computer dies while the machine waits; nobody confirms."""
    office.wants(m4=wish("unheard"))
    run = office.begin("machines", "update", "m4", "--confirm-timeout", SOON)
    office.lab.exec("m4", ["timeout", "60", "sh", "-c", WAITS])
    killed(run)
    seconds = office.lab.exec("m4", ["python3", "-I", "-c", SINCE_DEADLINE]).stdout
    found = office.settles("m4")
    assert (office.text("m4"), found["state"]) == ("old", "behind")
    # A busy computer gets more before it counts as a failure.
    assert float(seconds) < 10, seconds


BEGUN = (
    "until grep -qE 'preparing|switching|waiting' /run/clan/activation.json; do sleep 0.02; done"
)
WAITS = "until grep -q '\"waiting\"' /run/clan/activation.json; do sleep 0.02; done"
SINCE_DEADLINE = """
import json, os, time
note = json.load(open("/run/clan/activation.json"))
assert note["stage"] == "waiting", note
while json.load(open("/run/clan/activation.json"))["stage"] == "waiting":
    time.sleep(0.01)
print(time.clock_gettime(time.CLOCK_BOOTTIME) - note["deadline"])
"""


def test_two_admins_at_once(office: Office) -> None:
    """One is refused and told why, or both come one after the other; never half of each."""
    office.wants(m4=wish("mine"))
    first = office.begin("machines", "update", "--json", "m4")
    office.lab.exec("m4", ["timeout", "60", "sh", "-c", BEGUN])
    office.wants(m4=wish("yours"))
    second = office.update("m4")
    printed, said = first.communicate()
    states = [json.loads(printed)[0]["state"], second[0]["state"]]
    assert states in (["updated", "updated"], ["updated", "failed"]), (said, second)
    if states[1] == "failed":
        assert "another update" in second[0]["reason"]
    found = office.settles("m4")
    assert office.text("m4") == ("yours" if states[1] == "updated" else "mine"), found


def test_an_admin_whose_computer_died_begins_anew_and_another_one_waits(office: Office) -> None:
    """Until the lease ends, only who began can take over."""
    before = office.text("m4")
    office.wants(m4=wish("dead"))
    run = office.begin("machines", "update", "m4", "--confirm-timeout", "60")
    office.lab.exec("m4", ["timeout", "60", "sh", "-c", WAITS])
    killed(run)
    office.wants(m4=wish("next"))
    (outcome,) = office.update("m4", state_home="/tmp/another-admin")
    assert outcome["state"] == "failed"
    assert "waits for its confirmation" in outcome["reason"]
    assert office.text("m4") == "dead" != before
    (outcome,) = office.update("m4")
    assert outcome["state"] == "updated", outcome
    assert office.text("m4") == "next"


STAGES = ("preparing", "switching", "waiting", "confirmed")
MOMENTS = {
    "as it is sent": ("ls /run/clan/sent.*", 0.0),
    "as it is laid down": ("ls -d /var/lib/clan/generations/.incoming", 0.0),
    **{f"as it is {stage}": (stage, 0.0) for stage in STAGES},
    "soon after it switches": ("switching", 0.05),
    "later": ("switching", 0.15),
    "as it is confirmed, perhaps": ("waiting", 0.4),
}
"""When something dies: what is to be seen on the machine, and seconds from then on."""


def at(office: Office, machine: str, moment: str) -> None:
    """Wait for a moment of an update of a machine, or until it is past."""
    seen, after = MOMENTS[moment]
    # What comes later is past it, too: a moment may be too short to be seen.
    if seen in STAGES:
        seen = f"grep -qE '{'|'.join(STAGES[STAGES.index(seen) :])}' /run/clan/activation.json"
    else:
        seen = f"{seen} || test -e /run/clan/activation.json"
    wait = f"until {seen}; do sleep 0.005; done 2>/dev/null"
    office.lab.exec(machine, ["timeout", "60", "sh", "-c", wait])
    time.sleep(after)


def one_of_two(office: Office, machine: str, old: str | None, new: str) -> None:
    """See the old version or the new one, whole, and that `status` says which."""
    found = office.settles(machine)
    version = office.text(machine)
    assert version in {old, new}
    assert found["state"] == ("up to date" if version == new else "behind")


@pytest.mark.parametrize("moment", [name for name in MOMENTS if name != "later"])
def test_the_admin_s_computer_dies(office: Office, moment: str) -> None:
    old, new = office.text("m2"), f"admin{list(MOMENTS).index(moment)}"
    office.lab.exec("m2", ["rm", "-f", "/run/clan/activation.json"])
    office.wants(m2=wish(new))
    run = office.begin("machines", "update", "m2", "--confirm-timeout", SOON)
    at(office, "m2", moment)
    killed(run)
    if moment != "as it is confirmed":
        under_way = "grep -qE 'preparing|switching|waiting' /run/clan/activation.json"
        wait = f"sleep 1; while {under_way}; do sleep 0.1; done"
        office.lab.exec("m2", ["timeout", "60", "sh", "-c", wait])
    one_of_two(office, "m2", old, new)
    if moment == "as it is switching":  # the next update of each of the others shows the same
        assert office.update("m2")[0]["state"] in {"updated", "unchanged"}


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_machine_loses_power(office: Office, moment: str) -> None:
    old, new = office.text("m1"), f"power{list(MOMENTS).index(moment)}"
    office.lab.exec("m1", ["rm", "-f", "/run/clan/activation.json"])
    office.wants(m1=wish(new))
    run = office.begin("machines", "update", "m1", "--confirm-timeout", SOON)
    at(office, "m1", moment)
    office.cut_power("m1")
    killed(run)
    office.boot()
    one_of_two(office, "m1", old, new)
    if moment == "as it is switching":
        assert office.update("m1")[0]["state"] in {"updated", "unchanged"}


def killed(run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGKILL)
    run.communicate()
