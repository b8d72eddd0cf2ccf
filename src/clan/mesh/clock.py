"""A machine's clock over a boot: it does not begin before where it was.

WireGuard's first message of a handshake carries the time, and who had a later one refuses it: a
machine without a battery for its clock would be refused by all that knew it. So the agent writes
down what time it is, and before the first agent of a boot starts, a clock that stands earlier is
set to that. It is only for going on: what is right, a time server says.
"""

from __future__ import annotations

import contextlib
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.layout import write
from clan.mesh.chart.canonical import decode, encode

if TYPE_CHECKING:
    from collections.abc import Callable

FILE = "clock"
"""In the folder of the state."""
EVERY = 600.0
"""Seconds between two notes of the time; a clock is set that much later than the last one."""
CREDIBLE = 10 * 365.25 * 86400
"""Seconds by which what was noted may be later than all else that is known: a machine that was in
2099 once is not to go back there."""
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_LATEST = 1 << 40


def raised(now: float, noted: float, made: float) -> float:
    """Return what a clock is to be set to at a boot, all in seconds of 1970.

    `now` is what it says, `noted` what was written down last, 0 for nothing, and `made` when the
    map that is held was signed: that only says what can be believed.
    """
    later = noted + EVERY
    is_credible = noted > 0 and later - max(now, made) <= CREDIBLE
    return max(now, later) if is_credible else now


class Notes:
    """What is written down of the time, in a folder of this machine's state."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._at = time.monotonic()

    def due(self) -> float:
        """Return when `turn` has something to do, in seconds of the monotonic clock."""
        return self._at

    def turn(self, now: float) -> None:
        """Write down what time it is, now and then; on a full disk, not."""
        if now >= self._at:
            self._at = now + EVERY
            with contextlib.suppress(OSError):
                noted = {"boot": _boot(), "seconds": int(time.time())}
                write(self._path, encode(noted), 0o600)

    def apply(self, made: float, say: Callable[[str], None]) -> None:
        """Set the clock if this is a boot's first start, and it stands before what was noted.

        Raises OSError where it may not be set, MeshError for what nobody wrote.
        """
        try:
            fields = decode(self._path.read_bytes(), str(self._path))
        except FileNotFoundError:
            return
        boot, noted = fields.text("boot", 64), fields.number("seconds", 0, _LATEST)
        now = time.time()
        to = raised(now, noted, made)
        if boot != _boot() and to > now:
            time.clock_settime(time.CLOCK_REALTIME, to)
            say(f"the clock stood {to - now:.0f} seconds before where it was, and was set to that")


def _boot() -> str:
    return _BOOT.read_text().strip()
