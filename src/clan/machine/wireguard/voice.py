"""How an agent asks and tells: ICMPv6 echoes and small datagrams, through one interface alone.

Both go inside the tunnel, where an address belongs to a key: who said it is known by where it came
from. A datagram is a JSON list of the names of dead controllers.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import struct
from pathlib import Path

from clan.machine.wireguard.carriers import TELLING

_REQUEST, _REPLY = 128, 129
_HEADER = struct.Struct("!BBHHH")
"""type, code, checksum (the kernel's doing), identifier, sequence (RFC 4443, section 4)"""
_FILTER = 1
"""ICMP6_FILTER (RFC 3542, section 3.2), a bit for each type that is not wanted."""
_COLUMNS = {"rx": 1, "tx": 9}
_LONGEST = 4096
_AT_ONCE = 1000
"""Datagrams read before anything else is done: nobody can keep an agent busy for ever."""


class Voice:
    """The sockets of one interface as it is now. Raises OSError where there is none."""

    def __init__(self, interface: str) -> None:
        self.index = socket.if_nametoindex(interface)
        self._id = int.from_bytes(os.urandom(2))
        self._interface = interface
        self.echo = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
        self.words = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        blocked = bytearray(b"\xff" * 32)
        word = _REPLY // 32 * 4
        wanted = 0xFFFFFFFF & ~(1 << _REPLY % 32)
        blocked[word : word + 4] = wanted.to_bytes(4, "little" if _LITTLE else "big")
        self.echo.setsockopt(socket.IPPROTO_ICMPV6, _FILTER, bytes(blocked))
        for each in (self.echo, self.words):
            each.setblocking(False)
            each.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode())
        self.words.bind(("::", TELLING))

    def close(self) -> None:
        """Let go of the sockets."""
        self.echo.close()
        self.words.close()

    def ask(self, address: str, number: int) -> bool:
        """Ask for an echo; return whether that went out."""
        question = _HEADER.pack(_REQUEST, 0, 0, self._id, number & 0xFFFF)
        return _sent(self.echo, question, (address, 0))

    def tell(self, address: str, names: frozenset[str]) -> bool:
        """Tell which controllers are dead; return whether that went out."""
        return _sent(self.words, json.dumps(sorted(names)).encode(), (address, TELLING))

    def answers(self) -> list[tuple[str, int]]:
        """Return (address, sequence) of the echoes that came."""
        found = []
        for data, address in _read(self.echo):
            if len(data) >= _HEADER.size:
                kind, _, _, mark, number = _HEADER.unpack_from(data)
                if (kind, mark) == (_REPLY, self._id):
                    found.append((address, number))
        return found

    def heard(self) -> list[tuple[str, frozenset[str]]]:
        """Return (address, names) of the datagrams that came."""
        found = []
        for data, address in _read(self.words):
            try:
                names = json.loads(data)
            except (ValueError, RecursionError):
                continue
            if isinstance(names, list) and all(isinstance(name, str) for name in names):
                found.append((address, frozenset(names)))
        return found

    def packets(self, way: str) -> int:
        """Return how many packets the interface has sent (`tx`) or brought (`rx`).

        From /proc/net/dev, which is of this network namespace; /sys may be of another.
        """
        for line in Path("/proc/self/net/dev").read_text().splitlines():
            name, _, counts = line.partition(":")
            if name.strip() == self._interface:
                return int(counts.split()[_COLUMNS[way]])
        raise OSError(errno.ENODEV, f"there is no interface {self._interface}")


_LITTLE = struct.pack("=H", 1) == struct.pack("<H", 1)


def _sent(through: socket.socket, data: bytes, to: tuple[str, int]) -> bool:
    try:
        through.sendto(data, to)
    except OSError as fault:
        if fault.errno in {errno.ENODEV, errno.EBADF}:
            raise
        # No session yet, no endpoint, a queue that is full: it did not answer, that is all.
        return False
    return True


def _read(source: socket.socket) -> list[tuple[bytes, str]]:
    found: list[tuple[bytes, str]] = []
    while len(found) < _AT_ONCE:
        try:
            data, address = source.recvfrom(_LONGEST)
        except BlockingIOError:
            break
        found.append((data, str(address[0])))
    return found
