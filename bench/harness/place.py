"""Labs for benches, and a process at the admin's place that times commands.

Entering the lab takes longer than a login. A process that stays there enters it once, so that a
comparison holds nothing but what is compared.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from bench.harness.ground import CHECKOUT, LIMIT, succeeded
from bench.harness.row import BenchError
from bench.harness.run import Run, as_people_run
from clan.lab import place, schema, state
from clan.lab.lab import Lab, down
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from bench.harness.ground import Ground

PREFIX = "bench"


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


@contextmanager
def up(
    ground: Ground, document: Mapping[str, Any], *, clan: Path, name: str
) -> Iterator[tuple[Lab, Place]]:
    """Bring a lab up that a document describes, for the clan in a folder; take it down at the end.

    `name` tells it from the other labs of this run.
    """
    _sweep()
    lab = Lab.up(
        schema.parse(document),
        name=f"{PREFIX}-{os.getpid()}-{name}",
        clan_dir=clan,
        report=lambda step: ground.report(f"lab: {step}"),
    )
    with lab, _place(lab) as at:
        yield lab, at


def record_host_keys(lab: Lab, machines: Iterable[str]) -> None:
    """Keep the machines' host keys where a first contact would have put them."""
    store = Store.of(lab.clan_dir, lab.environment())
    for machine in machines:
        store.write(machine, *HOST_KEY, lab.host_key(machine))


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


def _sweep() -> None:
    """Take away the labs of runs that were killed."""
    for name in state.names():
        prefix, _, rest = name.partition("-")
        process = rest.partition("-")[0]
        if prefix == PREFIX and process.isdecimal() and not Path("/proc", process).exists():
            down(name)
