"""Whether a way in from outside is one: a member is asked to knock there, and it is heard or not.

A knock is a datagram from a port that nothing was ever sent to, so no hole lets it in. It comes in
on WireGuard's port, which does not know it and says nothing; so it is listened to beside that, for
some seconds, on the uplink itself. A number that is drawn for it says that it is the one.
"""

from __future__ import annotations

import contextlib
import ctypes
import math
import secrets
import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh.outside.address import is_outside

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping

    from clan.mesh.link import Endpoint
    from clan.mesh.outside.seam import Door
    from clan.mesh.wire import Knock

SIZE = 16
"""Bytes of a knock: its number twice."""
LISTENS = 3.0
"""Seconds that a knock is waited for."""
AGAIN, SELDOM = 10.0, 1200.0
"""Seconds until the same place is knocked at again: at first, and at most."""
_IPV4, _IPV6 = 0x0800, 0x86DD
_ATTACH_FILTER = 26
"""SO_ATTACH_FILTER (asm-generic/socket.h)."""
_INSTRUCTION = struct.Struct("HBBI")
_LOAD32, _LOAD16, _LOAD8 = 0x20, 0x28, 0x30
_LOAD32X, _LOAD16X, _LENGTH = 0x40, 0x48, 0xB1
_EQUAL, _RETURN = 0x15, 0x06
_UDP = 17


@dataclass(kw_only=True)
class _Waiting:
    door: Door
    endpoint: Endpoint
    number: int
    ears: socket.socket
    until: float


class Knocks:
    """This machine's."""

    def __init__(self) -> None:
        self._waiting: list[_Waiting] = []
        self._tried: dict[Door, tuple[Endpoint, float, float]] = {}
        self._heard: dict[Door, Endpoint] = {}

    def close(self) -> None:
        """Listen no more."""
        for each in self._waiting:
            each.ears.close()

    def sockets(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, each with the events to wait for."""
        for each in self._waiting:
            yield each.ears.fileno(), 1

    def due(self) -> float:
        """Return when a knock is waited for no longer."""
        return min((each.until for each in self._waiting), default=math.inf)

    @property
    def heard(self) -> frozenset[str]:
        """The interfaces that were reached where they are mapped, by their ids."""
        return frozenset(door.id for door in self._heard)

    def turn(self, found: Mapping[Door, Endpoint], readable: Container[int], now: float) -> None:
        """Take in what was heard; forget what is elsewhere now."""
        for each in list(self._waiting):
            is_heard = each.ears.fileno() in readable and _hears(each)
            if is_heard:
                self._heard[each.door] = each.endpoint
            if is_heard or now >= each.until or found.get(each.door) != each.endpoint:
                each.ears.close()
                self._waiting.remove(each)
        self._heard = {door: at for door, at in self._heard.items() if found.get(door) == at}
        self._tried = {door: it for door, it in self._tried.items() if found.get(door) == it[0]}

    def wanted(self, found: Mapping[Door, Endpoint], now: float) -> Iterable[tuple[Endpoint, int]]:
        """Listen for, and yield, the knocks that somebody is to be asked for now."""
        for door, endpoint in found.items():
            _, again, wait = self._tried.get(door, (endpoint, -math.inf, AGAIN))
            if door in self._heard or now < again:
                continue
            self._tried[door] = endpoint, now + wait, min(2 * wait, SELDOM)
            number = secrets.randbits(64)
            with contextlib.suppress(OSError):  # the uplink is going
                ears = _ears(door, number)
                self._waiting.append(
                    _Waiting(
                        door=door, endpoint=endpoint, number=number, ears=ears, until=now + LISTENS
                    )
                )
                yield endpoint, number


def knock(asked: Knock) -> None:
    """Knock where somebody asks for it, if that is outside."""
    host = ip_address(asked.endpoint.host)
    if is_outside(host):
        family = socket.AF_INET if "." in asked.endpoint.host else socket.AF_INET6
        with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sender:
            data = struct.pack(">QQ", asked.number, asked.number)
            sender.sendto(data, socket.MSG_DONTWAIT, (asked.endpoint.host, asked.endpoint.port))


def _hears(waiting: _Waiting) -> bool:
    """Whether the knock came. The filter is for speed alone: what came before it is in here too."""
    number = struct.pack(">QQ", waiting.number, waiting.number)
    with contextlib.suppress(OSError):
        while True:
            if waiting.ears.recv(2048).endswith(number):
                return True
    return False


def _ears(door: Door, number: int) -> socket.socket:
    """Return a socket that reads, at an uplink, datagrams with a number. Raises OSError."""
    made = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK, 0)
    try:
        is_four = "." in str(door.gateway)
        program = b"".join(_filter(door.port, number, is_four=is_four))
        held = ctypes.create_string_buffer(program, len(program))
        count = len(program) // _INSTRUCTION.size
        told = struct.pack("HP", count, ctypes.addressof(held))
        made.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, told)
        made.bind((door.uplink, _IPV4 if is_four else _IPV6))
    except BaseException:
        made.close()
        raise
    return made


def _filter(port: int, number: int, *, is_four: bool) -> Iterator[bytes]:
    """Yield the instructions (linux/filter.h) that keep UDP to a port with a number."""
    if is_four:
        yield _INSTRUCTION.pack(_LENGTH, 0, 0, 0)  # into X: four times the low half of byte 0
        loads = ((_LOAD8, 9, _UDP), (_LOAD16X, 2, port), (_LOAD32X, 8, number >> 32))
    else:
        loads = ((_LOAD8, 6, _UDP), (_LOAD16, 42, port), (_LOAD32, 48, number >> 32))
    for place, (load, at, value) in enumerate(loads):
        yield _INSTRUCTION.pack(load, 0, 0, at)
        yield _INSTRUCTION.pack(_EQUAL, 0, 2 * (len(loads) - place) - 1, value)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFF)
    yield _INSTRUCTION.pack(_RETURN, 0, 0, 0)
