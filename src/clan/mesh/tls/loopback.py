"""Where WireGuard finds a peer's interface: a UDP socket on the loopback, with WireGuard behind it.

The kernel lets in what comes from WireGuard's own port, and nothing else. Datagrams come and go in
batches where the kernel has UDP segmentation (udp(7): UDP_SEGMENT, UDP_GRO).
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING

from clan.mesh.tls.frames import HEAD, LARGEST, LEAST, MOST_SEGMENTS, ROOM, Batch

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from clan.mesh.link import Endpoint

_SEGMENT, _GRO = 103, 104
"""UDP_SEGMENT and UDP_GRO of linux/udp.h, which Python does not name."""
_FORCED = 33
"""SO_RCVBUFFORCE of asm-generic/socket.h: more than others may have."""
_SIZE = struct.Struct("=i")
_OPTION = struct.Struct("=H")
_ROUND = 16
"""Batches that are read before other things have their turn."""
_ROOM = 1 << 20
"""Bytes that wait in the kernel for this process to have its turn."""


class Loopback:
    """One such socket. Raises OSError if its place is taken, or there is no loopback."""

    def __init__(self, place: Endpoint, wireguard: int) -> None:
        self.wireguard = wireguard
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            with contextlib.suppress(PermissionError):
                self.socket.setsockopt(socket.SOL_SOCKET, _FORCED, _ROOM)
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_UDP, _GRO, 1)
            self.socket.bind((place.host, place.port))
            self.socket.connect(("127.0.0.1", wireguard))
        except OSError:
            self.socket.close()
            raise

    def close(self) -> None:
        """Take no more."""
        self.socket.close()

    def read(self, now: float, scratch: bytearray) -> list[Batch]:
        """Return what WireGuard sent; `scratch` has room for the largest frame."""
        found = []
        with contextlib.suppress(BlockingIOError):
            for _ in range(_ROUND):
                batch = self._read_one(scratch, now)
                if batch is not None:
                    found.append(batch)
        return found

    def _read_one(self, scratch: bytearray, now: float) -> Batch | None:
        try:
            size, extra, _, _ = self.socket.recvmsg_into([memoryview(scratch)[HEAD:LARGEST]], 64)
        except ConnectionRefusedError:
            return None  # WireGuard is not there just now
        segment = size
        for level, kind, data in extra:
            if (level, kind) == (socket.SOL_UDP, _GRO):
                (segment,) = _SIZE.unpack(data)
        if size < LEAST or not LEAST <= segment <= ROOM:
            return None
        # The kernel makes no longer batches, nor any of which the last datagram is not one.
        if size > segment * MOST_SEGMENTS or 0 < size % segment < LEAST:
            size -= size % segment
            size = min(size, segment * MOST_SEGMENTS)
        # A buffer of its size: none is filled with zeros first.
        return Batch(scratch[: HEAD + size], HEAD, HEAD + size, segment, at=now)

    def send(self, batches: Iterable[Batch]) -> None:
        """Hand datagrams to WireGuard; what it does not take is as good as lost."""
        for segment, parts in _joined(batches):
            try:
                self._send(parts, segment)
            except OSError as fault:
                if fault.errno in {errno.EIO, errno.EINVAL, errno.EMSGSIZE}:
                    self._send_singly(parts, segment)

    def _send(self, parts: list[memoryview], segment: int) -> None:
        one = len(parts) == 1 and len(parts[0]) <= segment
        extra = [] if one else [(socket.SOL_UDP, _SEGMENT, _OPTION.pack(segment))]
        with contextlib.suppress(BlockingIOError, ConnectionRefusedError):
            self.socket.sendmsg(parts, extra)

    def _send_singly(self, parts: list[memoryview], segment: int) -> None:
        """Where the kernel does not segment, or not so."""
        with contextlib.suppress(OSError):
            for part in parts:
                for begin in range(0, len(part), segment):
                    self.socket.send(part[begin : begin + segment])


def _joined(batches: Iterable[Batch]) -> Iterator[tuple[int, list[memoryview]]]:
    """Join batches that follow each other and have datagrams of one size."""
    parts: list[memoryview] = []
    segment = size = 0
    for batch in batches:
        more = len(batch)
        whole = size % segment == 0 if parts else False
        fits = size + more <= min(ROOM, segment * MOST_SEGMENTS)
        if parts and not (whole and fits and batch.segment == segment):
            yield segment, parts
            parts, size = [], 0
        if not parts:
            segment = batch.segment
        parts.append(batch.data)
        size += more
    if parts:
        yield segment, parts
