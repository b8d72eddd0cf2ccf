"""Who is near: what this machine calls out on its LANs, and who was heard there.

What is heard under the clan's secret is a candidate for where a member may be; the map says who is
one, and a handshake whether it is true.
"""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import announce, seal
from clan.mesh.agent.lans import Lans
from clan.mesh.desire import Sight
from clan.mesh.errors import MeshError
from clan.mesh.exchange import Called

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator

    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.lan import Announcement, Lan
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.slots import Own

MOST_SIGHTS = 4
"""Places at which one machine is held to have been heard on one LAN."""


class Nearby:
    """All LANs of this machine."""

    def __init__(self, known: Knowledge, say: Callable[[str], None]) -> None:
        self._known = known
        self._say = say
        self._lans = Lans(self._payload)
        self._slots: tuple[Own, ...] = ()
        self._wanted: set[bytes] = set()
        self.sights: tuple[Sight, ...] = ()
        """The latest first."""
        self.called: list[Called] = []
        """Who asked for holes towards them, until that is taken."""

    def close(self) -> None:
        """Hear no more."""
        self._lans.close()

    def sockets(self) -> Iterator[tuple[str, Lan]]:
        """Yield what to wait on, each with its uplink's name."""
        return self._lans.sockets()

    def due(self) -> float:
        """Return when `turn` has something to do."""
        return self._lans.due()

    def turn(self, now: float) -> None:
        """Call out where it is due."""
        self._lans.turn(now)

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
        """Call out that a member is wanted."""
        self._wanted.add(identity)
        self._lans.call(now)
        self._lans.turn(now)
        self._wanted.clear()

    def hear(self, uplink: str, lan: Lan, now: float) -> bool:
        """Take in what waits at a socket; say whether somebody may be found elsewhere now."""
        return bool([True for each in self._lans.heard(lan) if self._take(uplink, each, now)])

    def _payload(self, uplink: str, asks: bool, whole: bool) -> bytes | None:
        """Return what this machine calls out on an uplink's LAN."""
        secrets = self._known.content.secrets
        mine, top = self._known.own_record, self._known.held.top
        if not secrets or mine is None or top is None:
            return None
        own = (e for e in self._slots if e.slot.uplink == uplink and e.slot.kind == "lan")
        call = announce.Call(
            identity=self._known.key.public,
            at=next((each.id for each in own), ""),
            serial=mine.serial,
            record=mine.raw if whole else b"",
            map=top.order,
            asks=asks,
            calls=tuple(sorted(self._wanted))[: announce.MOST_CALLED],
        )
        return seal.announce(secrets[0].key, announce.write(call))

    def _take(self, uplink: str, announcement: Announcement, now: float) -> bool:
        opened = seal.recognise(self._known.content.secrets, announcement.data, time.time())
        if opened is None or not opened.is_current or not opened.payload:
            return False
        try:
            call = announce.read(opened.payload)
            who = self._known.machine(call.identity)
            if call.identity == self._known.key.public or who is None:
                return False
            newer = bool(call.record) and self._known.take(call.identity, call.record)
        except MeshError as fault:
            self._say(f"a call from {announcement.source}: {fault}")
            return False
        held = self._known.records.get(call.identity)
        if call.asks:
            self._lans.answer(uplink, now)
        elif held is None or held.serial < call.serial:
            self._lans.ask(now)
        if self._known.key.public in call.calls:
            self.called.append(Called(peer=who.name, at=now))
        sight = Sight(
            identity=call.identity,
            uplink=uplink,
            interface=call.at,
            address=announcement.source,
            at=now,
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
