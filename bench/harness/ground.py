"""What rows stand on: a folder, things made once for several rows, and a word on progress.

All of it is taken away at the end, however that comes.
"""

from __future__ import annotations

import os
import sys
import tempfile
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from bench.harness.row import BenchError
from bench.harness.run import as_people_run, run

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from contextlib import AbstractContextManager

    from bench.harness.run import Run

T = TypeVar("T")

PYTHON = Path(sys.executable)
"""The interpreter that `clan` is installed for."""
CLAN = PYTHON.with_name("clan")
CHECKOUT = Path(__file__).parents[2]
LIMIT = 60.0
"""Seconds that a command may take where a row says nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """The ground of one run of benches: `folder` is its own, `report` tells a person a step."""

    folder: Path
    report: Callable[[str], None]
    stack: ExitStack
    made: dict[Callable[[Ground], Any], Any] = field(default_factory=dict)

    def once(self, make: Callable[[Ground], AbstractContextManager[T]]) -> T:
        """Return what `make` makes; the first caller has it made, the end takes it away."""
        if make not in self.made:
            self.made[make] = self.stack.enter_context(make(self))
        made: T = self.made[make]
        return made

    def environment(self) -> dict[str, str]:
        """Return the environment of commands: this user's, with state and cache of the run's own.

        Neither ever fills up with what a benchmark did.
        """
        own = {"XDG_STATE_HOME": "state", "XDG_CACHE_HOME": "cache"}
        folders = {name: str(self.folder / folder) for name, folder in own.items()}
        return as_people_run(os.environ) | folders

    def time(self, argv: Sequence[str], more: Mapping[str, str] | None = None) -> float:
        """Run a command with `more` in its environment; return the seconds that it took.

        Raises BenchError when it fails.
        """
        done = run(argv, environment={**self.environment(), **(more or {})}, limit=LIMIT)
        return succeeded(argv, done).seconds


def succeeded(argv: Sequence[str], done: Run) -> Run:
    """Return how a command went. Raises BenchError with its last words when it failed."""
    if done.status == 0:
        return done
    words = done.errors.strip().splitlines() or ["it said nothing"]
    ending = "took too long" if done.status is None else f"ended with {done.status}"
    raise BenchError(f"{' '.join(argv)} {ending}: {words[-1]}")


@contextmanager
def laid(report: Callable[[str], None]) -> Iterator[Ground]:
    """Lay the ground, and clear it at the end."""
    with tempfile.TemporaryDirectory(prefix="clan-bench-") as folder, ExitStack() as stack:
        yield Ground(folder=Path(folder), report=report, stack=stack)
