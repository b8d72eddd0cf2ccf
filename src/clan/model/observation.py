"""What was seen of a peer on a network, and what is remembered of it."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One look at a peer: `rtt` in seconds and the address that answered, or the error."""

    network: str
    machine: str
    rtt: float | None = None
    address: str | None = None
    error: str | None = None
    age: float = 0.0
    """Seconds since it was measured; more than 0 where probing again would have been rude."""

    @property
    def reachable(self) -> bool:
        """Whether the peer answered."""
        return self.error is None
