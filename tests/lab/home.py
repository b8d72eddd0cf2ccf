"""A home whose machines are in a mesh, and an admin there."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable
    from pathlib import Path

    from clan.lab.lab import Lab

CLAN = [sys.executable, "-m", "clan"]
MACHINES = ("nas", "desktop", "laptop")
LAB = """
[sites.home]
router = { nat = "none" }
[admin]
site = "home"
""" + "".join(f'[machines.{name}]\nsite = "home"\nmdns = "off"\n' for name in MACHINES)
LAB += "[names]\n" + "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
AT_HOME = """
[meta]
name = "family"
[instances.internet.roles.default.machines]
""" + "".join(f'{name}.settings.host = "{name}.example"\n' for name in MACHINES)
PLACES = ("CONFIG", "STATE")
UNIT = "clan-mesh-home.service"


def clan_file(*members: str) -> str:
    """Return the clan's file with these machines in the mesh, and all in the clan."""
    machines = "".join(f"[machines.{name}]\n" for name in MACHINES)
    mesh = "[instances.home]\nmodule.name = 'mesh'\n[instances.home.roles.member.machines]\n"
    return machines + AT_HOME + mesh + "".join(f"{name} = {{}}\n" for name in members)


class Home:
    """An admin's computer and the machines; `folder` is the admin's copy of the clan's."""

    def __init__(self, lab: Lab, folder: Path | None = None) -> None:
        self.lab = lab
        self.folder = folder or lab.clan_dir

    def begin(self) -> None:
        """Write the clan's file, and the host keys of its machines."""
        (self.folder / "clan.toml").write_text(clan_file(*MACHINES))
        store = Store.of(self.folder, {})
        for name in MACHINES:
            store.write(name, *HOST_KEY, self.lab.host_key(name))

    def clan(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `clan` at the admin's place; it has to go well."""
        done = self.lab.run(self.words(*words), check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done

    def words(self, *words: str) -> list[str]:
        """Return what runs `clan` as this admin in all stories: each test has a home of its own."""
        here = [f"XDG_{name}_HOME={self.folder}/admin/{name}" for name in PLACES]
        own = f"CLAN_VARS_DIR={self.folder}/vars"
        return ["env", own, *here, *CLAN, "--clan", str(self.folder), *words]

    def json(self, *words: str) -> Any:
        """Run `clan` with --json and return what it says."""
        return json.loads(self.clan(*words, "--json").stdout)

    def on(self, machine: str, command: str) -> str:
        """Run a shell command on a machine; it has to go well."""
        done = self.lab.exec(machine, ["sh", "-c", command], check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def pings(self, machine: str, target: str) -> bool:
        words = ["ping", "-6", "-c1", "-W1", target]
        return self.lab.exec(machine, words, check=False).returncode == 0

    def address(self, machine: str) -> str:
        (found,) = [
            each["address"]
            for each in self.json("mesh", "map")["machines"]
            if each["name"] == machine
        ]
        return str(found)


def until(happens: Callable[[], bool], seconds: float = 60.0) -> None:
    begun = time.monotonic()
    while not happens():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.3)
