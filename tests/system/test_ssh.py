"""What ssh makes of our words and a user's own configuration, as `ssh -G` tells it."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from clan.system.ssh import find_ssh, login_command

if TYPE_CHECKING:
    from pathlib import Path

USER_S_OWN = """
Host *
  ControlMaster auto
  ControlPath ~/.ssh/master-%h
  HostKeyAlgorithms ssh-rsa
  HostKeyAlias other
  KnownHostsCommand /bin/false
  ProxyJump bastion.example.com
  StrictHostKeyChecking no
  UserKnownHostsFile ~/.ssh/other
  GlobalKnownHostsFile /etc/ssh/other
  VerifyHostKeyDNS yes
  User nobody
"""
OURS = {
    "controlpath": "none",
    "hostkeyalgorithms": "ssh-ed25519",
    "hostkeyalias": "nas.family",
    "stricthostkeychecking": "true",
    "userknownhostsfile": "none",
    "globalknownhostsfile": "none",
    "verifyhostkeydns": "false",
    "user": "anna",
}


def settings(tmp_path: Path, *options: str) -> dict[str, str]:
    config = tmp_path / "config"
    config.write_text(USER_S_OWN)
    ssh, *words = login_command(
        find_ssh(),
        full_name="nas.family",
        user="anna",
        folder=tmp_path,
        known=False,
        network_options=(),
        options=options,
        command=(),
    )
    told = subprocess.run(
        [ssh, "-F", str(config), "-G", *words], check=True, capture_output=True, text=True
    )
    rows = (line.partition(" ") for line in told.stdout.splitlines())
    return {key: value for key, _, value in rows}


@pytest.mark.parametrize("options", [(), ("StrictHostKeyChecking=no", "HostKeyAlias=x")])
def test_what_a_user_says_elsewhere_changes_neither_way_nor_key(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    found = settings(tmp_path, *options)
    # ssh leaves out what is "none".
    assert {key: found.get(key, "none") for key in OURS} == OURS
    assert found["proxycommand"].endswith(f"relay.py {tmp_path}/counter connection")
    assert found["knownhostscommand"].endswith(f"relay.py {tmp_path}/counter key %I %t %K")
    assert "proxyjump" not in found


def test_a_master_is_used_where_it_is_asked_for(tmp_path: Path) -> None:
    assert settings(tmp_path, "ControlPath=/here")["controlpath"] == "/here"
