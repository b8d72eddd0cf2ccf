"""A home whose machines are in a mesh, and an admin there."""

from __future__ import annotations

import contextlib
import json
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.lab.place import at_admin
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clan.lab.lab import Lab

CLAN = [sys.executable, "-m", "clan"]
MACHINES = ("nas", "desktop", "laptop")
LAB = """
[sites.home]
router = { nat = "none" }
[sites.away]
router = { nat = "none" }
[admin]
site = "home"
""" + "".join(f'[machines.{name}]\nsite = "home"\nmdns = "off"\n' for name in MACHINES)
LAB += "clan = true\n"  # on the laptop
LAB += "[names]\n" + "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
AT_HOME = """
[meta]
name = "family"
[instances.internet.roles.default.machines]
""" + "".join(f'{name}.settings.host = "{name}.example"\n' for name in MACHINES)
PLACES = ("CONFIG", "STATE")
UNIT = "clan-mesh-home.service"

LEFT = """
ip -o link | grep -o 'clan-[0-9]*' || true
ip -6 addr show dev lo scope global | grep -o fd.* || true
ip route show table all proto 193; ip -6 route show table all proto 193
ip rule | grep '^4900' || true; ip -6 rule | grep '^4900' || true
nft list tables | grep clan_ || true
systemctl list-units --all --plain --no-legend 'clan-mesh-*' 'clan-relay-*' 'clan-wireguard-*'
for when in '' --permanent; do firewall-cmd $when --list-ports; done | grep . || true
"""
"""Prints what the mesh has made on a machine, and nothing where it has left."""


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

    def watch(self, *words: str) -> Watching:
        """Begin a `clan … --watch`."""
        return Watching(self, "mesh", *words, "--watch")

    def doctor(self, machine: str) -> list[dict[str, Any]]:
        """Return what the doctor says of a machine; its exit status has to agree with that."""
        done = self.lab.run(self.words("doctor", machine, "--json"), check=False)
        assert done.returncode in {0, 1}, done.stdout + done.stderr
        said: list[dict[str, Any]] = json.loads(done.stdout)
        assert done.returncode == any(each["wrong"] for each in said)
        return said

    def named(self, machine: str, part: str) -> list[dict[str, Any]]:
        """Return what the doctor says of a machine with these words."""
        return [each for each in self.doctor(machine) if part in each["message"]]

    def ports(self, machine: str, *kinds: str) -> list[int]:
        """Return the UDP ports of a machine's links of these kinds."""
        ask = "python3 -I /var/lib/clan/current/machine.pyz mesh ask home"
        said = json.loads(self.on(machine, f'echo \'{{"ask": "status"}}\' | {ask}'))
        return [each["port"] for each in said["interfaces"] if each["kind"] in kinds]

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

    @contextlib.contextmanager
    def pinging(self, machine: str, target: str) -> Iterator[Callable[[], int]]:
        """Ping all the time; give what says how many answers came until now."""
        ping = f"exec ping -6 -i 0.2 {target} >/run/pings"
        self.on(machine, f"systemd-run -q --collect --unit=pinging sh -c '{ping}'")
        try:
            yield lambda: int(self.on(machine, "grep -c time= /run/pings || true"))
        finally:
            self.on(machine, "systemctl stop pinging")


class Watching:
    """A `clan` that goes on, at the admin's place, until it is stopped."""

    def __init__(self, home: Home, *words: str) -> None:
        with tempfile.NamedTemporaryFile(dir=home.folder, delete=False) as out:
            self._file = Path(out.name)
            self._process = subprocess.Popen(
                at_admin(home.lab.state, home.words(*words)),
                env=home.lab.environment(),
                cwd=home.folder,
                stdin=subprocess.DEVNULL,
                stdout=out,
            )

    def said(self) -> str:
        """Return what it has printed until now."""
        assert self._process.poll() in {None, 130}
        return self._file.read_text()

    def documents(self) -> list[Any]:
        """Return the documents of JSON that it has printed: all of its output, but for a rest."""
        text, found = self.said().lstrip(), []
        with contextlib.suppress(json.JSONDecodeError):
            while text:
                document, end = json.JSONDecoder().raw_decode(text)
                found.append(document)
                text = text[end:].lstrip()
        assert not text or self._process.returncode is None, text
        return found

    def stop(self) -> None:
        """Stop it as Ctrl-C does."""
        self._process.send_signal(signal.SIGINT)
        assert self._process.wait(60) == 130


def until(happens: Callable[[], bool], seconds: float = 60.0) -> None:
    begun = time.monotonic()
    while not happens():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.3)
