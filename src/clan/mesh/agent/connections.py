"""Open TCP connections, which end with the membership of who is at the other end (sock_diag(7)).

Nothing comes through any more: without this, a program would wait for the other end until its own
patience ends, often for hours.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from clan.mesh.agent.netlink import DUMP, SOCK_DIAG, Netlink, NetlinkError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator
    from ipaddress import IPv4Address

_BY_FAMILY, _DESTROY = 20, 21
"""SOCK_DIAG_BY_FAMILY and SOCK_DESTROY of linux/sock_diag.h."""
_REQUEST = struct.Struct("=BBBxI")
"""The head of inet_diag_req_v2 (linux/inet_diag.h): family, protocol, extensions, states. What
follows is an inet_diag_sockid."""
_HEAD = 4
"""Bytes before that in the kernel's answer, inet_diag_msg."""
_SOCKET = struct.Struct("!HH16s16s12s")
"""inet_diag_sockid: two ports, two addresses, and what only the kernel needs."""
_LISTEN = 10
_OPEN = 0xFFF & ~(1 << _LISTEN)
"""Bits of all states but that one."""


def end(addresses: Collection[IPv4Address | IPv6Address]) -> None:
    """End the TCP connections to these addresses. Raises OSError.

    Whoever has one reads and writes ECONNABORTED. Kernels without this part refuse: EOPNOTSUPP.
    """
    kernel = Netlink(SOCK_DIAG)
    try:
        for family in (socket.AF_INET, socket.AF_INET6):
            for found in _open(kernel, family, addresses):
                try:
                    kernel.ask(_DESTROY, _request(family, found))
                except NetlinkError as fault:
                    if fault.errno != errno.ENOENT:  # it ended by itself meanwhile
                        raise
    finally:
        kernel.close()


def _open(
    kernel: Netlink, family: int, addresses: Collection[IPv4Address | IPv6Address]
) -> Iterator[bytes]:
    size = 4 if family == socket.AF_INET else 16
    for message in kernel.ask(_BY_FAMILY, _request(family, bytes(_SOCKET.size)), DUMP):
        found = message.body[_HEAD : _HEAD + _SOCKET.size]
        to = ip_address(_SOCKET.unpack(found)[3][:size])
        # A socket for both versions of IP has the other one's addresses in its own.
        inner = to.ipv4_mapped if isinstance(to, IPv6Address) else None
        if to in addresses or inner in addresses:
            yield found


def _request(family: int, found: bytes) -> bytes:
    return _REQUEST.pack(family, socket.IPPROTO_TCP, 0, _OPEN) + found
