"""What names mean: the inventory's, and where a NAT64 has IPv4, as this machine's resolver says.

A resolver may take half a minute, so it is asked by threads and nobody waits. A peer's name is
asked for only while the peer is wanted and no link over the internet lives. What is found is a
candidate, as every place is.
"""

from __future__ import annotations

import contextlib
import math
import os
import queue
import select
import socket
import threading
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh import nat64
from clan.mesh.link import Kind
from clan.mesh.pair import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from ipaddress import IPv6Network

    from clan.mesh.agent.here import Here
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.candidates import IpAddress
    from clan.mesh.chart.content import Machine
    from clan.mesh.pair import Pair

AGAIN = 180.0
"""Seconds after which a name is asked for again, if it is still wanted."""
FIRST = 5.0
"""The same after the first failure; it doubles up to `AGAIN`."""
MOST = 256
"""Names that are known; the one asked for the longest ago is forgotten."""
MOST_ADDRESSES = 8
"""Addresses of a name."""
THREADS = 2
GONE = 3
"""Failures in a row after which there is no NAT64."""


@dataclass(slots=True)
class _Asked:
    """A name. It is being asked for while `at` is infinite."""

    at: float
    failures: int = 0
    addresses: tuple[IpAddress, ...] = ()


class Names:
    """This machine's. `resolve` returns the addresses of a name, or raises OSError."""

    def __init__(
        self,
        known: Knowledge,
        here: Here,
        resolve: Callable[[str], Iterable[IpAddress]] | None = None,
    ) -> None:
        self._known = known
        self._here = here
        self._resolve = resolve or addresses
        self._asked: dict[str, _Asked] = {}
        self._wanted: frozenset[str] = frozenset()
        self._where: object = None
        self._questions: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[tuple[str, tuple[IpAddress, ...]]] = queue.SimpleQueue()
        self._bell, self._ring = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._threads = 0
        self.version = 0
        """Rises when a name means something else."""

    def close(self) -> None:
        """Hear no more; a thread that waits for the resolver ends with the process."""
        os.close(self._bell)

    def sockets(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptor to wait on, with the events to wait for."""
        yield self._bell, select.POLLIN

    def due(self) -> float:
        """Return when a name is to be asked for."""
        return min((self._due(name) for name in self._wanted), default=math.inf)

    @property
    def hosts(self) -> Mapping[str, tuple[IpAddress, ...]]:
        """What names mean, as far as is known."""
        return {name: each.addresses for name, each in self._asked.items() if each.addresses}

    @property
    def nat64(self) -> IPv6Network | None:
        """Where a NAT64 has IPv4, if there is one."""
        return nat64.prefix(self.hosts.get(nat64.NAME, ()))

    def turn(self, readable: Collection[int], pairs: Mapping[str, Pair], now: float) -> None:
        """Take in answers, and have asked what is wanted now."""
        if self._bell in readable:
            with contextlib.suppress(BlockingIOError):
                os.read(self._bell, MOST)
            self._take(now)
        where = [(each.name, each.addresses, each.defaults) for each in self._here.attachments]
        if where != self._where:
            self._where = where
            for each in self._asked.values():  # another network may have another answer
                each.at = min(each.at, now - AGAIN) if math.isfinite(each.at) else each.at
                each.failures = 0
        self._wanted = frozenset(sought(self._known.content.machines, pairs))
        if any(own.slot.kind is Kind.INTERNET for own in self._here.slots) and not self._has_ipv4():
            self._wanted |= {nat64.NAME}
        for name in sorted(self._wanted):
            if self._due(name) <= now:
                self._ask(name)

    def _has_ipv4(self) -> bool:
        defaults = [route for each in self._here.attachments for route in each.defaults]
        return any(route.to.version == 4 for route in defaults)  # noqa: PLR2004

    def _due(self, name: str) -> float:
        asked = self._asked.get(name)
        if asked is None:
            return -math.inf
        pause = FIRST * 2.0 ** (asked.failures - 1) if asked.failures else AGAIN
        return asked.at + min(AGAIN, pause)

    def _ask(self, name: str) -> None:
        self._asked.setdefault(name, _Asked(0.0)).at = math.inf
        if len(self._asked) > MOST:
            del self._asked[min(self._asked, key=lambda each: self._asked[each].at)]
        if self._threads < THREADS:
            self._threads += 1
            threading.Thread(target=self._work, daemon=True).start()
        self._questions.put(name)

    def _take(self, now: float) -> None:
        while not self._answers.empty():
            name, found = self._answers.get()
            asked = self._asked.setdefault(name, _Asked(now))
            asked.at = now
            asked.failures = 0 if found else min(asked.failures + 1, 16)
            # What it meant may still be right while the resolver is gone. A NAT64 may be gone too.
            is_gone = name == nat64.NAME and asked.failures >= GONE
            if (found or is_gone) and found != asked.addresses:
                asked.addresses = found
                self.version += 1

    def _work(self) -> None:
        """Ask the resolver, name by name, for as long as the process lives."""
        while True:
            name = self._questions.get()
            try:
                found = tuple(dict.fromkeys(self._resolve(name)))[:MOST_ADDRESSES]
            except (OSError, ValueError):
                found = ()
            self._answers.put((name, found))
            with contextlib.suppress(OSError):
                os.write(self._ring, b"\0")


def addresses(name: str) -> list[IpAddress]:
    """Return a name's addresses, as the machine's resolver says. Raises OSError, ValueError."""
    found = socket.getaddrinfo(name, None, type=socket.SOCK_DGRAM)
    return [ip_address(str(where[0]).partition("%")[0]) for *_, where in found]


def sought(machines: Iterable[Machine], pairs: Mapping[str, Pair]) -> Iterator[str]:
    """Yield the names of machines that are wanted, and to which no link over the internet lives."""
    for machine in machines:
        pair = pairs.get(machine.name)
        if pair is None or pair.mode is Mode.COLD:
            continue
        kinds = {s.link.slot.kind for s in pair.links.values() if s.alive_since is not None}
        if Kind.INTERNET not in kinds:
            yield from (each.host for each in machine.addresses if not _is_numeric(each.host))


def _is_numeric(host: str) -> bool:
    with contextlib.suppress(ValueError):
        ip_address(host)
        return True
    return False
