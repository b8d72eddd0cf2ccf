"""A clan whose machine answers on loopback, and commands for it run as a person runs them."""

from __future__ import annotations

import getpass
import os
import subprocess
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from tests.sshd import Keys

CLAN = [sys.executable, "-m", "clan"]


class Family:
    """A clan with one machine, `nas`, and what running commands for it printed."""

    def __init__(self, folder: Path, keys: Keys) -> None:
        self.folder = folder
        self.keys = keys
        folder.mkdir()
        self.networks: dict[str, tuple[int, str]] = {}

    def write(self, **networks: tuple[int, int]) -> None:
        """Write the clan: network -> (priority, port of the server that answers there)."""
        lines = ["[meta]", 'name = "family"', "[machines.nas]"]
        for name, (priority, port) in networks.items():
            lines += [
                f"[instances.{name}]",
                'module.name = "internet"',
                f"settings.priority = {priority}",
                f"[instances.{name}.roles.default.machines.nas.settings]",
                'host = "127.0.0.1"',
                f"port = {port}",
                f'user = "{getpass.getuser()}"',
            ]
        (self.folder / "clan.toml").write_text("\n".join(lines) + "\n")

    def knows(self, key: str) -> None:
        file = self.folder / "vars/per-machine/nas/openssh/ssh.id_ed25519.pub/value"
        file.parent.mkdir(parents=True)
        file.write_text(key + "\n")

    def known(self) -> str | None:
        file = self.folder / "vars/per-machine/nas/openssh/ssh.id_ed25519.pub/value"
        return file.read_text().strip() if file.exists() else None

    def run(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*CLAN, "--clan", str(self.folder), *words],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,  # no terminal: nothing may ask
            timeout=60,
            env={**os.environ, **more},
        )

    def ssh(self, *words: str, **more: str) -> subprocess.CompletedProcess[str]:
        return self.run("ssh", *self.keys.options, *words, **more)
