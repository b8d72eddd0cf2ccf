"""Twenty machines at one site in a lab of their own, and the loop that people would write."""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.harness.ground import CLAN
from bench.harness.place import record_host_keys, up
from bench.harness.row import BenchError
from clan.cli.deploy import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bench.harness.ground import Ground
    from bench.harness.place import Place
    from bench.harness.run import Run
    from clan.lab.lab import Lab

MACHINES = tuple(f"m{number:02}" for number in range(20))
SITE = "hosting"
INSTALLS = 4
"""Machines that are installed at once."""
LIMIT = 300.0
"""Seconds that an update of all of them may take."""
PATIENCE = 60.0
"""Seconds after which a watch over a machine is given up."""
WATCH = Path(__file__).parent / "programs" / "back.py"

MODULE = '''
"""A file, and a unit that is restarted with it."""

from pydantic import Field

from clan.model.module import Module, Role, Settings
from clan.model.plan import File, Unit


class Pages(Settings):
    text: str = Field("", description="What the file says.")
    command: str = Field("exec sleep infinity", description="What the unit runs.")
    kind: str = Field("exec", description="The unit's type.")


class Served(Module):
    name = "served"
    description = "One file and one unit."
    roles = {"default": Role(description="Has them.", settings=Pages)}

    def plan(self, machine, role, instance, clan, values):
        pages = Pages.of(instance.members[role][machine])
        lines = [f"ExecStart=/bin/sh -c '{pages.command}'", f"Type={pages.kind}"]
        text = "\\n".join([f"# {pages.text}", "[Service]", *lines, "RemainAfterExit=yes", ""])
        yield File(path="/etc/served/text", content=pages.text.encode())
        yield Unit(name="served.service", text=text, restart_on=("/etc/served/text",))


module = Served
'''
# $1 the machine, $2 the folder whose tree it gets; all else is ssh's words. Two logins, no more.
COPY = """\
machine=$1 tree=$2
shift 2
tar --create --directory="$tree" . | "$@" "$machine.example" \
  'tar --extract --no-same-owner --directory=/ && systemctl daemon-reload &&
   systemctl restart plain.service' && "$@" "$machine.example" true
"""
TRUE = 'machine=$1; shift 2; "$@" "$machine.example" true\n'


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The lab, its clan with an own module, and all machines installed."""

    lab: Lab
    place: Place
    folder: Path
    known_hosts: Path

    def wants(self, text: str, **special: str) -> None:
        """Write the clan's file: all have the text, and a machine named runs a command, once."""
        lines = ["[meta]", 'name = "fleet"']
        for name in MACHINES:
            lines += [f"[machines.{name}]"]
            lines += [f"[instances.internet.roles.default.machines.{name}.settings]"]
            lines += [f'host = "{name}.example"']
        lines += ["[instances.served.roles.default.tags.all]"]
        lines += ["[instances.served.roles.default.settings]", f"text = {json.dumps(text)}"]
        for name, command in special.items():
            lines += [f"[instances.served.roles.default.machines.{name}.settings]"]
            lines += [f"command = {json.dumps(command)}", 'kind = "oneshot"']
        (self.lab.clan_dir / "clan.toml").write_text("\n".join(lines) + "\n")

    def update(self, state: str, *words: str) -> Run:
        """Run `clan machines update`. Raises BenchError unless all end in a state."""
        argv = [str(CLAN), "--clan", str(self.lab.clan_dir), "machines", "update", "--json"]
        done = self.place.run([*argv, *words], limit=LIMIT)
        outcomes: list[dict[str, Any]] = json.loads(done.output or "[]")
        others = [outcome for outcome in outcomes if outcome["state"] != state]
        if others or not outcomes:
            raise BenchError(f"not {state}: {others or done.errors}")
        return done

    def loop(self, script: str, tree: Path | None = None) -> float:
        """Return the seconds of a loop over all machines, as many at once as clan does."""
        parallel = ["xargs", f"--max-procs={AT_ONCE}", "--replace=MACHINE"]
        plain = ["sh", "-ec", script, "plain", "MACHINE", str(tree or self.folder), *self.ssh()]
        names = "\n".join(MACHINES)
        argv = ["sh", "-c", f'printf "%s\\n" "{names}" | "$@"', "loop", *parallel, *plain]
        done = self.place.run(argv, limit=LIMIT)
        if done.status != 0:
            raise BenchError(f"the loop over ssh failed: {done.errors.strip()}")
        return done.seconds

    def ssh(self) -> list[str]:
        """Return plain ssh as root, which demands the machines' host keys."""
        options = {
            "BatchMode": "yes",
            "StrictHostKeyChecking": "yes",
            "HostKeyAlgorithms": "ssh-ed25519",
            "UserKnownHostsFile": str(self.known_hosts),
            "GlobalKnownHostsFile": "none",
        }
        words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
        return ["ssh", *words, "-l", "root"]

    def install(self, machine: str) -> None:
        """Run `clan machines install`."""
        done = self.lab.run([str(CLAN), "machines", "install", machine], check=False)
        if done.returncode != 0:
            raise BenchError(f"{machine} cannot be installed: {done.stderr.strip()}")


@contextmanager
def fleet(ground: Ground) -> Iterator[Fleet]:
    """Bring the lab up and install its machines; take it down at the end."""
    folder = ground.folder / "fleet"
    (folder / "modules").mkdir(parents=True)
    (folder / "modules/served.py").write_text(MODULE)
    document = {
        "sites": {SITE: {"router": {"nat": "none"}}},
        "admin": {"site": SITE},
        "machines": {name: {"site": SITE} for name in MACHINES},
        "names": {f"{name}.example": name for name in MACHINES},
    }
    with up(ground, document, clan=folder, name="fleet") as (lab, at):
        known_hosts = ground.folder / "fleet-known-hosts"
        keys = {name: lab.host_key(name) for name in MACHINES}
        known_hosts.write_text("".join(f"{n}.example {key}\n" for n, key in keys.items()))
        record_host_keys(lab, MACHINES)
        made = Fleet(lab=lab, place=at, folder=ground.folder, known_hosts=known_hosts)
        made.wants("installed")
        ground.report(f"installing {len(MACHINES)} machines")
        begun = time.monotonic()
        with ThreadPoolExecutor(max_workers=INSTALLS) as pool:
            list(pool.map(made.install, MACHINES))
        ground.report(f"installed in {time.monotonic() - begun:.0f} s")
        yield made
