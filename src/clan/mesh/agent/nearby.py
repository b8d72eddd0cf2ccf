"""Who is near: what this machine calls out on its LANs, and who was heard there.

What is heard under the clan's secret is a candidate for where a member may be; the map says who is
one, and a handshake whether it is true.
"""

from __future__ import annotations

import select
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import announce, seal
from clan.mesh.agent.fetch import Fetch
from clan.mesh.agent.lans import Lans
from clan.mesh.candidates import Sight
from clan.mesh.errors import MeshError
from clan.mesh.exchange import Called

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Container, Iterable, Iterator
    from ipaddress import IPv4Address, IPv6Address

    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.lan import Announcement
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.slots import Own

TOGETHER = 0.03
"""Seconds in which those who are wanted are called together."""
MOST_SIGHTS = 4
"""Places at which one machine is held to have been heard on one LAN."""


class Nearby:
    """All LANs of this machine."""

    def __init__(self, known: Knowledge, say: Callable[[str], None]) -> None:
        self._known = known
        self._say = say
        self._lans = Lans(self._payload, self._ask_for_map)
        self._fetch = Fetch(known, self._lans.send, say)
        self._slots: tuple[Own, ...] = ()
        self._wanted: set[bytes] = set()
        self.sights: tuple[Sight, ...] = ()
        """The latest first."""
        self.called: list[Called] = []
        """Who asked for holes towards them, until that is taken."""

    def close(self) -> None:
        """Hear no more."""
        self._lans.close()
        self._fetch.close()

    def sockets(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, each with the events to wait for."""
        for _, _, each in self._lans.sockets():
            yield each.fileno(), select.POLLIN
        yield from self._fetch.sockets()

    def due(self) -> float:
        """Return when there is something to do."""
        return min(self._lans.due(), self._fetch.due())

    def turn(self, now: float) -> None:
        """Call out where it is due."""
        if self._lans.turn(now):
            self._wanted -= set(self._calls())
            if self._wanted:
                self._lans.call(now + TOGETHER)

    def _calls(self) -> tuple[bytes, ...]:
        """Return who is called now: as many as there is room for."""
        return tuple(sorted(self._wanted))[: announce.MOST_CALLED]

    def settle(
        self,
        attachments: Iterable[Attachment],
        slots: tuple[Own, ...],
        moved: Collection[str],
        now: float,
    ) -> None:
        """Be on the LANs of these uplinks; forget who was heard where this machine is no more."""
        self.sights = tuple(each for each in self.sights if each.uplink not in moved)
        self._slots = slots
        self._lans.settle(attachments, now)

    def remember(self, sights: Iterable[Sight]) -> None:
        """Take up who was near when an earlier process saw them."""
        for each in sights:
            self._see(each)

    def ask(self, now: float) -> None:
        """Call out and ask on all LANs, now and again: something about this machine is new."""
        self._lans.ask(now)

    def call(self, identity: bytes, now: float) -> None:
        """Call out soon that a member is wanted; with others that are, as all hear each call."""
        self._wanted.add(identity)
        self._lans.call(now + TOGETHER)

    def hear(self, ready: Container[int], now: float) -> bool:
        """Take in what waits; say whether somebody may be found elsewhere now."""
        changed = False
        for uplink, index, lan in list(self._lans.sockets()):
            for each in self._lans.heard(lan) if lan.fileno() in ready else ():
                changed = self._take(uplink, index, each, now) or changed
        self._fetch.turn(ready, now)
        return changed

    def _ask_for_map(self, uplink: str, index: int) -> None:
        self._fetch.ask(uplink, index, time.monotonic())

    def _payload(self, uplink: str, asks: bool, whole: bool) -> bytes | None:
        """Return what this machine calls out on an uplink's LAN."""
        secrets = self._known.content.secrets
        mine, top = self._known.own_record, self._known.held.top
        if not secrets or mine is None or top is None:
            return None
        own = (
            each
            for each in self._slots
            if each.slot.uplink == uplink and each.slot.kind == "lan" and not each.leaving
        )
        call = announce.Call(
            identity=self._known.key.public,
            at=next((each.id for each in own), ""),
            serial=mine.serial,
            record=mine.raw if whole else b"",
            map=top.order,
            asks=asks,
            calls=self._calls(),
        )
        return seal.announce(secrets[0].key, announce.write(call))

    def _take(self, uplink: str, index: int, heard: Announcement, now: float) -> bool:
        opened = seal.recognise(self._known.content.secrets, heard.data, time.time())
        if opened is None:
            return False
        try:
            if opened.request:
                self._fetch.asked(uplink, index, heard.source, opened.request, now)
                return False
            return opened.is_current and self._called(
                announce.read(opened.payload), uplink, index, heard.source, now
            )
        except MeshError as fault:
            self._say(f"a call from {heard.source}: {fault}")
            return False

    def _called(
        self,
        call: announce.Call,
        uplink: str,
        index: int,
        source: IPv4Address | IPv6Address,
        now: float,
    ) -> bool:
        who, top = self._known.machine(call.identity), self._known.held.top
        if call.identity == self._known.key.public or who is None or top is None:
            return False
        newer = bool(call.record) and self._known.take(call.identity, call.record)
        held = self._known.records.get(call.identity)
        if call.asks:
            self._lans.answer(uplink, now)
        elif held is None or held.serial < call.serial:
            self._lans.ask(now)
        if call.map > top.order:
            self._fetch.ask(uplink, index, now)
        else:
            self._fetch.satisfied(call.identity, call.map)
        if self._known.key.public in call.calls:
            self.called.append(Called(peer=who.name, at=now))
        sight = Sight(
            identity=call.identity, uplink=uplink, interface=call.at, address=source, at=now
        )
        return self._see(sight) or newer

    def _see(self, sight: Sight) -> bool:
        """Note where somebody was heard; say whether that is new."""
        same = [
            each
            for each in self.sights
            if (each.identity, each.uplink) == (sight.identity, sight.uplink)
        ]
        before = [replace(each, at=sight.at) for each in same]
        others = tuple(each for each in self.sights if each not in same)
        known = [each for each, as_now in zip(same, before, strict=True) if as_now != sight]
        self.sights = (sight, *known[: MOST_SIGHTS - 1], *others)
        return sight not in before
