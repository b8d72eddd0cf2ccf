"""A TCP connection of the agent's, on one interface, that never waits.

It reads and writes what can be, when the loop says so, and bounds what it holds. What the bytes
mean is not known here.
"""

from __future__ import annotations

import contextlib
import errno
import os
import select
import socket

_CHUNK = 1 << 16
_TURN = 1 << 20
"""Bytes that are read in one turn, so that the agent sees to other things in between."""
_SEGMENT = 1220
"""Bytes: what passes where the path takes only IPv6's least, 1280; nothing is measured for it."""

MOST_WAITING = 128
"""Connections that wait in the kernel to be taken in: a whole clan may come in one moment."""


def listener(device: str, address: tuple[str, int, int, int]) -> socket.socket:
    """Return a socket that listens on one interface. Raises OSError."""
    made = _socket(device, socket.AF_INET6)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind(address)
        made.listen(MOST_WAITING)
    except BaseException:
        made.close()
        raise
    return made


class Stream:
    """One connection; it is given up at `deadline` (monotonic), and above `most` bytes to read."""

    def __init__(self, connected: socket.socket, deadline: float, most: int) -> None:
        self._socket = connected
        self._socket.setblocking(False)
        self.deadline = deadline
        self._most = most
        self._out = b""
        self.read = b""
        """What came and was not taken away yet."""
        self.ended = False
        """Whether the far end will send no more."""

    @classmethod
    def connect(
        cls, device: str, to: tuple[str, int, int, int], deadline: float, most: int
    ) -> Stream:
        """Begin to connect by one interface, by IPv4 if the address is. Raises OSError."""
        is_ipv4 = "." in to[0]
        made = _socket(device, socket.AF_INET if is_ipv4 else socket.AF_INET6)
        try:
            with contextlib.suppress(BlockingIOError):
                made.connect(to[:2] if is_ipv4 else to)
        except BaseException:
            made.close()
            raise
        return cls(made, deadline, most)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close it."""
        self._socket.close()

    @property
    def events(self) -> int:
        """What to wait for."""
        return select.POLLIN | (select.POLLOUT if self._out else 0)

    @property
    def is_written(self) -> bool:
        """Whether all was handed to the kernel."""
        return not self._out

    def write(self, data: bytes) -> None:
        """Have this sent when it can be."""
        self._out += data

    def turn(self) -> None:
        """Send and receive what can be now. Raises OSError where the connection is gone."""
        code = self._socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code:
            raise OSError(code, os.strerror(code))
        try:
            while self._out:
                self._out = self._out[self._socket.send(self._out[: 4 * _CHUNK]) :]
        except (BlockingIOError, BrokenPipeError):
            pass  # it connects yet; or has closed, which reading shows
        taken = 0
        while not self.ended and taken < _TURN:
            try:
                part = self._socket.recv(_CHUNK)
            except BlockingIOError:
                return
            self.ended = not part
            self.read += part
            taken += len(part)
            if len(self.read) > self._most:
                raise OSError(errno.EMSGSIZE, "more was sent than there can be")


def _socket(device: str, family: int) -> socket.socket:
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device.encode())
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SEGMENT)
    except BaseException:
        made.close()
        raise
    return made
