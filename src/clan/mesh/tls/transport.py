"""A TCP connection, with TLS inside once it has begun: bytes in, bytes out, never waiting."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct

from clan.mesh.errors import MeshError

LEAST_UNSENT, MOST_UNSENT = 16 << 10, 1 << 20
"""Bytes that the kernel takes before it has sent those before: the rest can still be dropped."""
AHEAD = 0.02
"""Seconds for which that is to be enough, at the rate of the last moments."""
SILENT = 10_000
"""Milliseconds without an acknowledgement after which the kernel gives up."""
_READ = 256 << 10
_LINGER = struct.pack("ii", 1, 0)
_CONGESTION = b"bbr"
"""What makes the best of lossy lines; where the kernel lacks it, its own choice stays."""


class ClosedError(MeshError):
    """The other end has closed the connection."""


class Transport:
    """One connection, and what of it waits: to be taken by the kernel, or to be read."""

    def __init__(self, connected: socket.socket, scratch: bytearray) -> None:
        self.socket = connected
        self._scratch = memoryview(scratch)
        self._tls: ssl.SSLObject | None = None
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._plain = bytearray()
        self._left = memoryview(b"")
        self._unsent = LEAST_UNSENT
        self._shaken = True
        tune(connected)

    def close(self, *, at_once: bool = False) -> None:
        """Close it; `at_once` throws away what the kernel has yet to send."""
        if at_once:
            with contextlib.suppress(OSError):
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        self.socket.close()

    def secure(self, context: ssl.SSLContext, name: str, *, answers: bool) -> None:
        """Begin TLS with what has come and was not read; `answers` at the end that was called."""
        self._tls = context.wrap_bio(
            self._in, self._out, server_side=answers, server_hostname=name or None
        )
        self._in.write(self._plain)
        self._plain.clear()
        self._shaken = False

    def shake(self) -> bool:
        """Go on with TLS's handshake, if one is under way; say if not. Raises MeshError."""
        if self._shaken or self._tls is None:
            return True
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        except ssl.SSLError as fault:
            raise MeshError(f"TLS: {_reason(fault)}") from None
        self._shaken = True
        return True

    @property
    def certificate(self) -> bytes:
        """What the other end showed; empty if nothing."""
        return (self._tls.getpeercert(binary_form=True) if self._tls else None) or b""

    def receive(self) -> None:
        """Take what has come, at most some records, for `read`.

        Raises ClosedError at its end, OSError.
        """
        try:
            size = self.socket.recv_into(self._scratch)
        except BlockingIOError:
            return
        if not size:
            raise ClosedError("the other end has closed it")
        if self._tls is None:
            self._plain += self._scratch[:size]
        else:
            self._in.write(self._scratch[:size])

    def read(self, room: memoryview) -> int:
        """Write what was received to `room`, and return how many bytes; 0 if nothing is left.

        Raises MeshError for what is no TLS, ClosedError at its end.
        """
        if self._plain or self._tls is None:
            size = min(len(room), len(self._plain))
            room[:size] = self._plain[:size]
            del self._plain[:size]
            return size
        try:
            size = int(self._tls.read(len(room), room))
        except ssl.SSLWantReadError:
            return 0
        except ssl.SSLZeroReturnError:
            raise ClosedError("the other end has closed it") from None
        except ssl.SSLError as fault:
            raise MeshError(f"TLS: {_reason(fault)}") from None
        if not size:
            raise ClosedError("the other end has closed it")
        return size

    def unread(self, data: bytes | bytearray) -> None:
        """Take bytes back that were read: they come first again."""
        self._plain[:0] = data

    def write(self, data: bytes | memoryview) -> None:
        """Take bytes to be sent by `flush`; what `data` is in may be changed afterwards."""
        if self._tls is None:
            self._out.write(data)
        else:
            self._tls.write(data)

    def carries(self, rate: float) -> None:
        """Have the kernel take no more than it sends soon, at `rate` bytes a second."""
        wanted = min(max(int(rate * AHEAD), LEAST_UNSENT), MOST_UNSENT)
        # Powers of two, so that it seldom changes.
        wanted = 1 << wanted.bit_length() - 1
        if wanted != self._unsent:
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, wanted)
            self._unsent = wanted

    @property
    def waits(self) -> bool:
        """Whether there is something that the kernel has yet to take."""
        return bool(self._left or self._out.pending)

    def flush(self) -> bool:
        """Hand to the kernel what it takes; say whether that was all. Raises OSError."""
        while True:
            if not self._left:
                if not self._out.pending:
                    return True
                self._left = memoryview(self._out.read())
            try:
                self._left = self._left[self.socket.send(self._left) :]
            except BlockingIOError:
                return False


def tune(connected: socket.socket) -> None:
    """Set what a stream needs of TCP."""
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, SILENT)
    connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, LEAST_UNSENT)
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, _CONGESTION)
    with contextlib.suppress(OSError):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)


def _reason(fault: ssl.SSLError) -> str:
    if isinstance(fault, ssl.SSLCertVerificationError):
        return str(fault.verify_message)
    return str(fault.reason or fault)


def scratch() -> bytearray:
    """Return a buffer that all transports of a process read into."""
    return bytearray(_READ)
