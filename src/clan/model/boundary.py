"""Where code of a module is called: whatever it raises becomes a fault that names the module.

A module is anyone's code, and one that crashes must not hide what else is wrong with the clan.
This is the one place that catches everything.
"""

from __future__ import annotations

import traceback
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from clan.errors import ClanError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.model.inventory import KeyPath


class Noting(Protocol):
    """Where faults are gathered."""

    def add(self, key: KeyPath, message: str, hint: str | None = None) -> None:
        """Note a fault at a key."""


@contextmanager
def guarded(what: str, key: KeyPath, faults: Noting) -> Iterator[None]:
    """Turn an exception of the block into a fault: `what` crashed, and in which line."""
    try:
        yield
    except (Exception, SystemExit) as crash:  # noqa: BLE001 - what this file is for
        faults.add(key, f"{what} crashed: {crash_line(crash)}", "this is a fault in the module")


@contextmanager
def discreet(what: str) -> Iterator[None]:
    """Turn an exception of the block into a ClanError that quotes nothing of what it says.

    The code handles secrets, and what an exception quotes is what the code was at.
    """
    try:
        yield
    except ClanError:
        raise
    except (Exception, SystemExit) as crash:  # noqa: BLE001 - what this file is for
        frames = traceback.extract_tb(crash.__traceback__)
        place = f"{frames[-1].filename}:{frames[-1].lineno}"
        raise ClanError(
            f"{what} crashed: {type(crash).__name__} ({place})",
            hint="this is a fault in the module",
        ) from None


def crash_line(crash: BaseException) -> str:
    """Return the exception in one line, with the innermost place it came from."""
    said = " ".join(str(crash).split())[:200]
    text = f"{type(crash).__name__}: {said}" if said else type(crash).__name__
    if isinstance(crash, SyntaxError):
        return text
    frames = traceback.extract_tb(crash.__traceback__)
    return f"{text} ({frames[-1].filename}:{frames[-1].lineno})" if frames else text
