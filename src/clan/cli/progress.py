"""Progress of what may take longer than two seconds: on a terminal's last line, gone at the end."""

from __future__ import annotations

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
    shown = False

    def count() -> None:
        nonlocal done, shown
        done += 1
        if sys.stderr.isatty() and time.monotonic() - begin > QUIET:
            shown = True
            sys.stderr.write(f"\r\x1b[K{what} {done}/{total}")
            sys.stderr.flush()

    try:
        yield count
    finally:
        if shown:
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
