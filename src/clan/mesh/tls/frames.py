"""What goes through a stream once both ends are known: frames, each with datagrams of one pair.

    number   4 bytes   which port of the relay: to whom, or from there from whom; 0 is the relay
    length   2 bytes   of what follows the head
    segment  2 bytes   the length of each datagram in it but the last, which may be shorter;
                       in the relay's own frames, what kind it is
    data     `length` bytes

All numbers are big-endian. Datagrams of one size come and go in batches, as the kernel's UDP
segmentation has them: on a fast line a frame is such a batch, and a relay looks at eight bytes for
as many as 64 datagrams. It passes on whole frames, so on a slow line they are shorter.
"""

from __future__ import annotations

import enum
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

HEAD = 8
ROOM = 65507
"""Bytes of data in a frame: as many as in a UDP packet over IPv4."""
LARGEST = HEAD + ROOM
"""Bytes of a frame with its head."""
RECORD = 16384
"""Bytes of a record of TLS (RFC 8446, section 5.1)."""
LEAST = 32
"""Bytes of WireGuard's shortest message; what is shorter opens holes and goes no further."""
MOST_SEGMENTS = 64
"""Datagrams in a batch: as many as any kernel takes (UDP_MAX_SEGMENTS)."""
SHORT = 4096
"""Bytes of a batch that others are joined to: each frame costs as much as copying more."""
RELAY = 0
"""The number of the relay itself."""

_HEAD = struct.Struct("!IHH")
_HERE = struct.Struct("!I32s4s")
_NUMBER = struct.Struct("!I")


class Kind(enum.IntEnum):
    """What the two ends of a stream say to each other."""

    PING = 1
    """Answer with the same data."""
    PONG = 2
    HERE = 3
    """These ports can be sent to: the number, the machine's identity, its interface's id."""
    GONE = 4
    """These no longer: their numbers."""


class Batch:
    """Datagrams of one pair in a buffer, from `start` to `end`.

    No datagram is longer than ROOM. The eight bytes before `start` are free for a head. `at` is
    when they came, in seconds of the monotonic clock.
    """

    __slots__ = ("at", "buffer", "end", "number", "segment", "start")

    def __init__(
        self,
        buffer: bytearray,
        start: int,
        end: int,
        segment: int,
        *,
        number: int = 0,
        at: float = 0,
    ) -> None:
        self.buffer, self.start, self.end = buffer, start, end
        self.segment, self.number, self.at = segment, number, at

    def __len__(self) -> int:
        return self.end - self.start

    @property
    def data(self) -> memoryview:
        """The datagrams, one after the other."""
        return memoryview(self.buffer)[self.start : self.end]

    def join(self, other: Batch) -> bool:
        """Take in datagrams that came at the same time for the same port, if both are few.

        Says whether it did. No view of this batch may be there still.
        """
        size = len(self) + len(other)
        segment = self.segment
        if (
            size > SHORT
            or (self.number, segment, self.at) != (other.number, other.segment, other.at)
            or len(self) % segment
            or size > segment * MOST_SEGMENTS
        ):
            return False
        self.buffer[self.end :] = other.data
        self.end += len(other)
        return True

    def piece(self, longest: int = ROOM) -> memoryview:
        """Cut off datagrams for one frame, of `longest` bytes if one alone is not longer.

        Returns the frame. Its head is written over what is before it: send or copy it before you
        ask for the next.
        """
        size = min(len(self), max(1, longest // self.segment) * self.segment)
        start = self.start
        # The last one alone may be shorter than the others.
        segment = min(self.segment, size)
        _HEAD.pack_into(self.buffer, start - HEAD, self.number, size, segment)
        self.start += size
        return memoryview(self.buffer)[start - HEAD : start + size]

    def drop_one(self) -> None:
        """Leave out the first datagram."""
        self.start = min(self.start + self.segment, self.end)


@dataclass(frozen=True, slots=True)
class Port:
    """Whom a number stands for: a machine's interface."""

    identity: bytes
    id: str
    """Eight hexadecimal digits."""


def here(ports: Iterable[tuple[int, Port]]) -> Iterator[bytes]:
    """Yield the frames that say that these ports can be sent to."""
    entries = [_HERE.pack(number, each.identity, bytes.fromhex(each.id)) for number, each in ports]
    return _said(Kind.HERE, entries, _HERE.size)


def gone(numbers: Iterable[int]) -> Iterator[bytes]:
    """Yield the frames that say that these ports cannot be sent to any more."""
    return _said(Kind.GONE, [_NUMBER.pack(number) for number in numbers], _NUMBER.size)


def said(kind: Kind, data: bytes) -> bytes:
    """Return a frame of the relay's own. Raises struct.error for more than a frame holds."""
    return _HEAD.pack(RELAY, len(data), kind) + data


def _said(kind: Kind, entries: list[bytes], size: int) -> Iterator[bytes]:
    most = ROOM // size
    for begin in range(0, len(entries), most):
        yield said(kind, b"".join(entries[begin : begin + most]))


def read_here(data: memoryview) -> list[tuple[int, Port]]:
    """Read what `here` said. Raises MeshError."""
    if len(data) % _HERE.size:
        raise MeshError("a relay's list of ports is cut off")
    return [
        (number, Port(identity, id_.hex())) for number, identity, id_ in _HERE.iter_unpack(data)
    ]


def read_gone(data: memoryview) -> list[int]:
    """Read what `gone` said. Raises MeshError."""
    if len(data) % _NUMBER.size:
        raise MeshError("a relay's list of numbers is cut off")
    return [number for (number,) in _NUMBER.iter_unpack(data)]


class Reader:
    """Cuts what comes into frames, however the bytes are split up.

    They are written to `room`, which never is empty, and then `took` is told how many.
    """

    def __init__(self) -> None:
        self._buffer = bytearray(LARGEST)
        self._view = memoryview(self._buffer)
        self._filled = 0

    @property
    def room(self) -> memoryview:
        """Where the next bytes belong."""
        return self._view[self._filled :]

    def took(self, size: int) -> list[Batch]:
        """Return the frames that are whole with so many bytes more.

        Raises MeshError for what no frame can be; nothing can be read after that.
        """
        found = []
        begin, filled = 0, self._filled + size
        while filled - begin >= HEAD:
            number, length, segment = _HEAD.unpack_from(self._buffer, begin)
            end = begin + HEAD + length
            if length <= ROOM and end > filled:
                break
            # A buffer of its size: none is filled with zeros first.
            frame = self._buffer[begin:end]
            found.append(_checked(Batch(frame, HEAD, HEAD + length, segment, number=number)))
            begin = end
        if begin:
            self._view[: filled - begin] = self._view[begin:filled]
        self._filled = filled - begin
        return found


def _checked(batch: Batch) -> Batch:
    size, segment = len(batch), batch.segment
    if size > ROOM:
        raise MeshError(f"a frame of {size} bytes is longer than any")
    if batch.number == RELAY:
        return batch
    if not LEAST <= segment <= size or size > segment * MOST_SEGMENTS:
        raise MeshError(f"a frame of {size} bytes has no datagrams of {segment}")
    return batch
