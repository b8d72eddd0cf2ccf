"""When an agent's parts are told what there is: at once of news, of probes now and then.

Probes come dozens of times a second, and hardly anything follows from them but what `step` says.
What does (a peer is asleep now, a path lives long enough) is not urgent.
"""

from __future__ import annotations

import math

TELL_EVERY = 0.25
"""Seconds in which what follows from probes alone is told of once: a path has ten a second."""


class Telling:
    """An agent's. Times are seconds of the monotonic clock."""

    def __init__(self) -> None:
        self._told = -math.inf
        self.due = math.inf
        """When to tell of probes that nobody was told of yet; infinity is never."""

    def is_time(self, now: float, *, is_news: bool) -> bool:
        """Say whether to tell now that something happened, and take it as done if so."""
        soon = self._told + TELL_EVERY
        if is_news or now >= soon:
            self._told, self.due = now, math.inf
            return True
        self.due = soon
        return False
