"""Updating machines, as an office's admin does: install, update, look back, go back, leave."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from tests.lab.office import LAB, Office, Wish, and_unit, service, wish

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

MACHINES = ("a1", "a2", "b1")


@pytest.fixture(scope="module")
def lab(labs: Labs) -> Lab:
    text = LAB + "".join(f'[machines.{name}]\nsite = "hosting"\n' for name in (*MACHINES, "fresh"))
    names = "".join(f'"{name}.example" = "{name}"\n' for name in (*MACHINES, "fresh"))
    return labs(f"{text}[names]\n{names}")


@pytest.fixture(scope="module")
def installed(lab: Lab) -> Office:
    office = Office(lab)
    office.wants(**{name: wish("one") for name in MACHINES})
    office.install(*MACHINES)
    return office


@pytest.fixture
def office(installed: Office) -> Iterator[Office]:
    yield installed
    installed.lab.restore()


def test_installed_machines_have_what_the_clan_says(office: Office) -> None:
    for name in MACHINES:
        found = office.settles(name)
        assert found["state"] == "up to date"
        assert office.text(name) == "one"
    hosts = office.lab.exec("a1", ["getent", "hosts", "one.story"]).stdout
    assert hosts.split() == ["10.99.99.99", "one.story"]


def test_an_update_changes_several_at_once_and_a_second_one_nothing(office: Office) -> None:
    office.wants(**{name: wish("two") for name in MACHINES})
    outcomes = office.update(*MACHINES)
    assert {o["state"] for o in outcomes} == {"updated"}, outcomes
    for name in MACHINES:
        assert office.text(name) == "two"
        assert not office.whole(name)["wrong"]
        said = office.lab.exec(name, ["journalctl", "-u", "story-main", "-o", "cat"]).stdout
        assert "two" in said.splitlines()
    assert {o["state"] for o in office.update(*MACHINES)} == {"unchanged"}


def test_diff_shows_what_an_update_would_change_and_plan_all(office: Office) -> None:
    office.wants(a1=and_unit(wish("three"), more=service("exec sleep infinity")))
    changes = json.loads(office.clan("machines", "diff", "a1", "--json", check=True).stdout)
    assert {(c["part"], c["sign"], c["what"]) for c in changes} >= {
        ("files", "~", "/etc/story/text"),
        ("units", "~", "story-main.service"),
        ("units", "+", "story-more.service"),
        ("hosts", "-", "10.99.99.99 two.story"),
        ("hosts", "+", "10.99.99.99 three.story"),
    }
    before = office.whole("a1")
    assert office.status("a1")["state"] == "behind"
    office.update("a1")
    assert office.whole("a1")["current"] == before["current"] + 1
    assert "has all of it" in office.clan("machines", "diff", "a1").stdout


def test_a_plan_is_there_before_the_machine_is(office: Office) -> None:
    """Nothing of clan's is on it: twice the same bytes, and nobody is asked."""
    office.wants(fresh=wish("one"))
    plans = [office.clan("machines", "plan", "fresh", "--json", check=True).stdout for _ in "12"]
    assert plans[0] == plans[1]
    assert [file["path"] for file in json.loads(plans[0])["files"]] == ["/etc/story/text"]
    assert office.status("fresh")["state"] == "not installed"
    (outcome,) = office.update("fresh")
    assert outcome["state"] == "failed"
    assert "`clan machines install fresh`" in outcome["reason"]


def test_rollback_goes_to_the_one_before_or_to_any(office: Office) -> None:
    now = office.settles("b1")["current"]
    office.wants(b1=and_unit(wish("four"), extra=service("exec sleep infinity")))
    assert office.update("b1")[0]["state"] == "updated"
    office.clan("machines", "rollback", "b1", check=True)
    assert office.settles("b1")["current"] == now
    assert office.text("b1") == "two"
    listed = office.clan("machines", "generations", "b1", check=True).stdout
    (line,) = (each for each in listed.splitlines() if each.split()[:1] == [str(now)])
    assert "current, confirmed" in line
    office.clan("machines", "rollback", "b1", "1", check=True)
    assert (office.settles("b1")["current"], office.text("b1")) == (1, "one")
    office.clan("machines", "rollback", "b1", "0", check=True)
    assert office.settles("b1")["current"] == 0
    assert office.text("b1") is None
    office.clan("machines", "rollback", "b1", "1", check=True)
    assert office.text("b1") == "one"
    refused = office.clan("machines", "rollback", "b1", "77")
    assert refused.returncode == 1
    assert "there is no generation 77 here" in refused.stderr


def test_a_machine_that_is_offline_is_listed_with_a_status_of_its_own(office: Office) -> None:
    office.wants(**{name: wish("five") for name in MACHINES})
    office.cut_power("a2")
    try:
        done = office.clan("machines", "update", "--json", *MACHINES)
    finally:
        office.boot()
    assert done.returncode == 4, done.stderr
    states = {o["machine"]: o["state"] for o in json.loads(done.stdout)}
    assert states == {"a1": "updated", "a2": "offline", "b1": "updated"}
    assert office.update("a2")[0]["state"] == "updated"


def test_a_canary_that_fails_keeps_the_rest_as_it_was(office: Office) -> None:
    broken = and_unit(wish("six"), broken=service("exit 3", "Type=oneshot"))
    office.wants(a1=broken, a2=wish("six"), b1=wish("six"))
    done = office.clan("machines", "update", "--canary", "1", *MACHINES)
    assert done.returncode == 1
    assert "2 more were left alone" in done.stderr
    assert "story-broken.service" in done.stderr
    assert {office.text(name) for name in MACHINES} == {"five"}
    for name in MACHINES:
        assert office.settles(name)["state"] == "behind"


def test_a_command_runs_on_all_with_a_tag_and_says_who_said_what(office: Office) -> None:
    done = office.clan("run", "--tags", "a", "--", "hostname")
    assert sorted(done.stdout.splitlines()) == ["a1  a1", "a2  a2"]
    assert done.returncode == 0
    line = "hostname; test $(hostname) != a2 || { echo no tea >&2; exit 3; }"
    done = office.clan("run", "--tags", "a", line)
    assert sorted(done.stdout.splitlines()) == ["a1  a1", "a2  a2"]
    assert done.stderr.splitlines() == ["a2  no tea", "a2  failed with exit status 3"]
    assert done.returncode == 1
    done = office.clan(
        "run", "--on", "b1", "--on", "a1", "--json", "--", "printf", "%s|", "a b", "c"
    )
    assert json.loads(done.stdout) == [
        {"machine": name, "status": 0, "output": "a b|c|", "errors": ""} for name in ("b1", "a1")
    ]


def test_a_command_that_cannot_run_on_a_machine_fails_there(office: Office) -> None:
    office.cut_power("a2")
    try:
        done = office.clan("run", "--tags", "a", "--json", "--", "true")
    finally:
        office.boot()
    assert done.returncode == 1
    off = next(answer for answer in json.loads(done.stdout) if answer["machine"] == "a2")
    assert off["status"] is None
    assert "internet" in off["errors"]
    slow = office.clan("run", "--on", "b1", "--limit", "1", "sleep 60")
    assert slow.returncode == 1
    assert "did not answer in 1 s" in slow.stderr


def inventory(office: Office, machine: str) -> dict[str, str]:
    """List all that uninstall has to leave as it was."""
    files = (
        "find / -xdev \\( -path /proc -o -path /sys -o -path /run -o -path /tmp -o -path /var/log"
        " -o -path /var/cache -o -path /var/lib/dpkg -o -path /var/lib/apt -o -path '/root/.cache'"
        " -o -path /var/lib/systemd -o -path '/usr/*' \\)"
        " -prune -o -type f -exec sha256sum {} + -o -printf '%y %p %l\\n' | sort"
    )
    commands = {
        "files": files,
        "units": "systemctl list-unit-files --plain --no-legend | sort",
        "running": "systemctl list-units --plain --no-legend --all 'story*' 'clan*'",
        "nft": "nft list ruleset 2>/dev/null || true",
        "links": "ip -brief link | sort",
        "memory": "ls -A /run | grep clan || true",
    }
    return {
        name: office.lab.exec(machine, ["sh", "-c", command]).stdout
        for name, command in commands.items()
    }


def test_a_first_deploy_that_fails_goes_back_to_nothing_and_uninstall_leaves_nothing(
    office: Office,
) -> None:
    lab = office.lab
    lab.exec("fresh", ["sh", "-c", "echo mine >/etc/motd; chown daemon /etc/motd"])
    lab.exec("fresh", ["sh", "-c", "apt-get -q update && apt-get -q -y install age"])
    before = inventory(office, "fresh")
    wanted = Wish(
        files={"/etc/motd": "ours\n", "/etc/story/deep/text": "one\n"},
        units={"story-main.service": service("exit 3", "Type=oneshot")},
        hosts={"one.story": "10.99.99.99"},
        ports=(7000,),
    )
    office.wants(fresh=wanted)
    done = office.clan("machines", "install", "fresh")
    assert done.returncode == 1
    assert "rolled back" in done.stderr
    found = office.settles("fresh")
    assert (found["current"], found["state"]) == (0, "behind")
    assert lab.exec("fresh", ["cat", "/etc/motd"]).stdout == "mine\n"
    working = Wish(
        files=wanted.files, units=wish("one").units, hosts=wanted.hosts, ports=wanted.ports
    )
    office.wants(fresh=working)
    assert office.update("fresh")[0]["state"] == "updated"
    assert lab.exec("fresh", ["cat", "/etc/motd"]).stdout == "ours\n"
    office.clan("machines", "uninstall", "--yes", "fresh", check=True)
    after = inventory(office, "fresh")
    for part, listed in before.items():
        assert after[part].splitlines() == listed.splitlines(), part
    assert lab.exec("fresh", ["stat", "-c", "%U", "/etc/motd"]).stdout == "daemon\n"
    assert office.status("fresh")["state"] == "not installed"
    # Twice is as good as once: it may have been interrupted.
    office.clan("machines", "uninstall", "--yes", "fresh", check=True)
    assert inventory(office, "fresh")["memory"] == ""
