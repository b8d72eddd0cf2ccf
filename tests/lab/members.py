"""Machines of a lab made members of their clan's networks by hand, as a deployment does it.

The plan is the real one and so is what runs on the machines; between them is this file.
"""

from __future__ import annotations

import json
import platform
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import clan.machine
from clan.inventory.open import open_clan
from clan.lab.built import at_admin
from clan.model.plan import (
    HealthCheck,
    HostName,
    KnownHost,
    Package,
    Resource,
    Sysctl,
    WireguardLink,
)

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.lab.lab import Lab
    from clan.model.exports import Var

PROGRAM = "/usr/local/lib/clan-machine"

_APPLY = """
import json, sys
from clan.machine import parameters, wireguard
from clan.machine.layout import Layout
plan = json.load(sys.stdin)
layout = Layout()
layout.run.mkdir(exist_ok=True)
parameters.set_all(layout, plan["sysctl"])
print(json.dumps([word for link in plan["links"] for word in wireguard.apply(link)]))
"""
_KEY = """
set -e
umask 077
mkdir -p "$1"
[ -e "$1/privatekey" ] && [ "$2" = keep ] || wg genkey >"$1/privatekey"
wg pubkey <"$1/privatekey"
"""


class Members:
    """A lab's machines and their clan's WireGuard network."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.clan = open_clan(lab.clan_dir / "clan.toml")
        (self.instance,) = [
            each for each in self.clan.instances.values() if each.module.name == "wireguard"
        ]
        self.machines = [
            machine for members in self.instance.members.values() for machine in members
        ]
        self.keys: dict[str, str] = {}

    def public(self, var: Var) -> str | None:
        """Return a public value, as the clan's vars do."""
        machine = str(var.machine)
        return self.lab.host_key(machine) if var.generator == "openssh" else self.keys.get(machine)

    def prepare(self) -> None:
        """Give each machine its packages, the program, and a key that is born there."""
        for machine in self.machines:
            packages = [each.name for each in self.plan(machine) if isinstance(each, Package)]
            install = f"apt-get -q update && apt-get -q -y install {' '.join(packages)}"
            self.lab.exec(machine, ["sh", "-c", install])
            self.ship(machine)
            can = "from clan.machine import wireguard; raise SystemExit(not wireguard.available())"
            if self.python(machine, can, check=False).returncode:
                self.give_wireguard(machine)
            self.make_key(machine, "keep")

    def give_wireguard(self, machine: str) -> None:
        """Put wireguard-go there: the one that was built, else Debian's."""
        built = at_admin(self.lab.state).find("wireguard-go", platform.machine())
        if built is None:
            self.lab.exec(machine, ["apt-get", "-q", "-y", "install", "wireguard-go"])
            return
        write = "cat >/usr/local/bin/wireguard-go && chmod +x /usr/local/bin/wireguard-go"
        command = self.lab.command_on(machine, ["sh", "-c", write])
        with built.open("rb") as program:
            subprocess.run(command, stdin=program, check=True)

    def python(
        self, machine: str, program: str, *, text: str | None = None, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a Python program on a machine, with what was shipped there."""
        words = ["env", f"PYTHONPATH={PROGRAM}", "python3", "-c", program]
        return self.lab.exec(machine, words, text=text, check=check)

    def remove(self, machine: str) -> None:
        """Have a machine take its interface away."""
        name = self.link(machine).name
        self.python(machine, f"from clan.machine import wireguard; wireguard.remove({name!r})")

    def ship(self, machine: str) -> None:
        """Put `clan.machine` there, and nothing else of clan."""
        for file in Path(clan.machine.__file__).parent.rglob("*.py"):
            inside = f"{PROGRAM}/clan/{file.relative_to(Path(clan.machine.__file__).parents[1])}"
            write = f"mkdir -p {Path(inside).parent} && cat >{inside}"
            self.lab.exec(machine, ["sh", "-c", write], text=file.read_text())

    def make_key(self, machine: str, when: str) -> None:
        """Have a machine make its key, and tell the public half."""
        folder = str(Path(self.link(machine).private_key).parent)
        made = self.lab.exec(machine, ["sh", "-c", _KEY, "key", folder, when])
        self.keys[machine] = made.stdout.strip()

    def plan(self, machine: str) -> list[Resource]:
        """Return what a machine must have."""
        role = next(r for r, members in self.instance.members.items() if machine in members)
        return list(self.instance.module.plan(machine, role, self.instance, self.clan, self))

    def link(self, machine: str) -> WireguardLink:
        """Return a machine's interface."""
        (link,) = [each for each in self.plan(machine) if isinstance(each, WireguardLink)]
        return link

    def apply(self, machine: str) -> list[str]:
        """Have a machine be what its plan says; return what its links still miss."""
        plan = self.plan(machine)
        shape = {
            "sysctl": [asdict(each) for each in plan if isinstance(each, Sysctl)],
            "links": [each.to_json() for each in plan if isinstance(each, WireguardLink)],
        }
        self.write_names(machine, plan)
        done = self.python(machine, _APPLY, text=json.dumps(shape))
        missing: list[str] = json.loads(done.stdout)
        return missing

    def write_names(self, machine: str, plan: Iterable[Resource]) -> None:
        """Write the names and host keys that a plan has."""
        hosts = "127.0.0.1 localhost\n::1 localhost\n"
        known = ""
        for each in plan:
            if isinstance(each, HostName):
                hosts += "".join(f"{address} {each.name}\n" for address in each.addresses)
            elif isinstance(each, KnownHost):
                known += f"{','.join(each.names)} {each.key}\n"
        self.lab.exec(machine, ["tee", "/etc/hosts"], text=hosts)
        self.lab.exec(machine, ["tee", "/etc/ssh/ssh_known_hosts"], text=known)

    def check(self, machine: str) -> None:
        """Run a machine's health checks."""
        for each in self.plan(machine):
            if isinstance(each, HealthCheck):
                self.lab.exec(machine, each.command)
