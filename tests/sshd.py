"""Real ssh servers on loopback, for tests that need no lab: one host key and one port each."""

from __future__ import annotations

import contextlib
import getpass
import shutil
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

SSHD = shutil.which("sshd", path="/usr/sbin:/usr/local/sbin:/sbin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """A user's key that every server here lets in."""

    identity: Path

    @property
    def options(self) -> list[str]:
        """Options for `clan ssh` that use the key and nothing of this user's."""
        return ["-o", f"IdentityFile={self.identity}", "-o", "IdentitiesOnly=yes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sshd:
    """A running server: `key` is its public host key, `type base64`."""

    port: int
    key: str


def make_key(path: Path, kind: str = "ed25519") -> str:
    """Make a key pair and return its public half."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    return " ".join(Path(f"{path}.pub").read_text().split()[:2])


def free_port() -> int:
    """Return a TCP port of loopback that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@contextlib.contextmanager
def serving(
    folder: Path, name: str, keys: Keys, *, address: str = "127.0.0.1", kind: str = "ed25519"
) -> Iterator[Sshd]:
    """Run an ssh server called `name`, with a host key of one kind, until the context is left."""
    if SSHD is None:
        pytest.skip("no sshd on this computer (Debian: openssh-server)")
    host_key = folder / f"{name}.host"
    public = make_key(host_key, kind)
    port = free_port()
    config = folder / f"{name}.conf"
    config.write_text(
        f"Port {port}\nListenAddress {address}\nHostKey {host_key}\n"
        f"AuthorizedKeysFile {keys.identity}.pub\nStrictModes no\nUsePAM no\nPidFile none\n"
        "MaxStartups 100\n"
    )
    if getpass.getuser() == "root":
        # sshd's place to be without privileges; systemd makes it where sshd is a service.
        Path("/run/sshd").mkdir(mode=0o755, exist_ok=True)
    with (folder / f"{name}.log").open("wb") as log:
        server = subprocess.Popen([SSHD, "-D", "-e", "-f", str(config)], stderr=log)
    try:
        for _ in range(500):
            with contextlib.suppress(ConnectionRefusedError):
                socket.create_connection((address, port)).close()
                break
            if server.poll() is not None:
                pytest.fail((folder / f"{name}.log").read_text())
            time.sleep(0.02)
        yield Sshd(port=port, key=public)
    finally:
        server.terminate()
        server.wait()
