"""The agent's ends of the lines to the processes beside it, which look for ways in from outside.

What they find is a candidate: where a router says that it leads to an interface. It counts for as
long as they say, only while the interface is where it was, and never for more than one place each.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
import socket
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh.agent.beacon import Beacon
from clan.mesh.agent.knocks import Knocks
from clan.mesh.agent.stream import Stream
from clan.mesh.errors import MeshError
from clan.mesh.link import Endpoint, Kind
from clan.mesh.outside import seam
from clan.mesh.outside.address import is_outside
from clan.mesh.outside.seam import Door
from clan.mesh.relay.pick import FEW
from clan.mesh.relay.ports import PORTS

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from pathlib import Path

    from clan.mesh.agent.here import Here
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.signal import Place
    from clan.mesh.slots import Own

MOST_LINES = 4
"""Processes that are listened to; a new one takes the place of the oldest."""


class Outside:
    """This machine's. Raises OSError where the socket at `path` cannot be made."""

    def __init__(
        self, path: Path, known: Knowledge, here: Here, say: Callable[[str], None]
    ) -> None:
        self._path = path
        self._here = here
        self.beacon = Beacon(known, say)
        self._knocks = Knocks()
        self._say = say
        self._lines: list[_Line] = []
        self._open: dict[Door, tuple[Endpoint, float]] = {}
        self._of: object = None
        self._doors: tuple[Door, ...] = ()
        self._line_of_doors = b""
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o077)
        try:
            self._listener.bind(str(path))
        finally:
            os.umask(before)
        self._listener.listen(MOST_LINES)

    def close(self) -> None:
        """Hang up."""
        for each in self._lines:
            each.stream.close()
        self._knocks.close()
        self._listener.close()
        self._path.unlink(missing_ok=True)

    def sockets(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, each with the events to wait for."""
        yield self._listener.fileno(), 1
        yield from self._knocks.sockets()
        for each in self._lines:
            yield each.stream.fileno(), each.stream.events

    @property
    def mapped(self) -> Mapping[str, Endpoint]:
        """Where routers say that they lead to this machine's interfaces, by their ids."""
        return {door.id: endpoint for door, (endpoint, _) in self._open.items()}

    @property
    def verified(self) -> frozenset[str]:
        """The interfaces that a member reached there, unasked by any hole, by their ids."""
        return self._knocks.heard

    @property
    def seats(self) -> tuple[Endpoint, ...]:
        """Where routers lead to the first of this machine's seats for relaying.

        Only where they lead to as many as there are to be, in order.
        """
        found = []
        for own in self._here.slots:
            ids = [_seat_id(own, number) for number in range(FEW)]
            there = [self.mapped[each] for each in ids if each in self.mapped]
            first = there[0] if there else None
            if first is not None and there == [
                Endpoint(host=first.host, port=first.port + number) for number in range(FEW)
            ]:
                found.append(first)
        return tuple(found)

    def knocks(self, now: float) -> Iterable[tuple[Endpoint, int]]:
        """Yield the places where somebody outside is to knock now, each with the number to say."""
        return self._knocks.wanted(self._places, now)

    @property
    def _places(self) -> dict[Door, Endpoint]:
        own = {each.id for each in self._here.slots}
        return {door: endpoint for door, (endpoint, _) in self._open.items() if door.id in own}

    def due(self) -> float:
        """Return when something is to be told, or is good no longer."""
        told = self.beacon.due() if self._hears(seam.DHT) else math.inf
        return min([told, self._knocks.due(), *(until for _, until in self._open.values())])

    def turn(self, readable: Container[int], places: Iterable[Place], now: float) -> None:
        """Take in what was found, and tell what is wanted if that has changed.

        `places` are where this machine's interfaces are.
        """
        self._settle()
        self._open = {
            door: found
            for door, found in self._open.items()
            if door in self._doors and now < found[1]
        }
        if self._listener.fileno() in readable:
            with contextlib.suppress(OSError):
                self._lines.append(_Line(self._listener.accept()[0]))
                if len(self._lines) > MOST_LINES:
                    self._lines.pop(0).stream.close()
        wanted = {seam.DOORS: self._line_of_doors}
        if self._hears(seam.DHT):
            wanted[seam.DHT] = self.beacon.search(tuple(places), self._here.attachments, now)
        for each in list(self._lines):
            try:
                for line in each.turn(readable):
                    self._take(each, line, now)
                each.tell(wanted.get(each.name, b""))
            except (OSError, MeshError) as fault:
                self._say(f"a process beside the agent is hung up on: {fault}")
                self._lines.remove(each)
                each.stream.close()

        self._knocks.turn(self._places, readable, now)

    def _settle(self) -> None:
        """Work out which doors are wanted, if this machine is elsewhere or has other interfaces."""
        of = self._here.slots, self._here.attachments, self.verified
        if of != self._of:
            self._of = of
            self._doors = tuple(_doors(*of))
            self._line_of_doors = seam.doors(self._doors)

    def _hears(self, name: str) -> bool:
        return any(each.name == name for each in self._lines)

    def _take(self, line: _Line, said: bytes, now: float) -> None:
        if not line.name:
            line.name = seam.read_who(said)
        elif line.name == seam.DHT:
            self.beacon.take(said)
        elif line.name == seam.DOORS:
            by_id = {each.id: each for each in self._doors}
            self._open = {
                by_id[each.id]: (each.endpoint, now + each.life)
                for each in seam.read_opened(said)
                if each.id in by_id
            }


class _Line:
    """A line. `name` says what is at its far end, once that is known."""

    def __init__(self, connected: socket.socket) -> None:
        self.stream = Stream(connected, math.inf, 2 * seam.LONGEST)
        self.name = ""
        self._told = b""

    def turn(self, readable: Container[int]) -> list[bytes]:
        """Return the lines that came. Raises OSError where the far end is gone."""
        if self.stream.fileno() not in readable:
            return []
        self.stream.turn()
        *lines, self.stream.read = self.stream.read.split(b"\n")
        if self.stream.ended or len(self.stream.read) > seam.LONGEST:
            raise OSError("it is gone, or says too much")
        return lines

    def tell(self, line: bytes) -> None:
        """Tell it what is wanted, if it was told something else last. Raises OSError."""
        if line in {b"", self._told}:
            return
        self._told = line
        self.stream.write(line)
        self.stream.turn()


def _doors(
    slots: tuple[Own, ...], attachments: tuple[Attachment, ...], verified: frozenset[str]
) -> Iterator[Door]:
    """Yield the doors to be had: for interfaces that only a router leads to from outside.

    Where others came in by one, this machine can be a relay: then some of its seats are to have one
    too, unless bytes cost there.
    """
    uplinks = {each.name: each for each in attachments if each.works}
    # The seats are one slot's: of what is leaving and what takes its place one has them.
    by_age = sorted(slots, key=lambda own: not own.leaving)
    seats = {own.slot: own for own in by_age if own.id in verified}
    for own in slots:
        uplink = uplinks.get(own.slot.uplink)
        if uplink is None or own.slot.kind is not Kind.INTERNET or _is_server(uplink):
            continue
        gateways = [
            route.gateway
            for route in uplink.defaults
            if route.gateway is not None and route.gateway.version == own.slot.family
        ]
        for gateway in gateways[:1]:
            nonce = hashlib.sha256(b"clan mesh door 1\0" + own.private).digest()[: seam.NONCE]
            door = Door(
                id=own.id,
                uplink=uplink.name,
                index=uplink.index,
                gateway=gateway,
                port=own.port,
                nonce=nonce,
            )
            yield door
            for number in range(FEW if seats.get(own.slot) is own and not uplink.metered else 0):
                yield replace(door, id=_seat_id(own, number), port=PORTS[number])


def _seat_id(own: Own, number: int) -> str:
    """Return by what a seat's door is known, on an interface's uplink."""
    data = f"clan mesh seat door 1\0{own.id}\0{number}"
    return hashlib.sha256(data.encode()).hexdigest()[:8]


def _is_server(uplink: Attachment) -> bool:
    """Whether an uplink has an IPv4 address of its own outside: its router is a provider's."""
    return any(each.version == 4 and is_outside(each.ip) for each in uplink.addresses)  # noqa: PLR2004
