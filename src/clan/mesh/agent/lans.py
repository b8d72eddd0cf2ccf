"""The LANs of this machine: when it calls out there, and whom it hears.

It calls out thrice when it comes to a LAN, once more when somebody asks, and then seldom. What is
called is sealed; what is heard is opened and passed on. Who is meant and what follows is not known
here.
"""

from __future__ import annotations

import contextlib
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.mesh.agent.lan import Lan

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clan.mesh.agent.lan import Announcement
    from clan.mesh.agent.uplinks import Attachment

ARRIVING = (0.0, 1.0, 4.0)
"""Seconds after which one calls and asks on a LAN that is new: a bridge may not pass on at once."""
SELDOM = 600.0
"""Seconds between calls that nobody asked for."""
ANSWER_WITHIN = 0.3
"""Seconds in which one that was asked calls, so that not all do at once."""
ANSWER_EVERY = 2.0
"""Seconds between two such answers, so that a flood of questions is not doubled."""


@dataclass(kw_only=True)
class _Place:
    """An uplink's LAN: its sockets, and what is due."""

    name: str
    index: int
    addresses: frozenset[object]
    sockets: list[Lan] = field(default_factory=list)
    asks_at: list[float] = field(default_factory=list)
    answer_at: float = math.inf
    answered: float = -math.inf
    seldom_at: float = math.inf


class Lans:
    """All LANs. `payload(uplink, asks, whole)` gives what is to be called out, sealed; or None.

    `asking(uplink, index)` is told when this machine asks on a LAN.
    """

    def __init__(
        self,
        payload: Callable[[str, bool, bool], bytes | None],
        asking: Callable[[str, int], None],
    ) -> None:
        self._payload = payload
        self._asking = asking
        self._places: dict[str, _Place] = {}
        self._call_at = math.inf

    def close(self) -> None:
        """Hear no more."""
        for place in self._places.values():
            _close(place)
        self._places.clear()

    def sockets(self) -> Iterator[tuple[str, int, Lan]]:
        """Yield each socket with its uplink's name and index."""
        for place in self._places.values():
            for each in place.sockets:
                yield place.name, place.index, each

    def settle(self, attachments: Iterable[Attachment], now: float) -> None:
        """Be on the LANs of these uplinks; call out where one is new or has other addresses."""
        wanted = {each.name: each for each in attachments if each.works and each.addresses}
        for name in [name for name in self._places if name not in wanted]:
            _close(self._places.pop(name))
        for name, each in wanted.items():
            addresses = frozenset(each.addresses)
            known = self._places.get(name)
            if known is not None and (known.index, known.addresses) == (each.index, addresses):
                continue
            if known is not None:
                _close(known)
            self._places[name] = _opened(each, now)

    def ask(self, now: float) -> None:
        """Call out and ask on all LANs, now and again: something about this machine is new."""
        for place in self._places.values():
            place.asks_at = [now + after for after in ARRIVING]

    def answer(self, uplink: str, now: float) -> None:
        """Somebody asked there."""
        place = self._places.get(uplink)
        if place is not None and place.answer_at == math.inf:
            soon = now + random.uniform(0, ANSWER_WITHIN)  # noqa: S311 (spreads, guards nothing)
            place.answer_at = max(soon, place.answered + ANSWER_EVERY)

    def due(self) -> float:
        """Return when `turn` has something to do."""
        times = (
            min([each.answer_at, each.seldom_at, *each.asks_at[:1]])
            for each in self._places.values()
        )
        return min([self._call_at, *times])

    def call(self, at: float) -> None:
        """Call out on all LANs at a time: somebody is wanted."""
        self._call_at = min(self._call_at, at)

    def turn(self, now: float) -> bool:
        """Call out where it is due; say whether somebody who is wanted was called."""
        calls = self._call_at <= now
        if calls:
            self._call_at = math.inf
        for place in self._places.values():
            asks = bool(place.asks_at) and place.asks_at[0] <= now
            answers = calls or place.answer_at <= now
            if not (asks or answers or place.seldom_at <= now):
                continue
            data = self._payload(place.name, asks, asks or answers)
            if asks:
                place.asks_at.pop(0)
            if asks or answers:
                place.answer_at, place.answered = math.inf, now
            place.seldom_at = now + random.uniform(0.8, 1.2) * SELDOM  # noqa: S311
            if asks:
                self._asking(place.name, place.index)
            for each in place.sockets if data else ():
                # One version of IP without an address there, or a cable that is just being pulled.
                with contextlib.suppress(OSError):
                    each.send(data or b"")
        return calls

    def send(self, uplink: str, data: bytes) -> None:
        """Send what somebody is waiting for at once."""
        place = self._places.get(uplink)
        for each in place.sockets if place else ():
            with contextlib.suppress(OSError):
                each.send(data)

    def heard(self, lan: Lan) -> list[Announcement]:
        """Return what waits at a socket; nothing where its uplink is going."""
        try:
            return lan.receive()
        except OSError:
            return []


def _opened(each: Attachment, now: float) -> _Place:
    place = _Place(
        name=each.name,
        index=each.index,
        addresses=frozenset(each.addresses),
        asks_at=[now + after for after in ARRIVING],
        seldom_at=now + SELDOM,
    )
    for version in sorted({address.version for address in each.addresses}):
        with contextlib.suppress(OSError):
            place.sockets.append(Lan(each.name, each.index, version))
    return place


def _close(place: _Place) -> None:
    for each in place.sockets:
        each.close()
