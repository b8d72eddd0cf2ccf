"""Room on the disk that is kept for going back: a full disk must not keep a machine from it."""

from __future__ import annotations

import contextlib
import os
from typing import TYPE_CHECKING

from clan.machine.layout import draft_of, write
from clan.machine.system import StepError

if TYPE_CHECKING:
    from clan.machine.layout import Layout

SIZE = 2 << 20
"""Bytes: many times what links, blocks and notes take."""


def keep(layout: Layout) -> None:
    """Take the room, unless it is taken. Raises StepError on a disk that does not have it."""
    with contextlib.suppress(FileNotFoundError):
        if layout.reserve.stat().st_size == SIZE:
            return
    try:
        # Not a sparse file, and not a page that compresses to nothing.
        write(layout.reserve, os.urandom(SIZE), 0o600)
    except OSError as fault:
        spend(layout)
        raise StepError(f"{layout.reserve}: {fault.strerror}") from None


def spend(layout: Layout) -> None:
    """Give the room to what has to be written now."""
    for path in (layout.reserve, draft_of(layout.reserve)):
        path.unlink(missing_ok=True)
