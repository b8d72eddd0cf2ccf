"""`clan ssh` against real servers on loopback."""

from __future__ import annotations

import getpass
import json
from typing import TYPE_CHECKING

import pytest
from tests.sshd import Sshd, free_port, make_key

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.family import Family


def test_a_command_runs_and_its_status_is_passed_through(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("nas", "--", "echo hello; exit 7")
    assert (done.stdout, done.returncode) == ("hello\n", 7)
    assert done.stderr == f"nas: over internet, 127.0.0.1:{nas.port}\n"


@pytest.mark.parametrize(
    "words",
    [
        ("nas", "echo", "-n", "-q", "--json"),
        ("nas", "--", "echo", "-n", "-q", "--json"),
        ("--quiet", "nas", "--network", "internet", "echo", "-n", "-q", "--json"),
    ],
)
def test_the_options_of_the_command_are_its_own(
    family: Family, nas: Sshd, words: tuple[str, ...]
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    assert family.ssh(*words).stdout == "-q --json"


def test_the_machine_is_found_by_its_full_name_too(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    assert family.ssh("--quiet", "nas.family", "true").returncode == 0


def test_what_the_remote_says_on_stderr_is_not_held_back(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("-q", "nas", "echo problem >&2")
    assert done.stderr == "problem\n"


def test_a_fault_of_ssh_s_own_is_told_once_in_its_words(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("-o", "NoSuchOption=1", "nas", "true")
    assert done.returncode == 255
    assert "Bad configuration option: nosuchoption" in done.stderr
    assert done.stderr.count("nas: over") == 1


def test_a_server_that_lets_nobody_in_says_so_in_ssh_s_words(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    stranger = tmp_path / "stranger"
    make_key(stranger)
    done = family.run(
        "ssh", "-o", f"IdentityFile={stranger}", "-o", "IdentitiesOnly=yes", "nas", "true"
    )
    assert done.returncode == 255
    assert "Permission denied (publickey" in done.stderr


def test_a_machine_that_is_off_has_a_reason_for_every_network(family: Family) -> None:
    family.write(internet=(2000, free_port()), other=(1000, free_port()))
    done = family.ssh("nas", "true")
    assert done.returncode == 255
    assert "no network leads to nas" in done.stderr
    assert done.stderr.count("connection refused") == 2
    assert "clan network ping nas" in done.stderr


def test_a_missing_ssh_is_named_with_the_package_that_has_it(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    done = family.ssh("nas", "true", PATH=str(tmp_path))
    assert done.returncode == 255
    assert "`ssh` is not on PATH" in done.stderr
    assert "openssh-client" in done.stderr


def test_an_unknown_machine_gets_the_nearest_name(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    done = family.ssh("nsa", "true")
    assert done.returncode == 255
    assert "did you mean 'nas'?" in done.stderr


def test_wrong_usage_is_255_as_with_ssh(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    assert family.ssh("--no-such-option", "nas").returncode == 255
    assert family.ssh("--network", "lan", "nas").returncode == 255


def test_target_host_goes_around_all_networks(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, free_port()))
    family.knows(nas.key)
    user = getpass.getuser()
    done = family.ssh("--target-host", f"{user}@127.0.0.1:{nas.port}", "nas", "echo in")
    assert done.stdout == "in\n"
    assert "is no port" in family.ssh("--target-host", "x:99999", "nas").stderr


def test_explain_says_what_was_tried_and_why_the_winner_won(family: Family, nas: Sshd) -> None:
    family.write(first=(3000, free_port()), second=(2000, nas.port), third=(1, nas.port + 1))
    family.knows(nas.key)
    done = family.ssh("--explain", "nas", "true")
    assert "first   priority 3000" in done.stderr
    assert "connection refused" in done.stderr
    assert "second won: the best of those that answered (first did not)" in done.stderr
    assert "not needed" in done.stderr
    data = json.loads(family.ssh("--explain", "--json", "nas", "true").stderr)
    assert [attempt["result"] for attempt in data["attempts"]] == [
        "connected",
        "unneeded",
        "unneeded",
    ]


def test_dry_run_connects_to_nothing(family: Family) -> None:
    family.write(internet=(2000, free_port()))
    done = family.ssh("--dry-run", "nas")
    assert done.returncode == 0
    assert "internet: 127.0.0.1 (priority 2000)" in done.stdout
    data = json.loads(family.ssh("--dry-run", "--json", "nas").stdout)
    assert [entry["network"]["name"] for entry in data["order"]] == ["internet"]


def test_a_network_that_failed_is_remembered_and_not_waited_for(family: Family, nas: Sshd) -> None:
    family.write(dead=(3000, free_port()), internet=(2000, nas.port))
    family.knows(nas.key)
    first = json.loads(family.ssh("--explain", "--json", "nas", "true").stderr)
    second = json.loads(family.ssh("--explain", "--json", "nas", "true").stderr)
    assert [a["network"] for a in first["attempts"]] == ["dead", "internet"]
    assert [a["network"] for a in second["attempts"]] == ["internet", "dead"]
