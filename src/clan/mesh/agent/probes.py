"""Datagrams inside links, and the ones that open holes for links.

A `Prober` is one link's UDP socket, bound to its interface and to its link-local address: what it
sends needs no route but the one that the address brings, and what it hears came in by that link.
`open_holes` sends from a port that is WireGuard's. Neither knows what the bytes mean.
"""

from __future__ import annotations

import socket
import struct
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv6Address

    from clan.mesh.agent.wireguard import Endpoint

_SO_TIMESTAMPNS = 35
_STAMP = struct.Struct("@ll")
_IPV6_CHECKSUM = 7
_UDP_CHECKSUM_AT = 6
_IPV6_DONTFRAG = 62
_LONGEST = 1 << 16
_MOST = 256
"""Datagrams that are read in one go, so that a flood does not keep the agent from the rest."""
_STALE = 5.0
"""Seconds: a datagram that seems to have waited longer was stamped before the clock was set."""


@dataclass(frozen=True, slots=True)
class Heard:
    """A datagram, who sent it, and when the kernel got it, in seconds of the monotonic clock."""

    data: bytes
    source: str
    """An address, as `str` writes one, without a zone."""
    at: float


class Prober:
    """A link's own UDP socket. Raises OSError where the interface or address is not there."""

    def __init__(self, interface: str, address: IPv6Address, port: int) -> None:
        self.index = socket.if_nametoindex(interface)
        self.port = port
        self._socket = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        try:
            device = interface.encode()
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_TIMESTAMPNS, 1)
            # A probe says what passes whole: one that is too long is refused, not cut.
            self._socket.setsockopt(socket.IPPROTO_IPV6, _IPV6_DONTFRAG, 1)
            self._socket.bind((str(address), port, 0, self.index))
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()

    def send(self, data: bytes, to: str) -> None:
        """Send a datagram to the same port of a peer's address inside this link.

        Raises OSError: EMSGSIZE where it is longer than the link takes, ENETDOWN, ENOBUFS.
        """
        self._socket.sendto(data, (to, self.port, 0, self.index))

    def receive(self) -> list[Heard]:
        """Return what waits, perhaps nothing. Raises OSError when the interface is gone."""
        found: list[Heard] = []
        while len(found) < _MOST:
            try:
                data, told, _, source = self._socket.recvmsg(_LONGEST, 64)
            except BlockingIOError:
                break
            found.append(Heard(data, source[0].partition("%")[0], _when(told)))
        return found


def _when(told: Iterable[tuple[int, int, bytes]]) -> float:
    """Return when the kernel got a datagram, by what came with it (socket(7), SO_TIMESTAMPNS)."""
    now = time.monotonic()
    for level, kind, data in told:
        if (level, kind) == (socket.SOL_SOCKET, _SO_TIMESTAMPNS) and len(data) >= _STAMP.size:
            seconds, nanoseconds = _STAMP.unpack_from(data)
            waited = time.time() - seconds - nanoseconds / 1e9
            return now - waited if 0 <= waited < _STALE else now
    return now


def open_holes(port: int, mark: int, to: Iterable[Endpoint], data: bytes) -> list[str]:
    """Send a datagram from a UDP port that is another's, as if that had sent it.

    NATs and firewalls on the way then let in what comes back to that port. It carries the mark, so
    it takes the uplink that the port's owner takes. Returns what could not be sent, in words. Needs
    CAP_NET_RAW. Raises OSError where there can be no such socket.
    """
    failed = []
    targets = list(to)
    for version, family in ((4, socket.AF_INET), (6, socket.AF_INET6)):
        some = [each for each in targets if each.address.version == version]
        if not some:
            continue
        # For these few datagrams only: a raw socket gets a copy of all UDP that comes in.
        with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
            if family == socket.AF_INET6:
                raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _UDP_CHECKSUM_AT)
            for each in some:
                # Without a checksum, as IPv4 allows; IPv6's is the kernel's doing.
                head = struct.pack("!HHHH", port, each.port, 8 + len(data), 0)
                where = (str(each.address), 0)
                try:
                    raw.sendto(
                        head + data, (*where, 0, each.zone) if family == socket.AF_INET6 else where
                    )
                except OSError as fault:
                    failed.append(f"{each.address}: {fault.strerror}")
    return failed
