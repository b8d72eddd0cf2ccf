"""The family's clan in a lab of its own, and a process at the admin's place that times commands.

Entering the lab takes longer than a login. A process that stays there enters it once, so that a
comparison holds nothing but what is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import tomllib
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING

from bench.harness.clans import FAMILY, better_networks, family
from bench.harness.ground import CHECKOUT, CLAN, LIMIT, succeeded
from bench.harness.row import BenchError
from bench.harness.run import Run, as_people_run
from clan.lab import place, schema, state
from clan.lab.cuts import Cut
from clan.lab.lab import Lab, down
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from bench.harness.ground import Ground

MACHINE = "nas"
FULL_NAME = "nas.family"
HOME, AWAY = "home", "cafe"
PREFIX = "bench"
DARK = {f"dark{number}.example.com": f"203.0.113.{10 + number}" for number in range(3)}
"""Names and addresses at the site whose uplink is cut: what goes there is dropped in silence."""
DARK_SITE = {"lan": "203.0.113.0/27", "ip": "4", "router": {"nat": "none"}}


@dataclass(frozen=True, slots=True)
class Place:
    """The process at the admin's place. Two threads may use it; it does one command at a time."""

    questions: IO[str]
    answers: IO[str]
    busy: threading.Lock

    def run(
        self, argv: Sequence[str], *, more: Mapping[str, str] | None = None, limit: float = LIMIT
    ) -> Run:
        """Run a command there, with `more` in its environment, and return how it went."""
        asked = {"argv": list(argv), "environment": dict(more or {}), "limit": limit}
        with self.busy:
            print(json.dumps(asked), file=self.questions, flush=True)
            answer = self.answers.readline()
        if not answer:
            raise BenchError("the lab went away")
        return Run(**json.loads(answer))

    def time(self, argv: Sequence[str], *, more: Mapping[str, str] | None = None) -> float:
        """Return the seconds that a command takes there. Raises BenchError when it fails."""
        return succeeded(argv, self.run(argv, more=more)).seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Home:
    """The lab: the admin is at home, as is the machine, and each has met the other before."""

    lab: Lab
    place: Place
    folder: Path
    """For what rows keep while they measure."""
    clan: Path
    """The family's clan."""
    dark_clan: Path
    """The same, with three networks before all others that lead nowhere."""
    ssh: tuple[str, ...]
    """Plain ssh to the machine, as `clan ssh` runs it and over the path that this takes."""


@contextmanager
def home(ground: Ground) -> Iterator[Home]:
    """Bring the lab up, make everybody known to each other; take it down at the end."""
    _sweep()
    clan = family(ground.folder / "family")
    dark_clan = family(ground.folder / "family-dark", better_networks(MACHINE, list(DARK)))
    document = tomllib.loads((FAMILY / "lab.toml").read_text())
    document["sites"]["dark"] = DARK_SITE
    document["names"] |= DARK
    lab = Lab.up(
        schema.parse(document),
        name=f"{PREFIX}-{os.getpid()}",
        clan_dir=clan,
        report=lambda step: ground.report(f"lab: {step}"),
    )
    with lab, _place(lab) as at:
        lab.cut(Cut(what="dark"))
        known_hosts = ground.folder / "known_hosts"
        known_hosts.write_text(f"{FULL_NAME} {lab.host_key(MACHINE)}\n")
        _record_host_key(lab)
        address = _address_on_lan(at, clan)
        yield Home(
            lab=lab,
            place=at,
            folder=ground.folder,
            clan=clan,
            dark_clan=dark_clan,
            ssh=plain_ssh(address, known_hosts),
        )


def login(clan: Path, *words: str) -> list[str]:
    """Return the `clan ssh` that runs a command on the machine."""
    return [str(CLAN), "--clan", str(clan), "ssh", "--quiet", MACHINE, *words]


def plain_ssh(address: str, known_hosts: Path) -> tuple[str, ...]:
    """Return the plain ssh that logs in to an address and demands the machine's host key."""
    options = {
        "HostKeyAlias": FULL_NAME,
        "HostKeyAlgorithms": "ssh-ed25519",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": str(known_hosts),
        "GlobalKnownHostsFile": "none",
    }
    words = [word for key, value in options.items() for word in ("-o", f"{key}={value}")]
    return ("ssh", *words, "-l", "root", address)


@contextmanager
def _place(lab: Lab) -> Iterator[Place]:
    """Start the process at the admin's place, and end it."""
    environment = as_people_run(lab.environment()) | place.variables(lab.state, lab.clan_dir)
    process = subprocess.Popen(
        place.at_admin(lab.state, [sys.executable, "-m", "bench.harness.run"]),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=CHECKOUT,
        text=True,
    )
    try:
        if process.stdin is None or process.stdout is None:
            raise BenchError("the lab takes no commands")
        yield Place(process.stdin, process.stdout, threading.Lock())
    finally:
        process.kill()
        process.wait()


def _record_host_key(lab: Lab) -> None:
    """Keep the machine's host key where a first contact would have put it."""
    store = Store.of(lab.clan_dir, lab.environment())
    store.write(MACHINE, *HOST_KEY, lab.host_key(MACHINE))


def _address_on_lan(at: Place, clan: Path) -> str:
    """Return the address by which `clan ssh` reaches the machine from home, as the machine says."""
    argv = login(clan, "echo $SSH_CONNECTION")
    return succeeded(argv, at.run(argv)).output.split()[2]


def _sweep() -> None:
    """Take away the labs of runs that were killed."""
    for name in state.names():
        prefix, _, process = name.partition("-")
        if prefix == PREFIX and process.isdecimal() and not Path("/proc", process).exists():
            down(name)
