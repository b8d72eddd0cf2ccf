"""Netlink: messages to and from the kernel, and the attributes in them (netlink(7)).

It owns the framing, and knows no family of messages. One request is under way at a time; the kernel
answers before the call returns, so nothing waits.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

ROUTE, SOCK_DIAG, NETFILTER, GENERIC = 0, 4, 12, 16
"""The families of netlink that are used here."""

REPLACE, EXCLUSIVE, CREATE = 0x100, 0x200, 0x400
"""Flags of a request that changes something."""
DUMP = 0x300
"""Flag of a request that lists."""

_REQUEST, _ACK = 0x1, 0x4
_INTERRUPTED = 0x10
_WITH_ATTRIBUTES = 0x200
_ERROR, _DONE = 2, 3
_ERROR_TEXT = 1

_SOL_NETLINK = 270
_ADD_MEMBERSHIP, _CAP_ACK, _EXT_ACK, _STRICT = 1, 10, 11, 12
_SO_RCVTIMEO, _SO_RCVBUFFORCE = 20, 33
_ROOM = 1 << 20
"""Bytes of events that may wait until they are read."""
_MOST = 1 << 16
"""Bytes of one datagram from the kernel; it fills at most half of it."""
_TRIES = 10
"""How often a list that changed while it was made is asked for again."""
_PATIENCE = struct.pack("@ll", 10, 0)
"""Seconds and microseconds that the kernel may take: at once, but for locks that others hold."""

_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_KIND = 0x3FFF
"""An attribute's type, without the flags for nesting and byte order."""
_NESTED = 0x8000


class NetlinkError(OSError):
    """The kernel refused; `errno` says why, and the text too where the kernel gives one."""


class OverrunError(NetlinkError):
    """Events were lost, as they were not read in time: look at everything anew."""


@dataclass(frozen=True, slots=True)
class Message:
    """A message from the kernel; `port` is the socket whose request led to it, 0 for none."""

    kind: int
    port: int
    body: bytes


class Netlink:
    """A socket to one family of netlink in the network namespace in which it is made.

    `groups` are the events to hear. Raises OSError where the kernel has no such family.
    """

    def __init__(self, family: int, groups: Iterable[int] = ()) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family)
        try:
            for option in (_CAP_ACK, _EXT_ACK, _STRICT):
                self._socket.setsockopt(_SOL_NETLINK, option, 1)
            self._socket.bind((0, 0))
            for group in groups:
                self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _ROOM)
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, group)
            # By the kernel, and not Python: that would wait for events too.
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_RCVTIMEO, _PATIENCE)
        except BaseException:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[0]
        """By which the kernel names this socket in what it tells others of its requests."""
        self._number = 0

    def fileno(self) -> int:
        """Return the descriptor, for who waits for events."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def ask(self, kind: int, body: bytes, flags: int = 0) -> list[Message]:
        """Send a request and return what the kernel answers. Raises NetlinkError.

        A list that changed while it was made is asked for again.
        """
        for _ in range(_TRIES):
            answer = self._ask(kind, body, flags)
            if answer is not None:
                return answer
        raise NetlinkError(errno.EAGAIN, "what the kernel lists does not stay the same")

    def _ask(self, kind: int, body: bytes, flags: int) -> list[Message] | None:
        self._number += 1
        flags |= _REQUEST | (0 if flags & DUMP == DUMP else _ACK)
        header = _HEADER.pack(_HEADER.size + len(body), kind, flags, self._number, 0)
        self._socket.send(header + body)
        found: list[Message] = []
        whole = True
        while True:
            data, _, flags_seen, _ = self._socket.recvmsg(_MOST)
            if flags_seen & socket.MSG_TRUNC:
                raise NetlinkError(errno.EMSGSIZE, "the kernel's answer is too long")
            for message, header_flags, number in _messages(data):
                if number != self._number:
                    continue  # of a request that was given up
                whole = whole and not header_flags & _INTERRUPTED
                if message.kind == _ERROR:
                    _raise(message.body, header_flags)
                    return found
                if message.kind == _DONE:
                    _raise(message.body, 0)
                    return found if whole else None
                found.append(message)

    def events(self) -> list[Message]:
        """Return the events that wait, perhaps none. Raises OverrunError where some were lost."""
        found: list[Message] = []
        while True:
            try:
                data = self._socket.recv(_MOST, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return found
            except OSError as fault:
                if fault.errno == errno.ENOBUFS:
                    raise OverrunError(fault.errno, "events were lost") from None
                raise
            found += [message for message, _, _ in _messages(data) if message.kind > _DONE]


def _messages(data: bytes) -> Iterator[tuple[Message, int, int]]:
    """Yield the messages of a datagram, each with its flags and number."""
    at = 0
    while at + _HEADER.size <= len(data):
        length, kind, flags, number, port = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield Message(kind, port, data[at + _HEADER.size : at + length]), flags, number
        at += _aligned(length)


def _raise(body: bytes, flags: int) -> None:
    """Raise NetlinkError unless the kernel says that all went well (struct nlmsgerr)."""
    code = -int(struct.unpack_from("=i", body)[0]) if body else 0
    if code:
        told = b""
        if flags & _WITH_ATTRIBUTES:
            told = attributes(body[4 + _HEADER.size :]).get(_ERROR_TEXT, b"")
        text = told.rstrip(b"\0").decode("utf-8", "replace")
        raise NetlinkError(code, text or os.strerror(code))


def attribute(kind: int, data: bytes) -> bytes:
    """Return an attribute, with what fills it up to four bytes."""
    length = _ATTRIBUTE.size + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (_aligned(length) - length)


def nested(kind: int, *parts: bytes) -> bytes:
    """Return an attribute that holds attributes."""
    return attribute(kind | _NESTED, b"".join(parts))


def every_attribute(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the attributes as (type, value), in their order."""
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind & _KIND, data[at + _ATTRIBUTE.size : at + length]
        at += _aligned(length)


def attributes(data: bytes) -> Mapping[int, bytes]:
    """Return the attributes by type; the last of several of one type."""
    return dict(every_attribute(data))


def _aligned(length: int) -> int:
    return (length + 3) & ~3
