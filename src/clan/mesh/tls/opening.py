"""A connection that is not a stream yet: it is called, a proxy asked, TLS begun, both ends greeted.

Bounded in time and bytes: a stranger gets PATIENCE seconds and one buffer, and is never parsed.
What both sides say is a script: a generator that yields bytes to send, or `Secure` where TLS
begins.
"""

from __future__ import annotations

import errno
import hashlib
import os
import socket
from collections.abc import Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.tls import greeting, web
from clan.mesh.tls.frames import RECORD, Port
from clan.mesh.tls.transport import Transport

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from clan.mesh.identity import Key
    from clan.mesh.tls.wants import Listen, Relay

PATIENCE = 10.0
"""Seconds until a connection must have become a stream."""
_MOST = 2 * web.LONGEST
"""Bytes that may have come meanwhile and were not asked for."""
_BACKLOG = 64


@dataclass(frozen=True, slots=True)
class Secure:
    """Begin TLS; `answers` at the end that was called."""

    context: ssl.SSLContext
    name: str
    answers: bool


Script = Generator[bytes | Secure, None, Port]


class Opening:
    """A connection and how far it is. `port` is the other end's when it is done."""

    def __init__(
        self,
        connected: socket.socket,
        scratch: bytearray,
        script: Callable[[Transport, bytearray], Script],
        now: float,
        *,
        called: bool,
    ) -> None:
        self.transport = Transport(connected, scratch)
        self.deadline = now + PATIENCE
        self.port: Port | None = None
        self._buffer = bytearray()
        self._script = script(self.transport, self._buffer)
        self._connecting = called

    def turn(self) -> bool:
        """Go on as far as possible; say whether it is done. Raises MeshError, OSError."""
        if self._connecting:
            fault = self.transport.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if fault:
                raise OSError(fault, os.strerror(fault))
            if not _is_connected(self.transport.socket):
                return False
            self._connecting = False
        self.transport.receive()
        try:
            return self._go_on()
        finally:
            self.transport.flush()

    @property
    def waits(self) -> bool:
        """Whether it goes on when the kernel takes bytes."""
        return self._connecting or self.transport.waits

    def _go_on(self) -> bool:
        while self.transport.shake():
            try:
                said = self._next()
            except StopIteration as end:
                self.port = end.value
                self._leave()
                return True
            if isinstance(said, Secure):
                self._leave()
                self.transport.secure(said.context, said.name, answers=said.answers)
            elif said:
                self.transport.write(said)
            else:
                break
        return False

    def _leave(self) -> None:
        """Leave what has come already to what reads next: TLS, or the stream."""
        self.transport.unread(self._buffer)
        self._buffer.clear()

    def _next(self) -> bytes | Secure:
        """Return what the script has to say to what has come. Raises StopIteration at its end."""
        part = bytearray(RECORD)
        while size := self.transport.read(memoryview(part)):
            self._buffer += part[:size]
        if len(self._buffer) > _MOST:
            raise MeshError("it says more than it was asked for")
        return next(self._script)


def calls(
    transport: Transport,
    buffer: bytearray,
    *,
    key: Key,
    slot: str,
    relay: Relay,
    tunnel: str | None,
    context: ssl.SSLContext,
) -> Script:
    """Be the end that calls a relay; `tunnel` are a proxy's credentials, None without a proxy."""
    place = relay.places[0]
    if tunnel is not None:
        yield from web.tunnel(buffer, place.host, place.port, tunnel)
    yield Secure(context, relay.sni, answers=False)
    if relay.certificate:
        shown = hashlib.sha256(transport.certificate).digest()
        if shown != relay.certificate:
            raise MeshError(
                "what answers there shows another certificate than the map has: it is not the "
                "relay, or something on the way opens TLS"
            )
    binding = relay.certificate
    if relay.path:
        binding = greeting.UNBOUND
        yield from web.upgrade(buffer, relay.sni or place.host, relay.path)
    return (yield from greeting.of_machine(buffer, key, slot, relay.identity, binding))


def answers(
    transport: Transport,
    buffer: bytearray,
    *,
    key: Key,
    secure: Secure | None,
    binding: bytes,
    is_member: Callable[[bytes], bool],
) -> Script:
    """Be the relay that is called; `secure` is None where a web server has ended TLS."""
    del transport
    if secure is not None:
        yield secure
    else:
        yield from web.upgraded(buffer)
    return (yield from greeting.of_relay(buffer, key, binding, is_member))


def dial(address: tuple[int, tuple[str, int]], mark: int) -> socket.socket:
    """Begin a connection to an address (family, host and port). Raises OSError."""
    family, place = address
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        if mark:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        made.connect_ex(place)
    except OSError:
        made.close()
        raise
    return made


def listening(listen: Listen) -> socket.socket:
    """Return a socket that listens; one for `::` takes IPv4 too. Raises OSError."""
    place = listen.place
    family = socket.AF_INET6 if ":" in place.host else socket.AF_INET
    made = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            made.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        made.bind((place.host, place.port))
        made.listen(_BACKLOG)
    except OSError:
        made.close()
        raise
    return made


def _is_connected(called: socket.socket) -> bool:
    try:
        called.getpeername()
    except OSError as fault:
        if fault.errno != errno.ENOTCONN:
            raise
        return False
    return True
