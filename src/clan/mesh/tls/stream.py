"""A stream whose ends know each other: datagrams out through a backlog, frames in, signs of life.

Who answers within what time is measured by any byte that comes. A stream that carries something
and hears nothing asks after half a second; without an answer it is suspect, and others are used
where there are any; in the end it is given up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.tls import frames
from clan.mesh.tls.backlog import Backlog
from clan.mesh.tls.frames import Batch, Kind, Port, Reader

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clan.mesh.tls.transport import Transport

IDLE = 45.0
"""Seconds of silence after which the other end is asked whether it is there: web servers close
what was silent for a minute."""
BUSY = 0.5
"""The same while something is sent."""
SUSPECT = 1.0
"""Seconds without an answer after which other ways are taken."""
DEAD = 10.0
"""Seconds without an answer after which a stream is given up."""
FRAME = 0.005
"""Seconds that a long frame takes at most, at the rate of the last moments: who passes it on waits
for its end."""
MOST_THERE = 65536
"""Ports that a relay may have."""
_AT_ONCE = 64 << 10
"""Bytes that are sealed before they are handed to the kernel."""
_MOST_SAID = 1 << 20
"""Bytes that the relay itself has to say and the other end does not take."""


class Stream:
    """One of them. `port` is the other end's; a relay's has no id."""

    def __init__(self, transport: Transport, port: Port, now: float) -> None:
        self.transport = transport
        self.port = port
        self.number = 0
        self.there: dict[int, Port] = {}
        """What the relay at the other end passes on to, by number."""
        self.numbers: dict[Port, int] = {}
        """The same, by port."""
        self.received = self.sent = 0
        self.since = now
        self._reader = Reader()
        self._backlog = Backlog()
        self._said: list[bytes] = []
        self._heard = now
        self._asked: float | None = None
        self._pushed = 0.0
        self._looked, self._sent_then = now, 0
        self._longest = frames.RECORD

    @property
    def dropped(self) -> int:
        """Bytes that waited for too long."""
        return self._backlog.dropped

    def suspect(self, now: float) -> bool:
        """Whether it was asked for a sign of life a while ago and gave none."""
        return self._asked is not None and now - self._asked > SUSPECT

    def read(self, now: float) -> Iterator[Batch]:
        """Yield the datagrams that the transport has received. Raises MeshError."""
        while size := self.transport.read(self._reader.room):
            self._heard, self._asked = now, None
            self.received += size
            for batch in self._reader.took(size):
                if batch.number == frames.RELAY:
                    self._told(batch)
                else:
                    batch.at = now
                    yield batch

    def push(self, batch: Batch, now: float) -> None:
        """Give it datagrams to send."""
        self._pushed = now
        self._backlog.put(batch)

    def say(self, said: Iterable[bytes]) -> None:
        """Give it frames of its own to send."""
        self._said += said

    def pump(self, now: float) -> bool:
        """Send what there is; say whether something is left for when the kernel takes more.

        Raises MeshError if the other end takes nothing, OSError.
        """
        if sum(map(len, self._said)) > _MOST_SAID:
            raise MeshError("it does not take what it is told")
        transport = self.transport
        while transport.flush():
            size = 0
            while self._said:
                size += len(self._said[0])
                transport.write(self._said.pop(0))
            while size < _AT_ONCE:
                frame = self._backlog.take(now, self._longest)
                if frame is None:
                    break
                transport.write(frame)
                size += len(frame)
            if not size:
                return False
            self.sent += size
        return True

    def look(self, now: float) -> None:
        """Ask for a sign of life if it is time. Raises MeshError if none comes, OSError."""
        if now > self._looked:
            rate = (self.sent - self._sent_then) / (now - self._looked)
            self.transport.carries(rate)
            self._longest = min(max(int(rate * FRAME), frames.RECORD), frames.ROOM)
            self._looked, self._sent_then = now, self.sent
        if self._asked is not None:
            if now - self._asked > DEAD:
                raise MeshError(f"it has been silent for {now - self._heard:.0f} s")
            return
        busy = now - self._pushed < BUSY
        if now - self._heard > (BUSY if busy else IDLE):
            self._asked = now
            self.say([frames.said(Kind.PING, b"")])

    def _told(self, batch: Batch) -> None:
        """Take in what the other end says of itself."""
        if batch.segment == Kind.PING:
            self.say([frames.said(Kind.PONG, b"")])
        elif batch.segment == Kind.HERE:
            for number, port in frames.read_here(batch.data):
                self.there[number] = port
                self.numbers[port] = number
            if len(self.there) > MOST_THERE:
                raise MeshError(f"a relay with more than {MOST_THERE} ports")
        elif batch.segment == Kind.GONE:
            for number in frames.read_gone(batch.data):
                if number in self.there:
                    port = self.there.pop(number)
                    if self.numbers.get(port) == number:
                        del self.numbers[port]
