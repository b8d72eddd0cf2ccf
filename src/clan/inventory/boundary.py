"""Where code of a module is called: whatever it raises becomes a fault that names the module.

A module is anyone's code, and one that crashes must not hide what else is wrong with the clan.
This is the one place that catches everything.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.inventory.faults import Faults
    from clan.model.inventory import KeyPath


@contextmanager
def guarded(what: str, key: KeyPath, faults: Faults) -> Iterator[None]:
    """Turn an exception of the block into a fault: `what` crashed, and in which line."""
    try:
        yield
    except (Exception, SystemExit) as crash:  # noqa: BLE001 - what this file is for
        faults.add(key, f"{what} crashed: {crash_line(crash)}", "this is a fault in the module")


def crash_line(crash: BaseException) -> str:
    """Return the exception in one line, with the innermost place it came from."""
    said = " ".join(str(crash).split())[:200]
    text = f"{type(crash).__name__}: {said}" if said else type(crash).__name__
    if isinstance(crash, SyntaxError):
        return text
    frames = traceback.extract_tb(crash.__traceback__)
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
