"""Passes datagrams on where the kernel cannot: `machine.pyz mesh pump INSTANCE`, a unit of its own.

Between IPv4 and IPv6, what comes in fragments, and where the kernel lacks a part. It reads nothing
of what it passes, and knows no key. The agent tells it all flows whenever they change; it
goes on without the agent. Batches that the kernel made of datagrams of one size stay batches.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.mesh.agent.status import Status

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_UDP_SEGMENT, _UDP_GRO = 103, 104
_SO_RCVBUFFORCE, _SO_SNDBUFFORCE = 33, 32
_ROOM = 4 << 20
"""Bytes that wait at one port; what is more is lost, as at any router."""
_BATCH = 1 << 16
_IN_ONE_GO = 32
"""Batches that are read from one port before the others have their turn."""
_MTU_DISCOVER, _IPV6_MTU_DISCOVER, _DONT = 10, 23, 0
_SIZE = struct.Struct("=H")
_GIVEN = struct.Struct("=i")


@dataclass(frozen=True, slots=True)
class Port:
    """One of this machine's addresses, a port, and the mark of what is sent from there."""

    local: str
    port: int
    mark: int


class Pump:
    """All ports, and where what comes in goes: (port, source) -> (port, destination)."""

    def __init__(self) -> None:
        self._sockets: dict[Port, socket.socket] = {}
        self._ways: dict[tuple[Port, str, int], tuple[Port, tuple[str, int]]] = {}
        self.poll = select.epoll()
        self._by: dict[int, Port] = {}

    def take(self, told: dict[str, Any]) -> dict[str, Any]:
        """Have just the flows that one is told: each is two legs [local, port, mark, host, port].

        Answers what could not be had, in words.
        """
        ways: dict[tuple[Port, str, int], tuple[Port, tuple[str, int]]] = {}
        for legs in told.get("flows", ()):
            ends = [(Port(*leg[:3]), str(leg[3]), int(leg[4])) for leg in legs]
            for (port, host, number), (out, to, its) in (ends, ends[::-1]):
                ways[port, host, number] = out, (to, its)
        faults = self._listen({port for port, _, _ in ways})
        self._ways = ways
        return {"faults": faults}

    def turn(self, descriptor: int) -> None:
        """Pass on what waits at a port."""
        port = self._by.get(descriptor)
        if port is None:
            return
        own = self._sockets[port]
        for _ in range(_IN_ONE_GO):
            try:
                data, told, _, source = own.recvmsg(_BATCH, 64)
            except OSError:
                return
            way = self._ways.get((port, source[0], source[1]))
            if way is not None and way[0] in self._sockets:
                _send(self._sockets[way[0]], data, _segment(told), way[1])

    def _listen(self, ports: set[Port]) -> list[str]:
        for port in self._sockets.keys() - ports:
            gone = self._sockets.pop(port)
            del self._by[gone.fileno()]
            self.poll.unregister(gone.fileno())
            gone.close()
        faults = []
        for port in ports - self._sockets.keys():
            try:
                made = _open(port)
            except OSError as fault:
                faults.append(f"{port.local} port {port.port}: {fault.strerror}")
                continue
            self._sockets[port] = made
            self._by[made.fileno()] = port
            self.poll.register(made.fileno(), select.EPOLLIN)
        return faults


def run(path: Path) -> None:
    """Pass on until killed; `path` is the socket on which one is told. Raises OSError."""
    pump = Pump()
    status = Status(path)
    pump.poll.register(status.fileno(), select.EPOLLIN)
    while True:
        for descriptor, _ in pump.poll.poll():
            if descriptor == status.fileno():
                status.turn(pump.take)
            else:
                pump.turn(descriptor)


def _open(port: Port) -> socket.socket:
    is_ipv6 = ":" in port.local
    made = socket.socket(
        socket.AF_INET6 if is_ipv6 else socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    )
    try:
        for option in (_SO_RCVBUFFORCE, _SO_SNDBUFFORCE):
            made.setsockopt(socket.SOL_SOCKET, option, _ROOM)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, port.mark)
        # What is too long on the other side is sent in pieces: it cannot be sent otherwise.
        level, option = (
            (socket.IPPROTO_IPV6, _IPV6_MTU_DISCOVER)
            if is_ipv6
            else (socket.IPPROTO_IP, _MTU_DISCOVER)
        )
        made.setsockopt(level, option, _DONT)
        with contextlib.suppress(OSError):  # an old kernel
            made.setsockopt(socket.IPPROTO_UDP, _UDP_GRO, 1)
        made.bind((port.local, port.port))
    except BaseException:
        made.close()
        raise
    return made


def _segment(told: Iterable[tuple[int, int, bytes]]) -> int:
    """Return the bytes of each datagram in a batch, 0 for one that is alone."""
    for level, kind, data in told:
        if (level, kind) == (socket.IPPROTO_UDP, _UDP_GRO):
            return int(_GIVEN.unpack_from(data)[0])
    return 0


def _send(by: socket.socket, data: bytes, segment: int, to: tuple[str, int]) -> None:
    """Send a batch; what cannot be sent is lost, as at any router."""
    if not 0 < segment < len(data):
        with contextlib.suppress(OSError):
            by.sendto(data, to)
        return
    told = [(socket.IPPROTO_UDP, _UDP_SEGMENT, _SIZE.pack(segment))]
    try:
        by.sendmsg([data], told, 0, to)
    except OSError as fault:
        if fault.errno in {errno.EAGAIN, errno.ENOBUFS}:
            return
        # A device that cannot, or a batch whose datagrams are too long for it: one by one.
        for at in range(0, len(data), segment):
            with contextlib.suppress(OSError):
                by.sendto(data[at : at + segment], to)
