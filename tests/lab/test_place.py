from __future__ import annotations

from pathlib import Path

from clan.lab.place import environment, on_machine
from clan.lab.state import State

STATE = State(name="family")


def test_the_labs_own_folders_and_agent_replace_the_computers_and_proxies_go() -> None:
    inherited = {
        "HOME": "/root",
        "PATH": "/usr/bin",
        "SSH_AUTH_SOCK": "/run/user/0/agent",
        "XDG_STATE_HOME": "/root/.local/state",
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost",
    }
    found = environment(STATE, Path("/srv/family"), inherited)
    folder = "/var/lib/clan-lab/family"
    assert found == {
        "HOME": "/root",
        "PATH": f"{folder}/bin:/usr/bin",
        "SSH_AUTH_SOCK": f"{folder}/agent/socket",
        "XDG_STATE_HOME": f"{folder}/xdg-state",
        "XDG_CACHE_HOME": f"{folder}/xdg-cache",
        "CLAN_VARS_DIR": f"{folder}/vars",
        "CLAN_DIR": "/srv/family",
        "CLAN_LAB": "family",
    }


def test_a_machine_inherits_nothing_of_this_computers_environment() -> None:
    command = on_machine(7, ["env"], folder="/srv", extra={"CLAN_DIR": "/srv"})
    assert command[:2] == ["nsenter", "--target=7"]
    assert "--ignore-environment" in command
    assert {"--chdir=/srv", "CLAN_DIR=/srv", "HOME=/root"} <= set(command)
    assert command[-1] == "env"


def test_a_terminals_command_is_quoted_as_one() -> None:
    command = on_machine(7, ["echo", "a b", "$x"], tty=True)
    assert command[-5:] == ["--quiet", "--return", "--command", "echo 'a b' '$x'", "/dev/null"]
