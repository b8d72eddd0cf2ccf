"""Run a command and say how long it took; here, or wherever this module runs as a program.

As a program it times the commands that come on standard input, a JSON document a line in and out:
what stays inside a lab, since entering one would take longer than what is measured.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How a command went: `begun` and `ended` by `time.monotonic()`, which all processes share.

    `status` is None when it took longer than it was given.
    """

    begun: float
    ended: float
    status: int | None
    output: str
    errors: str

    @property
    def seconds(self) -> float:
        """How long it took."""
        return self.ended - self.begun


def run(argv: Sequence[str], *, environment: Mapping[str, str], limit: float) -> Run:
    """Run a command to its end, or for `limit` seconds; it has neither input nor a terminal."""
    begun = time.monotonic()
    with subprocess.Popen(
        argv,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    ) as process:
        status: int | None = None
        try:
            output, errors = process.communicate(timeout=limit)
            status = process.returncode
        except subprocess.TimeoutExpired:
            output = errors = ""
        finally:
            # With what it started: an ssh that hangs would outlive the clan that ran it.
            if status is None:
                os.killpg(process.pid, signal.SIGKILL)
    ended = time.monotonic()
    return Run(begun=begun, ended=ended, status=status, output=output, errors=errors)


def as_people_run(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment without what changes Python or clan: byte code is used, above all."""
    return {
        name: value
        for name, value in environment.items()
        if not name.startswith(("PYTHON", "CLAN_", "COVERAGE"))
    }


def serve() -> None:
    """Run what is asked for on standard input until that ends."""
    for line in sys.stdin:
        asked = json.loads(line)
        environment = {**os.environ, **asked["environment"]}
        done = run(asked["argv"], environment=environment, limit=asked["limit"])
        print(json.dumps(asdict(done)), flush=True)


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        serve()
