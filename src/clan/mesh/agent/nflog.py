"""Reads what nftables reports by a log group: who talks to whom, or whole packets.

It owns the reader's half of nfnetlink_log (linux/netfilter/nfnetlink_log.h). Of first packets only
the head is handed over, and only its addresses are looked at.
"""

from __future__ import annotations

import contextlib
import struct
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING

from clan.mesh.agent import netlink
from clan.mesh.agent.netlink import Netlink, OverrunError, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = 4
_PACKET, _CONFIGURE = _LOG << 8, _LOG << 8 | 1
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5
_BIND = b"\x01"
_INTERFACE, _PAYLOAD = 4, 9
_COPY_PACKET = 2
_HEAD = struct.Struct("!BBH")
"""struct nfgenmsg: family, version, group."""
_IPV4_HEAD, _IPV6_HEAD = 20, 40


@dataclass(frozen=True, slots=True)
class Packet:
    """A packet from its IP header on, and the index of the interface that it came in by, or 0."""

    data: bytes
    interface: int


class LogGroup:
    """The packets that a log group reports, `longest` bytes of each.

    Raises NetlinkError: EBUSY where another reads it.
    """

    def __init__(self, group: int, longest: int) -> None:
        self._netlink = Netlink(netlink.NETFILTER)
        try:
            self._set(group, attribute(_COMMAND, _BIND))
            self._set(group, attribute(_MODE, struct.pack("!IBB", longest, _COPY_PACKET, 0)))
            self._set(group, attribute(_THRESHOLD, struct.pack("!I", 1)))  # each at once
        except BaseException:
            self._netlink.close()
            raise

    def _set(self, group: int, part: bytes) -> None:
        self._netlink.ask(_CONFIGURE, _HEAD.pack(0, 0, group) + part)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._netlink.fileno()

    def close(self) -> None:
        """Read no more; packets pass as before."""
        self._netlink.close()

    def packets(self) -> list[Packet]:
        """Return what was reported since the last call; some may be lost if that was long ago."""
        found: list[Packet] = []
        with contextlib.suppress(OverrunError):
            for message in self._netlink.events():
                if message.kind == _PACKET:
                    told = attributes(message.body[_HEAD.size :])
                    index = int.from_bytes(told.get(_INTERFACE, b""), "big")
                    found.append(Packet(told.get(_PAYLOAD, b""), index))
        return found


class FirstPackets(LogGroup):
    """Who talks to whom; who still talks is reported again, so none is lost for long."""

    def __init__(self, group: int) -> None:
        super().__init__(group, _IPV6_HEAD)

    def addresses(self) -> list[IPv4Address | IPv6Address]:
        """Return the addresses in packets that were reported since the last call, each once.

        They are those of both ends.
        """
        found: dict[IPv4Address | IPv6Address, None] = {}
        for packet in self.packets():
            found |= dict.fromkeys(_ends(packet.data))
        return list(found)


def _ends(packet: bytes) -> Iterator[IPv4Address | IPv6Address]:
    """Yield a packet's source and destination (RFC 791, section 3.1; RFC 8200, section 3)."""
    version = packet[0] >> 4 if packet else 0
    if version == 6 and len(packet) >= _IPV6_HEAD:  # noqa: PLR2004
        yield from (ip_address(packet[8:24]), ip_address(packet[24:40]))
    elif version == 4 and len(packet) >= _IPV4_HEAD:  # noqa: PLR2004
        yield from (ip_address(packet[12:16]), ip_address(packet[16:20]))
