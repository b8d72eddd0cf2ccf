"""Running the machine's own programs."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence


class StepError(Exception):
    """A step of an activation failed; the message says which and why, for people.

    `said` is all that a program said before it failed.
    """

    def __init__(self, message: str, said: str = "") -> None:
        super().__init__(message)
        self.said = said


class BusyError(StepError):
    """Another changes this machine."""


def run(
    words: Sequence[str],
    *,
    stdin: bytes = b"",
    limit: float = 120.0,
    environment: dict[str, str] | None = None,
) -> str:
    """Run a program and return what it printed. Raises StepError with its last words."""
    try:
        done = subprocess.run(
            list(words),
            input=stdin,
            capture_output=True,
            check=False,
            timeout=limit,
            env=environment,
        )
    except FileNotFoundError:
        raise StepError(f"the program {words[0]} is not installed") from None
    except subprocess.TimeoutExpired:
        raise StepError(f"{' '.join(words)} did not end in {limit:g} s") from None
    if done.returncode:
        said = (done.stderr or done.stdout).decode("utf-8", "replace").strip()
        last = said.splitlines()[-1] if said else f"exit status {done.returncode}"
        raise StepError(f"{' '.join(words)}: {last}", said)
    return done.stdout.decode("utf-8", "replace")
