"""What is called out to everyone on a LAN, and what others call out: bytes in, bytes out.

All nodes of the LAN are called (ff02::1, 224.0.0.1), and not a group of our own: switches that
learn who listens to a group pass these two on to all, always (RFC 4541, sections 2.1.2 and 3), and
no host has to say that it listens. Only what was sent on the LAN itself is heard: a router would
have taken one off the hop limit of 255.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address

PORT = 46741
"""The UDP port of announcements, in no registry's list."""

_GROUPS = {4: "224.0.0.1", 6: "ff02::1"}
_HOPS = 255
_IP_RECVTTL, _IP_TTL = 12, 2
_IPV6_RECVHOPLIMIT, _IPV6_HOPLIMIT = 51, 52
_LONGEST = 1 << 16
_MOST = 64
"""Announcements that are read in one go, so that a flood does not keep the agent from the rest."""


@dataclass(frozen=True, slots=True)
class Announcement:
    """What was heard on a LAN, and from where; nothing says yet who sent it."""

    data: bytes
    source: IPv4Address | IPv6Address


class Lan:
    """One uplink's LAN in one version of IP. Raises OSError where the uplink has none of it."""

    def __init__(self, name: str, index: int, version: int) -> None:
        self.name, self.version = name, version
        family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004
        self._to = (_GROUPS[version], PORT) if version == 4 else (_GROUPS[6], PORT, 0, index)  # noqa: PLR2004
        self._socket = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            self._prepare(name, index)
        except BaseException:
            self._socket.close()
            raise

    def _prepare(self, name: str, index: int) -> None:
        set_option = self._socket.setsockopt
        set_option(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        set_option(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, name.encode())
        if self.version == 4:  # noqa: PLR2004 (the version of IP)
            mreqn = struct.pack("=4s4si", bytes(4), bytes(4), index)
            set_option(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, mreqn)
            set_option(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, _HOPS)
            set_option(socket.IPPROTO_IP, socket.IP_MULTICAST_LOOP, 0)
            set_option(socket.IPPROTO_IP, _IP_RECVTTL, 1)
        else:
            set_option(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            set_option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, index)
            set_option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, _HOPS)
            set_option(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            set_option(socket.IPPROTO_IPV6, _IPV6_RECVHOPLIMIT, 1)
        self._socket.bind(self._to)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, data: bytes) -> None:
        """Call it out. Raises OSError: ENETUNREACH, EADDRNOTAVAIL without an address there."""
        self._socket.sendto(data, self._to)

    def receive(self) -> list[Announcement]:
        """Return what waits, perhaps nothing. Raises OSError when the uplink is gone."""
        found: list[Announcement] = []
        for _ in range(_MOST):
            try:
                data, told, _, source = self._socket.recvmsg(_LONGEST, 64)
            except BlockingIOError:
                break
            if _hops(told) == _HOPS:
                address = ip_address(source[0].partition("%")[0])
                found.append(Announcement(data, address))
        return found


def _hops(told: list[tuple[int, int, bytes]]) -> int:
    """Return the hop limit that a datagram came with."""
    for level, kind, data in told:
        if (level, kind) in {
            (socket.IPPROTO_IP, _IP_TTL),
            (socket.IPPROTO_IPV6, _IPV6_HOPLIMIT),
        }:
            hops: int = struct.unpack("=i", data)[0]
            return hops
    return 0
