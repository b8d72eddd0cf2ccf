"""What is remembered of a machine: per network and underlay what was measured, and what failed.

One small JSON file a machine in the user's state folder. It is advice: lost or unreadable, it is
begun anew. Values here are pure; `Memories` reads and writes them.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MOST_MARKS = 64
"""Networks x underlays kept a machine; the longest untouched are forgotten."""
BAD_ADDRESS_LIFE = 600.0
"""Seconds that an address which showed another host key is passed over."""
PROBE_BURST = 8.0
PROBES_PER_SECOND = 0.5
"""Probing leaves sshd without logging in. OpenSSH 9.8 counts one second of penalty for each and
refuses an address at fifteen (sshd_config(5), PerSourcePenalties): eight at once and one every two
seconds stay below that whatever else connects."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mark:
    """What is known of one network from one underlay. Times as `time.time()`, `rtt` in seconds."""

    network: str
    underlay: str
    rtt: float | None = None
    address: str | None = None
    measured_at: float = 0.0
    failures: int = 0
    failed_at: float = 0.0
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BadAddress:
    """An address where something other than the machine answered.

    `wanted` is the host key that it did not show: with another one demanded, the address may be
    the machine's after all.
    """

    address: str
    wanted: str
    network: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """A connection handed to an ssh process, so that its host key can be traced to an address."""

    process: int
    network: str
    address: str
    by_multicast: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    """All that is remembered of one machine."""

    marks: tuple[Mark, ...] = ()
    bad: tuple[BadAddress, ...] = ()
    used: tuple[Used, ...] = ()
    probes: float = PROBE_BURST
    probed_at: float = 0.0

    def mark(self, network: str, underlay: str) -> Mark:
        """Return what is known of a network from an underlay; an empty mark when nothing is."""
        for mark in self.marks:
            if mark.network == network and mark.underlay == underlay:
                return mark
        return Mark(network=network, underlay=underlay)

    def worked(
        self, network: str, underlay: str, *, rtt: float, address: str, now: float
    ) -> Memory:
        """Remember that a network answered."""
        mark = Mark(network=network, underlay=underlay, rtt=rtt, address=address, measured_at=now)
        return self._with(mark)

    def failed(self, network: str, underlay: str, *, error: str, now: float) -> Memory:
        """Remember that a network did not lead to the machine; what was measured before stays."""
        mark = self.mark(network, underlay)
        return self._with(replace(mark, failures=mark.failures + 1, failed_at=now, error=error))

    def _with(self, mark: Mark) -> Memory:
        others = [
            known
            for known in self.marks
            if (known.network, known.underlay) != (mark.network, mark.underlay)
        ]
        return replace(self, marks=(*others, mark)[-MOST_MARKS:])

    def bad_addresses(self, now: float, host_key: str | None) -> frozenset[str]:
        """Return the addresses to pass over now, when `host_key` is demanded of the machine."""
        return frozenset(
            bad.address
            for bad in self.bad
            if bad.wanted == host_key and 0 <= now - bad.at < BAD_ADDRESS_LIFE
        )

    def set_aside(self, *, network: str, address: str, host_key: str, now: float) -> Memory:
        """Remember that at an address something answered without the machine's host key."""
        others = [bad for bad in self.bad if bad.address != address]
        bad = BadAddress(address=address, wanted=host_key, network=network, at=now)
        return replace(self, bad=(*others, bad)[-MOST_MARKS:])

    def handed(self, used: Used) -> Memory:
        """Remember which connection an ssh process was given; the last few are kept."""
        others = [known for known in self.used if known.process != used.process]
        return replace(self, used=(*others, used)[-MOST_MARKS:])

    def handed_to(self, process: int) -> Used | None:
        """Return the connection that an ssh process was given."""
        return next((used for used in self.used if used.process == process), None)

    def take_probe(self, now: float) -> Memory | None:
        """Return the memory after one more probe, or None when probing now would be rude."""
        passed = max(0.0, now - self.probed_at)
        tokens = min(PROBE_BURST, self.probes + passed * PROBES_PER_SECOND)
        if tokens < 1:
            return None
        return replace(self, probes=tokens - 1, probed_at=now)


@dataclass(frozen=True, slots=True)
class Memories:
    """The memories of one clan's machines, in files under `folder`."""

    folder: Path = field()

    @classmethod
    def of(cls, state: Path, clan: Path) -> Memories:
        """Return the memories of the clan in folder `clan`, under the user's state folder."""
        name = hashlib.sha256(os.fsencode(clan.resolve())).hexdigest()[:16]
        return cls(state / "reach" / name)

    def read(self, machine: str) -> Memory:
        """Read a machine's memory; an empty one when there is none that can be read."""
        try:
            return _decode((self.folder / f"{machine}.json").read_bytes())
        except (OSError, ValueError, TypeError, KeyError):
            return Memory()

    def update(self, machine: str, change: Callable[[Memory], Memory]) -> Memory:
        """Change a machine's memory; two commands at once lose nothing of each other.

        A state folder that cannot be written costs what would have been remembered, no more.
        """
        try:
            self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            with (self.folder / f"{machine}.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                changed = change(self.read(machine))
                draft = self.folder / f"{machine}.json.new"
                draft.write_text(json.dumps(asdict(changed), separators=(",", ":")))
                draft.replace(self.folder / f"{machine}.json")
        except OSError:
            return change(Memory())
        return changed


def _decode(text: bytes) -> Memory:
    shape = json.loads(text)
    return Memory(
        marks=tuple(Mark(**mark) for mark in shape["marks"]),
        bad=tuple(BadAddress(**bad) for bad in shape["bad"]),
        used=tuple(Used(**used) for used in shape["used"]),
        probes=float(shape["probes"]),
        probed_at=float(shape["probed_at"]),
    )
