"""What became of each route in one race: what `--explain` shows, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.model.route import Route
    from clan.networks.memory import Memory
    from clan.networks.race import Lap
    from clan.networks.technology import Connection


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One route in a race: why it stood where it did, how it went, and what it led to.

    `patience` is for how many seconds it may be silent and work.
    """

    route: Route
    why: str
    lap: Lap
    patience: float
    connection: Connection | None = None

    @property
    def result(self) -> str:
        """One word: connected, failed, slower, unanswered (still open), or unneeded."""
        if self.connection is not None:
            return "connected"
        if self.lap.error is not None:
            return "failed"
        if self.lap.started is None:
            return "unneeded"
        return "unanswered" if self.lap.ended is None else "slower"

    def to_json(self) -> dict[str, Any]:
        """Return the attempt as JSON values; times in seconds from the start of the race."""
        return {
            "network": self.route.network.name,
            "module": self.route.network.module,
            "priority": self.route.network.priority,
            "why": self.why,
            "result": self.result,
            "started": self.lap.started,
            "ended": self.lap.ended,
            "error": self.lap.error,
            "address": self.connection.address if self.connection else None,
            "rtt": self.connection.rtt if self.connection else None,
        }


def remembered(
    memory: Memory, attempts: Sequence[Attempt], *, seconds: float, underlay: str, now: float
) -> Memory:
    """Return what is remembered of a machine after a race that took `seconds`.

    A network that was still silent when a worse one won, for longer than it may need, counts as
    failed: next time it must not cost that wait again.
    """
    for attempt in attempts:
        network, lap = attempt.route.network.name, attempt.lap
        if attempt.connection is not None:
            memory = memory.worked(
                network,
                underlay,
                rtt=attempt.connection.rtt,
                address=attempt.connection.address,
                now=now,
            )
        elif lap.error is not None:
            memory = memory.failed(network, underlay, error=lap.error, now=now)
        elif attempt.result == "unanswered" and lap.started is not None:
            silent = seconds - lap.started
            if silent >= attempt.patience:
                error = f"no answer in {silent:.1f} s"
                memory = memory.failed(network, underlay, error=error, now=now)
    return memory
