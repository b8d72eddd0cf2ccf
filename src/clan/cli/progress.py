"""Progress of what may take longer than two seconds: on a terminal's last line, gone at the end."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

QUIET = 1.0
"""Seconds before anything is shown: what is done sooner needs no progress."""


@contextlib.contextmanager
def counting(what: str, total: int) -> Iterator[Callable[[], None]]:
    """Show `what done/total` on standard error; what is yielded counts one more."""
    begin = time.monotonic()
    done = 0
    line = Line()

    def count() -> None:
        nonlocal done
        done += 1
        if time.monotonic() - begin > QUIET:
            line.show(f"{what} {done}/{total}")

    try:
        yield count
    finally:
        line.erase()


class Waiting:
    """Shows what is waited for and for how long, until it is told to stop. Needs a running loop."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.detail = ""
        self.line = Line()
        self.loop = asyncio.get_running_loop()
        self.begin = self.loop.time()
        self.timer = self.loop.call_later(QUIET, self._show)

    def _show(self) -> None:
        detail = f"; {self.detail}" if self.detail else ""
        self.line.show(f"{self.what} ({self.loop.time() - self.begin:.0f} s){detail}")
        self.timer = self.loop.call_later(QUIET, self._show)

    def say(self, detail: str) -> None:
        """Show in a few words what is done now, once anything is shown."""
        self.detail = detail
        if not self.timer.cancelled() and self.loop.time() - self.begin > QUIET:
            self.timer.cancel()
            self._show()

    def stop(self) -> None:
        """Show nothing any more."""
        self.timer.cancel()
        self.line.erase()


class Line:
    """The terminal's last line, where standard error is a terminal; nothing anywhere else."""

    def __init__(self) -> None:
        self.shown = False

    def show(self, text: str) -> None:
        """Replace what the line shows."""
        if sys.stderr.isatty():
            self.shown = True
            sys.stderr.write(f"\r\x1b[K{text}")
            sys.stderr.flush()

    def erase(self) -> None:
        """Leave the line as if nothing had been there."""
        if self.shown:
            self.shown = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
