"""Streams that something carries which was started for them: `clan connect` ends, and they go on.

The carrier here is a small process that copies bytes between a socket and an ssh server.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sshd import Keys, Sshd, free_port, make_key, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

CLAN = [sys.executable, "-m", "clan"]
MODULE = Path(__file__).parent / "programs/carried.py"


class Family:
    """A clan with the machine `nas` on a network of carried streams; `carriers` has their pids."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder = folder
        self.keys = keys
        self.carriers = folder / "carriers"

    def write(self, server: Sshd, *, port: int | None = None) -> None:
        (self.folder / "modules").mkdir(parents=True)
        (self.folder / "modules/carried.py").write_text(MODULE.read_text())
        (self.folder / "clan.toml").write_text(
            '[meta]\nname = "family"\n[machines.nas]\n[instances.carried]\n'
            f"settings.port = {port or server.port}\nsettings.pids = '{self.carriers}'\n"
            "roles.default.machines.nas = {}\n"
        )
        key = self.folder / "vars/per-machine/nas/openssh/ssh.id_ed25519.pub/value"
        key.parent.mkdir(parents=True)
        key.write_text(server.key + "\n")

    def connect(self, *words: str) -> list[str]:
        return [*CLAN, "--clan", str(self.folder), "connect", "nas", *words]

    def ssh(self, *command: str) -> list[str]:
        config = self.folder / "config"
        printed = [*CLAN, "--clan", str(self.folder), "ssh-config"]
        config.write_bytes(subprocess.run(printed, check=True, capture_output=True).stdout)
        return ["ssh", "-F", str(config), "-i", str(self.keys.identity), "nas.family", *command]

    def running(self) -> list[int]:
        """Return the carriers that are there."""
        pids = self.carriers.read_text().split() if self.carriers.exists() else []
        return [int(pid) for pid in pids if Path("/proc", pid, "exe").exists()]

    def become(self, number: int) -> None:
        """Wait until so many carriers are there."""
        deadline = time.monotonic() + 20
        while len(self.running()) != number:
            assert time.monotonic() < deadline, f"carriers: {self.running()}"
            time.sleep(0.02)


@pytest.fixture
def nas(tmp_path: Path, keys: Keys) -> Iterator[Sshd]:
    with serving(tmp_path, "nas", keys) as server:
        yield server


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    make_key(tmp_path / "id")
    return Keys(identity=tmp_path / "id")


@pytest.fixture
def family(tmp_path: Path, keys: Keys) -> Family:
    return Family(tmp_path / "family", keys)


def test_plain_ssh_gets_a_stream_that_lives_on_and_takes_its_carrier_along(
    family: Family, nas: Sshd
) -> None:
    family.write(nas)
    command = "head -c 3000000 /dev/zero; sleep 0.5; echo in"
    done = subprocess.run(family.ssh(command), check=False, capture_output=True, timeout=60)
    assert done.stdout == bytes(3000000) + b"in\n", done.stderr
    family.become(0)


def test_what_waits_for_the_end_of_ssh_s_output_does_not_wait_for_the_keeper(
    family: Family, nas: Sshd
) -> None:
    family.write(nas)
    words = family.ssh("true")
    begin = time.monotonic()
    subprocess.run(words, check=True, stderr=subprocess.PIPE, timeout=60)
    assert time.monotonic() - begin < 10


def test_ssh_that_is_killed_takes_the_carrier_along(family: Family, nas: Sshd) -> None:
    family.write(nas)
    with subprocess.Popen(family.ssh("echo in; sleep 60"), stdout=subprocess.PIPE) as ssh:
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"in\n"
        family.become(1)
        ssh.kill()
    family.become(0)


def test_a_carrier_that_dies_ends_ssh(family: Family, nas: Sshd) -> None:
    family.write(nas)
    with subprocess.Popen(
        family.ssh("echo in; sleep 60"), stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as ssh:
        assert ssh.stdout is not None
        assert ssh.stdout.readline() == b"in\n"
        os.kill(family.running()[0], signal.SIGKILL)
        assert ssh.wait(timeout=20) == 255


def test_without_a_descriptor_to_pass_the_bytes_are_carried(family: Family, nas: Sshd) -> None:
    family.write(nas)
    done = subprocess.run(
        family.connect(), check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.stdout.startswith(b"SSH-2.0-")
    family.become(0)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_a_command_that_ends_before_it_has_a_stream_leaves_nothing(
    family: Family, nas: Sshd, number: int
) -> None:
    family.write(nas, port=free_port())  # the carrier tries to connect, again and again
    with subprocess.Popen(
        family.connect(), stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as connect:
        family.become(1)
        connect.send_signal(number)
    family.become(0)


def test_a_machine_that_is_off_is_4_in_the_usual_words(family: Family, nas: Sshd) -> None:
    family.write(nas, port=1)
    done = subprocess.run(
        family.connect(), check=False, stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode == 4
    assert done.stderr.count(b"no network leads to nas") == 1
