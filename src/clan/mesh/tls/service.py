"""The process: it keeps streams, passes datagrams on, and is there for nothing else.

    WireGuard ── loopback ── stream ── relay ── stream ── loopback ── WireGuard

It is a unit of its own and needs no agent: one that hangs or is killed ends no stream. It reads the
map itself, and whoever is removed is cut off at once. One thread, which waits for the kernel alone.
"""

from __future__ import annotations

import contextlib
import errno
import selectors
import socket
import time
from functools import partial
from typing import TYPE_CHECKING, Any

from clan.mesh import identity
from clan.mesh.agent.status import Status
from clan.mesh.errors import MeshError
from clan.mesh.tls import certificate, greeting, wants
from clan.mesh.tls.calls import Call
from clan.mesh.tls.frames import Port
from clan.mesh.tls.members import Members
from clan.mesh.tls.opening import Opening, Secure, answers, listening
from clan.mesh.tls.passing import Passing
from clan.mesh.tls.report import report
from clan.mesh.tls.stream import Stream
from clan.mesh.tls.transport import scratch
from clan.mesh.tls.wants import Wants
from clan.mesh.tls.watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable

    from clan.mesh.agent.setting import Setting
    from clan.mesh.tls.opening import Script
    from clan.mesh.tls.transport import Transport
    from clan.mesh.tls.wants import Listen

TICK = 0.25
"""Seconds between looks at what is due."""
AGAIN = 5.0
"""Seconds until a place that could not be had is tried again."""
STRANGERS = 64
"""Connections that are not greeted yet; of more, the oldest goes."""
_MAPS = ("map", "map.before")

_READ, _WRITE = selectors.EVENT_READ, selectors.EVENT_WRITE


class Service:
    """The process of one instance; `say` writes a line for people. Raises MeshError, OSError."""

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self._setting, self._say = setting, say
        self._key = identity.read(setting.identity)
        setting.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._members = Members(setting)
        self._certificate = certificate.born(setting.state)
        self._context = self._certificate.context()
        self._wants = Wants()
        self._poll = selectors.DefaultSelector()
        self._scratch = scratch()
        self._doors: dict[Listen, socket.socket] = {}
        self._strangers: list[Opening] = []
        self._passing = Passing(self._key.public, self._members.may_talk, self._poll, self._note)
        self._calls = self._passing.calls
        self._streams = self._passing.streams
        self._faults: dict[object, str] = {}
        self._tick_at = self._again_at = 0.0
        self._watch = Watch(setting.state)
        self._status = Status(setting.streams)
        self._woken, self._wake = socket.socketpair()
        self._woken.setblocking(False)
        self._poll.register(self._watch, _READ, self._changed)
        self._poll.register(self._status, _READ, lambda _: self._status.turn(self._answer))
        self._poll.register(self._woken, _READ, lambda _: self._woken.recv(64) and None)

    def close(self) -> None:
        """End all streams."""
        for stream in list(self._streams):
            self._end(stream, "this process ends")
        for door in self._doors.values():
            door.close()
        self._passing.close()
        for opening in [*self._strangers, *(c.opening for c in self._calls if c.opening)]:
            opening.transport.close()
        self._watch.close()
        self._status.close()
        self._woken.close()
        self._wake.close()
        self._poll.close()

    def start(self) -> None:
        """Take up what is wanted."""
        self._take_wants()

    def turn(self) -> None:
        """Wait for something to happen, and do what follows."""
        left = max(0.0, self._tick_at - time.monotonic())
        for key, events in self._poll.select(left):
            key.data(events)
        now = time.monotonic()
        if now >= self._tick_at:
            self._tick(now)
        while self._passing.dirty:
            stream = self._passing.dirty.pop()
            if stream in self._streams:
                self._pump(stream, now)

    # What is wanted, and who is in the clan.

    def _changed(self, _: int) -> None:
        names = self._watch.names()
        if not names.isdisjoint({"", *_MAPS}):
            self._take_map()
        if not names.isdisjoint({"", wants.FILE}):
            self._take_wants()

    def _take_map(self) -> None:
        try:
            self._members.reload()
        except (MeshError, OSError) as fault:
            self._note("map", str(fault))
            return
        self._note("map", "")
        for stream in list(self._streams):
            if stream.port.identity not in self._members:
                self._end(stream, "the map does not list it any more", at_once=True)
        self._passing.map_changed()
        self._settle()

    def _take_wants(self) -> None:
        path = self._setting.state / wants.FILE
        try:
            self._wants = wants.read(path.read_bytes().strip(), str(path))
        except FileNotFoundError:
            self._wants = Wants()
        except (MeshError, OSError) as fault:
            self._note("wants", str(fault))
            return
        self._note("wants", "")
        self._settle()

    def _settle(self) -> None:
        """Have what is wanted, and nothing else."""
        self._settle_places()
        self._settle_calls()
        self._tick_at = 0.0

    def _settle_places(self) -> None:
        """Have what needs a place that somebody else may have, or that is not there yet."""
        self._settle_doors()
        self._passing.settle(self._wants.slots, serves=bool(self._doors))
        self._again_at = time.monotonic() + AGAIN

    def _settle_doors(self) -> None:
        for listen in [each for each in self._doors if each not in self._wants.listen]:
            door = self._doors.pop(listen)
            self._poll.unregister(door)
            door.close()
        for listen in self._wants.listen:
            if listen not in self._doors:
                try:
                    door = listening(listen)
                except OSError as fault:
                    self._note(listen, f"{listen.place.host} port {listen.place.port}: {fault}")
                    continue
                self._note(listen, "")
                self._doors[listen] = door
                self._poll.register(door, _READ, partial(self._meet, listen))
        if not self._wants.listen:
            for stream in [each for each, call in self._streams.items() if call is None]:
                self._end(stream, "this machine is no relay any more")

    def _settle_calls(self) -> None:
        proxy = self._wants.proxy
        wanted = [
            (slot, relay)
            for relay in self._wants.relays
            for slot in self._wants.slots
            if relay.identity in self._members and relay.identity != self._key.public
        ]
        before = list(self._calls)
        self._calls.clear()
        for slot, relay in wanted:
            call = next((each for each in before if each.is_for(slot, relay, proxy)), None)
            if call is None:
                call = Call(slot, relay, proxy)
            else:
                before.remove(call)
                # Something changed: the next try need not wait.
                call.next_at = 0.0
            self._calls.append(call)
        for call in before:
            if call.opening is not None:
                self._close(call.opening.transport)
            if call.stream is not None:
                self._end(call.stream, "it is not wanted any more")

    # Time.

    def _tick(self, now: float) -> None:
        self._tick_at = now + TICK
        if self._faults and now >= self._again_at:
            self._settle_places()
        for opening in [each for each in self._strangers if now >= each.deadline]:
            self._drop_stranger(opening)
        for stream in list(self._streams):
            try:
                stream.look(now)
            except (MeshError, OSError) as fault:
                self._end(stream, str(fault))
            else:
                self._passing.dirty.add(stream)
        for call in self._calls:
            if call.opening is not None and now >= call.opening.deadline:
                self._failed(call, TimeoutError("it does not answer in time"))
            try:
                if call.begin(self._key, self._scratch, now, self._wake.fileno()) and call.opening:
                    sock = call.opening.transport.socket
                    self._poll.register(sock, _WRITE, partial(self._calling, call))
            except (MeshError, OSError) as fault:
                self._failed(call, fault)

    # Connections that are no streams yet.

    def _meet(self, listen: Listen, _: int) -> None:
        """Let in who calls."""
        door = self._doors.get(listen)
        if door is None:
            return
        try:
            came = door.accept()[0]
        except OSError as fault:
            if fault.errno in {errno.EMFILE, errno.ENFILE} and self._strangers:
                self._drop_stranger(self._strangers[0])
            return
        came.setblocking(False)
        if len(self._strangers) >= STRANGERS:
            self._drop_stranger(self._strangers[0])
        secure = None if listen.web else Secure(self._context, "", answers=True)

        def script(transport: Transport, buffer: bytearray) -> Script:
            return answers(
                transport,
                buffer,
                key=self._key,
                secure=secure,
                binding=self._certificate.hash if secure else greeting.UNBOUND,
                is_member=self._members.__contains__,
            )

        opening = Opening(came, self._scratch, script, time.monotonic(), called=False)
        self._strangers.append(opening)
        self._poll.register(came, _READ, partial(self._greet, opening))

    def _greet(self, opening: Opening, _: int) -> None:
        if opening not in self._strangers:
            return
        try:
            done = opening.turn()
            if not done:
                self._wait(opening.transport, opening.waits, partial(self._greet, opening))
        except (MeshError, OSError):
            self._drop_stranger(opening)
            return
        if done and opening.port is not None:
            self._strangers.remove(opening)
            self._poll.unregister(opening.transport.socket)
            stream = self._begin(opening, None)
            older = self._passing.join(stream)
            if older is not None:
                self._end(older, "it called again")
            self._carry_on(stream)

    def _drop_stranger(self, opening: Opening) -> None:
        if opening in self._strangers:
            self._strangers.remove(opening)
            self._close(opening.transport)

    def _calling(self, call: Call, _: int) -> None:
        opening = call.opening
        if opening is None:
            return
        try:
            done = opening.turn()
            if not done:
                self._wait(opening.transport, opening.waits, partial(self._calling, call))
        except (MeshError, OSError) as fault:
            self._failed(call, fault)
            return
        if done:
            self._poll.unregister(opening.transport.socket)
            call.opening = None
            call.stream = self._begin(opening, call)
            self._note(call, "")
            self._say(f"{self._title(call.stream)}: there is a stream")
            self._carry_on(call.stream)

    def _failed(self, call: Call, fault: Exception) -> None:
        if call.opening is not None:
            self._close(call.opening.transport)
        call.failed(str(fault), time.monotonic())
        name = self._members.name(call.relay.identity)
        self._note(call, f"{name}, for {call.slot.id}: {fault}")

    # Streams.

    def _begin(self, opening: Opening, call: Call | None) -> Stream:
        port = opening.port or Port(b"", "")
        stream = Stream(opening.transport, port, time.monotonic())
        self._streams[stream] = call
        self._poll.register(opening.transport.socket, _READ, partial(self._ready, stream))
        return stream

    def _end(self, stream: Stream, why: str, *, at_once: bool = False) -> None:
        if stream not in self._streams:
            return
        call = self._streams[stream]
        self._say(f"{self._title(stream)}: {why}")
        self._close(stream.transport, at_once=at_once)
        self._passing.leave(stream)
        if call is not None and call.stream is stream:
            call.failed(why, time.monotonic())

    def _ready(self, stream: Stream, events: int) -> None:
        if stream not in self._streams:  # it ended in this same turn
            return
        if events & _READ:
            try:
                stream.transport.receive()
            except (MeshError, OSError) as fault:
                self._end(stream, str(fault))
                return
            self._carry_on(stream)
        if events & _WRITE:
            self._passing.dirty.add(stream)

    def _carry_on(self, stream: Stream) -> None:
        """Pass on what a stream has received."""
        try:
            self._passing.carry(stream)
        except (MeshError, OSError) as fault:
            self._end(stream, str(fault))

    def _pump(self, stream: Stream, now: float) -> None:
        try:
            waits = stream.pump(now)
        except (MeshError, OSError) as fault:
            self._end(stream, str(fault))
        else:
            self._wait(stream.transport, waits, None)

    # What is common to all.

    def _wait(self, transport: Transport, writes: bool, then: Callable[[int], None] | None) -> None:
        """Wait for bytes, and for the kernel to take some if `writes`."""
        key = self._poll.get_key(transport.socket)
        wanted = _READ | (_WRITE if writes else 0)
        if key.events != wanted:
            self._poll.modify(transport.socket, wanted, then or key.data)

    def _close(self, transport: Transport, *, at_once: bool = False) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._poll.unregister(transport.socket)
        transport.close(at_once=at_once)

    def _title(self, stream: Stream) -> str:
        call = self._streams.get(stream)
        name = self._members.name(stream.port.identity)
        return f"{name}, for {call.slot.id}" if call else f"{name}, from {stream.port.id}"

    def _note(self, about: object, fault: str) -> None:
        """Say what is wrong once, until it is something else."""
        if fault and self._faults.get(about) != fault:
            self._say(fault)
        if fault:
            self._faults[about] = fault
        else:
            self._faults.pop(about, None)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        """Answer who asks how it is."""
        del question
        return {
            "certificate": self._certificate.hash.hex(),
            **report(self._calls, self._streams, self._members.name, time.monotonic()),
            "faults": sorted(self._faults.values()),
        }
