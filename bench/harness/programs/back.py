"""On a machine: wait for a switch and its undoing; say how long after its timer that was.

Prints JSON: seconds from the moment when the timer was due until the generation before is chosen
again, and until the whole activation has ended. `$1` is for how many seconds to wait at most.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

CURRENT = Path("/var/lib/clan/current")
ACTIVATION = Path("/run/clan/activation.json")
PAUSE = 0.005
UNITS = {"us": 1e-6, "ms": 1e-3, "s": 1, "min": 60, "h": 3600, "d": 86400, "w": 604800}


def wait(is_so: Callable[[], bool], end: float) -> float:
    """Return the moment when it is so."""
    while not is_so():
        if time.monotonic() > end:
            sys.exit("it did not come")
        time.sleep(PAUSE)
    return time.monotonic()


def due() -> float:
    """Ask systemd when the timer ends, by the clock that `time.monotonic` reads."""
    words = ["systemctl", "show", "clan-rollback-*.timer", "--property=NextElapseUSecMonotonic"]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    parts = re.findall(r"([\d.]+)(us|ms|s|min|h|d|w)\b", said)
    return sum(float(number) * UNITS[unit] for number, unit in parts)


def stage() -> str:
    """Return how the activation stands."""
    text: str = json.loads(ACTIVATION.read_text())["stage"]
    return text


def main() -> None:
    """Watch one switch."""
    end = time.monotonic() + float(sys.argv[1])
    old = CURRENT.readlink()
    print("ready", flush=True)
    wait(lambda: CURRENT.readlink() != old, end)
    at = due()
    chosen = wait(lambda: CURRENT.readlink() == old, end)
    ended = wait(lambda: stage() == "rolled back", end)
    print(json.dumps({"chosen": chosen - at, "ended": ended - at}))


main()
