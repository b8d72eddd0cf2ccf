"""What goes through a stream once both ends are known: frames, each with datagrams of one pair.

    number   4 bytes   which port of the relay: to whom, or from there from whom; 0 is the relay
    length   2 bytes   of what follows the head
    segment  2 bytes   the length of each datagram in it but the last, which may be shorter;
                       in the relay's own frames, what kind it is
    data     `length` bytes

All numbers are big-endian. A frame fits in one record of TLS (RFC 8446, section 5.1), so what was
one write is one read. Datagrams of one size come and go in batches, as the kernel's UDP
segmentation has them: a relay looks at eight bytes for some ten datagrams.
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
LARGEST = 16384
"""Bytes of a frame with its head, and of a record of TLS."""
ROOM = LARGEST - HEAD
LEAST = 32
"""Bytes of WireGuard's shortest message; what is shorter opens holes and goes no further."""
MOST_SEGMENTS = 64
"""Datagrams in a batch: as many as any kernel takes (UDP_MAX_SEGMENTS)."""
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

    def piece(self) -> memoryview:
        """Cut off the datagrams that fit in one frame, and return that frame.

        Its head is written over what is before it: send or copy it before you ask for the next.
        """
        size = min(len(self), ROOM // self.segment * self.segment)
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
    """Cuts what comes into frames, however the bytes are split up."""

    def __init__(self) -> None:
        self._part = bytearray()

    def feed(self, data: bytearray, end: int) -> list[Batch]:
        """Take in the first `end` bytes of a buffer, which is given away, and return whole frames.

        Raises MeshError for what no frame can be; nothing can be read after that.
        """
        # One record, one frame: nothing is copied.
        if not self._part and end >= HEAD:
            number, length, segment = _HEAD.unpack_from(data)
            if HEAD + length == end:
                return [_checked(Batch(data, HEAD, end, segment, number=number))]
        self._part += memoryview(data)[:end]
        return list(self._cut())

    def _cut(self) -> Iterator[Batch]:
        part = self._part
        begin = 0
        while len(part) - begin >= HEAD:
            number, length, segment = _HEAD.unpack_from(part, begin)
            end = begin + HEAD + length
            if length <= ROOM and end > len(part):
                break
            yield _checked(Batch(part[begin:end], HEAD, HEAD + length, segment, number=number))
            begin = end
        del part[:begin]


def _checked(batch: Batch) -> Batch:
    size, segment = len(batch), batch.segment
    if size > ROOM:
        raise MeshError(f"a frame of {size} bytes is longer than any")
    if batch.number == RELAY:
        return batch
    if not LEAST <= segment <= size or size > segment * MOST_SEGMENTS:
        raise MeshError(f"a frame of {size} bytes has no datagrams of {segment}")
    return batch
