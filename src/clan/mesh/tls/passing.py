"""Datagrams on their way: between streams, and between streams and this machine's WireGuard.

It neither calls nor answers and ends no stream; it says what is wrong with one to who does.
"""

from __future__ import annotations

import selectors
import time
from functools import partial
from typing import TYPE_CHECKING

from clan.mesh.tls import frames, wants
from clan.mesh.tls.frames import Batch, Port
from clan.mesh.tls.hub import Hub
from clan.mesh.tls.loopback import Loopback
from clan.mesh.tls.stream import Stream

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from clan.mesh.tls.calls import Call
    from clan.mesh.tls.hub import News
    from clan.mesh.tls.wants import Slot

Way = tuple[str, Port]
"""An own slot's id and a peer's port: what a loopback socket is for."""


class Passing:
    """What is passed on. `note` says what is wrong about something, or that it is right again."""

    def __init__(
        self,
        own: bytes,
        may_talk: Callable[[bytes, bytes], bool],
        poll: selectors.BaseSelector,
        note: Callable[[object, str], None],
    ) -> None:
        self.streams: dict[Stream, Call | None] = {}
        """All, with the call that made them; None for those that were answered."""
        self.calls: list[Call] = []
        """The first choice first."""
        self.dirty: set[Stream] = set()
        """Those that have something to send."""
        self._own_identity = own
        self._hub: Hub[Stream | str] = Hub(may_talk)
        self._own: dict[str, int] = {}
        """The numbers of this machine's slots in the hub, while it is a relay."""
        self._loopbacks: dict[Way, Loopback] = {}
        self._scratch = bytearray(frames.LARGEST)
        self._poll, self._note = poll, note

    def close(self) -> None:
        """Close the sockets that WireGuard sends to."""
        for each in self._loopbacks.values():
            each.close()

    def settle(self, slots: Iterable[Slot], *, serves: bool) -> None:
        """Have sockets for these slots; they can be sent to by streams if this is a relay."""
        slots = tuple(slots)
        self._settle_loopbacks({(slot.id, peer): slot for slot in slots for peer in slot.peers})
        ids = {each.id for each in slots} if serves else set()
        for id_ in [each for each in self._own if each not in ids]:
            self._tell(self._hub.leave(self._own.pop(id_)))
        for id_ in sorted(ids - set(self._own)):
            self._own[id_], news = self._hub.join(Port(self._own_identity, id_), id_)
            self._tell(news)

    def map_changed(self) -> None:
        """Tell everybody who can be sent to now."""
        self._tell(self._hub.changed())

    def join(self, stream: Stream) -> Stream | None:
        """Let a stream that was answered send and be sent to; return an older one of its port.

        The newer one counts: the older may hang on a line that is gone.
        """
        older = next(
            (
                end
                for _, port, end in self._hub.ends()
                if port == stream.port and isinstance(end, Stream)
            ),
            None,
        )
        stream.number, news = self._hub.join(stream.port, stream)
        self._tell(news)
        return older

    def leave(self, stream: Stream) -> None:
        """Note that a stream has ended."""
        if self.streams.pop(stream, None) is None:
            self._tell(self._hub.leave(stream.number))

    def carry(self, stream: Stream) -> None:
        """Pass on what a stream has received. Raises MeshError."""
        call = self.streams[stream]
        batches = stream.read(time.monotonic())
        if call is None:
            self._from_member(stream, batches)
        else:
            self._from_relay(stream, call.slot.id, batches)
        self.dirty.add(stream)

    def _from_member(self, stream: Stream, batches: Iterable[Batch]) -> None:
        for_slots: dict[str, list[Batch]] = {}
        for batch in batches:
            to = self._hub.find(stream.number, batch.number)
            if to is None:
                continue
            batch.number = stream.number
            if isinstance(to, Stream):
                to.push(batch, batch.at)
                self.dirty.add(to)
            else:
                for_slots.setdefault(to, []).append(batch)
        for slot, own in for_slots.items():
            self._to_wireguard((slot, stream.port), own)

    def _from_relay(self, stream: Stream, slot: str, batches: Iterable[Batch]) -> None:
        by_number: dict[int, list[Batch]] = {}
        for batch in batches:
            by_number.setdefault(batch.number, []).append(batch)
        for number, theirs in by_number.items():
            port = stream.there.get(number)
            if port is not None:
                self._to_wireguard((slot, port), theirs)

    def _to_wireguard(self, way: Way, batches: list[Batch]) -> None:
        loopback = self._loopbacks.get(way)
        if loopback is not None:
            loopback.send(batches)

    def _from_wireguard(self, way: Way, _: int) -> None:
        loopback = self._loopbacks.get(way)
        now = time.monotonic()
        batches = loopback.read(now, self._scratch) if loopback else []
        found = self._way(way, now) if batches else None
        if found is None:
            return
        stream, number = found
        for batch in batches:
            batch.number = number
            stream.push(batch, now)
        self.dirty.add(stream)

    def _way(self, way: Way, now: float) -> tuple[Stream, int] | None:
        """Return the stream to a peer's interface, and its number there."""
        slot, port = way
        if slot in self._own:
            number = self._hub.number(self._own[slot], port)
            end = self._hub.find(self._own[slot], number) if number is not None else None
            if isinstance(end, Stream):
                return end, self._own[slot]
        second: tuple[Stream, int] | None = None
        for call in self.calls:
            stream = call.stream
            if stream is None or call.slot.id != slot or port not in stream.numbers:
                continue
            found = (stream, stream.numbers[port])
            if not stream.suspect(now):
                return found
            second = second or found
        return second

    def _tell(self, news: Iterable[News[Stream | str]]) -> None:
        for each in news:
            if isinstance(each.end, Stream) and each.end in self.streams:
                each.end.say([*frames.gone(each.gone), *frames.here(each.here)])
                self.dirty.add(each.end)

    def _settle_loopbacks(self, wanted: dict[Way, Slot]) -> None:
        for way, loopback in list(self._loopbacks.items()):
            if way not in wanted or loopback.wireguard != wanted[way].port:
                self._poll.unregister(loopback.socket)
                self._loopbacks.pop(way).close()
        for way, slot in wanted.items():
            if way in self._loopbacks:
                continue
            place = wants.loopback(*way)
            try:
                made = Loopback(place, slot.port)
            except OSError as fault:
                self._note(way, f"{place.host} port {place.port}: {fault}")
                continue
            self._note(way, "")
            self._loopbacks[way] = made
            self._poll.register(
                made.socket, selectors.EVENT_READ, partial(self._from_wireguard, way)
            )
