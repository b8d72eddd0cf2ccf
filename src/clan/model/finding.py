"""What a look at a machine found, in words for people."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that was found; `wrong` False is something to know, such as a peer that is off."""

    message: str
    hint: str | None = None
    wrong: bool = True


def lasting(seconds: float) -> str:
    """Write a time in its largest unit: `3 hours`."""
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count = int(seconds // size)
        if count > 0:
            return f"{count} {unit}{'s' * (count > 1)}"
    return "0 seconds"
