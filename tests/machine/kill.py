"""Ending a piece of code at each of the moments at which it changes files."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EVENTS = frozenset(
    {
        "open",
        "os.chmod",
        "os.chown",
        "os.link",
        "os.mkdir",
        "os.remove",
        "os.rename",
        "os.rmdir",
        "os.symlink",
        "shutil.copyfile",
        "shutil.copystat",
    }
)


class Killed(BaseException):
    """No code catches it, as none outlives a power cut."""


class _Countdown:
    def __init__(self) -> None:
        self.left: int | None = None

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        del arguments
        if self.left is not None and event in EVENTS:
            self.left -= 1
            if self.left < 0:
                self.left = None
                raise Killed


_COUNTDOWN = _Countdown()


def killed_at_each_step(begin: Callable[[], Callable[[], object]]) -> Iterator[int]:
    """Yield after each run that was killed at its step 0, 1, 2 …; `begin` makes a fresh run."""
    if not hasattr(sys, "_clan_countdown"):
        sys.addaudithook(_COUNTDOWN)
        sys._clan_countdown = True  # type: ignore[attr-defined]
    step = 0
    while True:
        run = begin()
        _COUNTDOWN.left = step
        try:
            run()
        except Killed:
            yield step
            step += 1
        else:
            return
        finally:
            _COUNTDOWN.left = None
