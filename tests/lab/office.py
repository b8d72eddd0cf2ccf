"""An admin's office in a lab: a clan whose one service says, machine by machine, what they have."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.lab.lab import Lab
from clan.lab.place import at_admin
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Mapping

CLAN = [sys.executable, "-m", "clan"]
WHOLE = (Path(__file__).parent / "programs/whole.py").read_text()

LAB = """
[sites.hosting]
router = { nat = "none" }
[admin]
site = "hosting"
"""
CLAN_FILE = """
[meta]
name = "office"
"""
MODULE = '''
"""Files, units and whatever else a story wants of a machine."""

from pydantic import Field

from clan.model.module import Module, Role, Settings
from clan.model.plan import File, HealthCheck, HostName, Opening, Package, Protocol, Unit


class Wish(Settings):
    files: dict[str, str] = Field({}, description="Path and text.")
    units: dict[str, str] = Field({}, description="Name and text.")
    packages: list[str] = Field([], description="Names.")
    hosts: dict[str, str] = Field({}, description="Name and address.")
    ports: list[int] = Field([], description="TCP ports to open.")
    checks: dict[str, list[str]] = Field({}, description="Name and command.")


class Story(Module):
    name = "story"
    description = "What a story wants."
    roles = {"default": Role(description="Has it.", settings=Wish)}

    def plan(self, machine, role, instance, clan, values):
        wish = Wish.of(instance.members[role][machine])
        yield from (Package(name=name) for name in wish.packages)
        yield from (File(path=path, content=text.encode()) for path, text in wish.files.items())
        for name, text in wish.units.items():
            yield Unit(name=name, text=text, restart_on=tuple(wish.files))
        yield from (HostName(name=n, addresses=(a,)) for n, a in wish.hosts.items())
        yield from (Opening(protocol=Protocol.TCP, port=port) for port in wish.ports)
        for name, command in wish.checks.items():
            yield HealthCheck(name=name, command=tuple(command))


module = Story
'''


def service(command: str, *more: str) -> str:
    """Write a unit that runs a shell command for as long as it takes."""
    lines = "\n".join(more)
    return f"[Service]\nExecStart=/bin/sh -c '{command}'\n{lines}\n"


def oneshot(command: str, *more: str) -> str:
    """Write a unit that runs a shell command once, and is there from then on."""
    return service(command, "Type=oneshot", "RemainAfterExit=yes", *more)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a machine is to have."""

    files: Mapping[str, str] = field(default_factory=dict)
    units: Mapping[str, str] = field(default_factory=dict)
    packages: tuple[str, ...] = ()
    hosts: Mapping[str, str] = field(default_factory=dict)
    ports: tuple[int, ...] = ()
    checks: Mapping[str, list[str]] = field(default_factory=dict)

    def to_toml(self) -> str:
        """Write it as a machine's settings."""
        shape = {
            "files": self.files,
            "units": self.units,
            "packages": self.packages,
            "hosts": self.hosts,
            "ports": self.ports,
            "checks": self.checks,
        }
        return "\n".join(f"{name} = {_toml(value)}" for name, value in shape.items())


def wish(version: str, **more: Any) -> Wish:
    """Want a little of everything, in a version."""
    return Wish(
        files={"/etc/story/text": f"{version}\n"},
        units={"story-main.service": service(f"echo {version} && exec sleep infinity")},
        hosts={f"{version}.story": "10.99.99.99"},
        ports=(7000 + sum(map(ord, version)),),
        **more,
    )


def and_unit(base: Wish, **units: str) -> Wish:
    """Want one more unit, `story-NAME.service`, than a wish does."""
    more = {f"story-{name}.service": text for name, text in units.items()}
    return Wish(files=base.files, units={**base.units, **more}, hosts=base.hosts, ports=base.ports)


def _toml(value: Any) -> str:
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{json.dumps(k)} = {_toml(v)}' for k, v in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


class Office:
    """The admin's computer, its clan, and what it sees of the machines."""

    def __init__(self, lab: Lab) -> None:
        self.lab = lab
        self.wishes: dict[str, Wish] = {}
        (lab.clan_dir / "modules").mkdir(exist_ok=True)
        (lab.clan_dir / "modules/story.py").write_text(MODULE)
        store = Store.of(lab.clan_dir, lab.environment())
        for unit in lab.units():
            store.write(unit.name, *HOST_KEY, lab.host_key(unit.name))
        self.wants()

    def wants(self, **wishes: Wish) -> None:
        """Write the clan's file: machines that are not named want what they wanted."""
        self.wishes |= wishes
        text = CLAN_FILE
        for unit in self.lab.units():
            text += f"[machines.{unit.name}]\ntags = ['{unit.name[0]}']\n"
            text += f"[instances.internet.roles.default.machines.{unit.name}.settings]\n"
            text += f"host = '{unit.name}.example'\n"
        for name, wanted in self.wishes.items():
            text += f"[instances.story.roles.default.machines.{name}.settings]\n"
            text += f"{wanted.to_toml()}\n"
        (self.lab.clan_dir / "clan.toml").write_text(text)

    def clan(self, *words: str, check: bool = False) -> subprocess.CompletedProcess[str]:
        """Run `clan` at the admin's place."""
        done = self.lab.run([*CLAN, *words], check=False)
        assert not check or done.returncode == 0, done.stdout + done.stderr
        return done

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start `clan` at the admin's place."""
        return subprocess.Popen(
            at_admin(self.lab.state, [*CLAN, *words]),
            env=self.lab.environment(),
            cwd=self.lab.clan_dir,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def install(self, *machines: str) -> None:
        """Run `clan machines install` for several at once."""
        for run in [self.begin("machines", "install", name) for name in machines]:
            _, said = run.communicate()
            assert run.returncode == 0, said

    def update(self, *words: str, state_home: str | None = None) -> list[dict[str, Any]]:
        """Run `clan machines update --json`, perhaps as another admin; return the outcomes."""
        argv = [*CLAN, "machines", "update", "--json", *words]
        other = [] if state_home is None else ["env", f"XDG_STATE_HOME={state_home}"]
        done = self.lab.run([*other, *argv], check=False)
        assert done.stdout, done.stderr
        outcomes: list[dict[str, Any]] = json.loads(done.stdout)
        return outcomes

    def status(self, machine: str) -> dict[str, Any]:
        """Return what `clan machines status` says of a machine."""
        done = self.clan("machines", "status", "--json", machine, check=True)
        shape: dict[str, Any] = json.loads(done.stdout)[0]
        return shape

    def whole(self, machine: str) -> dict[str, Any]:
        """Return what programs/whole.py says: which generation runs, and what is wrong with it."""
        done = self.lab.exec(machine, ["python3", "-I", "-"], text=WHOLE)
        shape: dict[str, Any] = json.loads(done.stdout)
        return shape

    def text(self, machine: str) -> str | None:
        """Return the version that the machine's file has."""
        done = self.lab.exec(machine, ["cat", "/etc/story/text"], check=False)
        return done.stdout.strip() if done.returncode == 0 else None

    def settles(self, machine: str, *, within: float = 60.0) -> dict[str, Any]:
        """Wait until a machine is reached by `clan ssh` and runs its confirmed generation alone."""
        end = time.monotonic() + within
        while True:
            reached = self.clan("ssh", machine, "true")
            found = self.whole(machine)
            if reached.returncode == 0 and not found["wrong"]:
                shown = self.status(machine)
                if found["current"] == found["confirmed"] == shown["generation"]:
                    return {**found, "state": shown["state"]}
            assert time.monotonic() < end, (reached.stderr, found)
            time.sleep(0.3)

    def cut_power(self, machine: str) -> None:
        """End a machine from one moment to the next."""
        self.lab.unit(machine).group.end()

    def boot(self) -> None:
        """Start the machines that are off."""
        Lab.up(self.lab.config, name=self.lab.state.name, clan_dir=self.lab.clan_dir)
