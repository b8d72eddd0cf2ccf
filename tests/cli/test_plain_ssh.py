"""Plain ssh, `clan connect` and jump hosts, against real servers on loopback."""

from __future__ import annotations

import getpass
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sshd import Sshd, free_port

if TYPE_CHECKING:
    from tests.cli.family import Family


def test_plain_ssh_uses_the_same_choice_and_the_same_key(
    family: Family, nas: Sshd, impostor: Sshd, tmp_path: Path
) -> None:
    family.write(cafe=(3000, impostor.port), internet=(2000, nas.port))
    family.knows(nas.key)
    config = tmp_path / "config"
    config.write_text(family.run("ssh-config").stdout)
    ssh = ["ssh", "-F", str(config), "-i", str(family.keys.identity), "nas.family", "echo in"]
    first = subprocess.run(ssh, check=False, capture_output=True, text=True, timeout=60)
    assert first.returncode == 255
    assert f"127.0.0.1:{impostor.port} on network cafe is not nas" in first.stderr
    second = subprocess.run(ssh, check=False, capture_output=True, text=True, timeout=60)
    assert (second.stdout, second.returncode) == ("in\n", 0)


def test_plain_ssh_told_to_take_any_key_takes_the_machine_s_alone(
    family: Family, nas: Sshd, impostor: Sshd, tmp_path: Path
) -> None:
    """ssh keeps the first value that it finds, and a user's own lines may stand above ours."""
    config = tmp_path / "config"
    family.write(cafe=(3000, impostor.port))
    config.write_text("Host *\n  StrictHostKeyChecking no\n" + family.run("ssh-config").stdout)
    ssh = ["ssh", "-F", str(config), "-i", str(family.keys.identity), "nas.family", "echo in"]

    def plain() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ssh, check=False, capture_output=True, text=True, timeout=60, start_new_session=True
        )

    unknown = plain()
    assert (unknown.stdout, unknown.returncode) == ("", 255)
    assert "is not known yet" in unknown.stderr
    family.knows(nas.key)
    wrong = plain()
    assert (wrong.stdout, wrong.returncode) == ("", 255)
    assert "is not nas" in wrong.stderr
    family.write(internet=(2000, nas.port))
    assert plain().stdout == "in\n"


@pytest.mark.skipif(shutil.which("scp") is None, reason="no scp on this computer")
def test_scp_and_sftp_work_through_the_printed_lines(
    family: Family, nas: Sshd, tmp_path: Path
) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    config = tmp_path / "config"
    config.write_text(family.run("ssh-config").stdout)
    source, target = tmp_path / "a", tmp_path / "b"
    source.write_bytes(os.urandom(300_000))
    subprocess.run(
        ["scp", "-q", "-O", "-F", config, "-i", family.keys.identity, source,
         f"nas.family:{target}"],
        check=True, timeout=60,
    )  # fmt: skip
    assert target.read_bytes() == source.read_bytes()


def test_connect_carries_bytes_where_no_descriptor_can_be_passed(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    done = family.run("connect", "nas")
    # Standard input is at its end, so sshd greets and leaves.
    assert done.stdout.startswith("SSH-2.0-")
    assert done.returncode == 0


def test_connect_reaches_other_ports_without_waiting_for_a_banner(
    family: Family, nas: Sshd
) -> None:
    family.write(internet=(2000, free_port()))
    done = family.run("connect", "nas", str(nas.port))
    assert done.stdout.startswith("SSH-2.0-")


def test_connect_to_a_machine_that_is_off_exits_with_4(family: Family) -> None:
    family.write(internet=(2000, free_port()))
    assert family.run("connect", "nas").returncode == 4


def test_a_jump_host_that_is_a_machine_of_the_clan(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    """`impostor` is an honest server here: the way to nas leads through it."""
    user = getpass.getuser()
    (family.folder / "clan.toml").write_text(
        f"""
        [meta]
        name = "family"
        [machines.vps]
        deploy.targetHost = "{user}@127.0.0.1:{impostor.port}"
        [machines.nas]
        [instances.internet.roles.default.machines.vps]
        [instances.internet.roles.default.machines.nas.settings]
        host = "127.0.0.1"
        port = {nas.port}
        user = "{user}"
        jump_hosts = ["{user}@vps"]
        """
    )
    family.knows(nas.key)
    home = Path(os.environ["HOME"])
    (home / ".ssh").mkdir(mode=0o700)
    # ssh reads ~ from the password database, so the jump's own key is named by its user's config.
    vps = family.folder / "vars/per-machine/vps/openssh/ssh.id_ed25519.pub/value"
    vps.parent.mkdir(parents=True)
    vps.write_text(impostor.key)
    agent = subprocess.run(["ssh-agent", "-s"], check=True, capture_output=True, text=True).stdout
    variables = dict(
        part.split("=", 1) for line in agent.splitlines() if "=" in (part := line.split(";")[0])
    )
    try:
        subprocess.run(
            ["ssh-add", "-q", str(family.keys.identity)],
            check=True,
            env={**os.environ, **variables},
        )
        done = family.ssh("nas", "echo in", **variables)
    finally:
        os.kill(int(variables["SSH_AGENT_PID"]), 15)
    assert (done.stdout, done.returncode) == ("in\n", 0), done.stderr
    assert f"127.0.0.1:{nas.port} via vps.family" in done.stderr
    assert "internet: 127.0.0.1 via vps.family (" in family.ssh("--dry-run", "nas").stdout


def test_what_answers_for_a_jump_host_without_its_key_is_not_gone_through(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    user = getpass.getuser()
    (family.folder / "clan.toml").write_text(
        f"""
        [meta]
        name = "family"
        [machines.vps]
        deploy.targetHost = "{user}@127.0.0.1:{impostor.port}"
        [machines.nas]
        [instances.internet.roles.default.machines.vps]
        [instances.internet.roles.default.machines.nas.settings]
        host = "127.0.0.1"
        port = {nas.port}
        jump_hosts = ["vps"]
        """
    )
    vps = family.folder / "vars/per-machine/vps/openssh/ssh.id_ed25519.pub/value"
    vps.parent.mkdir(parents=True)
    vps.write_text(nas.key)
    done = family.ssh("nas", "true")
    assert done.returncode == 255
    assert "via vps.family: what answers for vps now is not vps\n" in done.stderr
