"""Pauses Python's cycle collector while a clan is read: values only grow then, and none is a cycle.

With ten thousand machines the collector's passes over what is alive take as long as the work, and
make it grow faster than the clan does (measured: exponent 1.3 with it, 1.0 without).
"""

from __future__ import annotations

import gc
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def paused() -> Iterator[None]:
    """Pause the collector for the block; one that was off stays off."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_on:
            gc.enable()
