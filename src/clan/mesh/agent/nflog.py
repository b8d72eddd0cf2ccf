"""Reads what nftables reports by a log group: who wants to send to a cold peer.

It owns the reader's half of nfnetlink_log (linux/netfilter/nfnetlink_log.h). Only the head of a
packet is handed over, and only its destination is looked at.
"""

from __future__ import annotations

import struct
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from clan.mesh.agent import netlink
from clan.mesh.agent.netlink import Netlink, OverrunError, attribute, attributes

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOG = 4
_PACKET, _CONFIGURE = _LOG << 8, _LOG << 8 | 1
_COMMAND, _MODE, _THRESHOLD = 1, 2, 5
_BIND = b"\x01"
_PAYLOAD = 9
_COPY_PACKET = 2
_HEAD = struct.Struct("!BBH")
"""struct nfgenmsg: family, version, group."""
_IPV6_HEAD = 40


class FirstPackets:
    """The packets that a log group reports. Raises NetlinkError: EBUSY where another reads it."""

    def __init__(self, group: int) -> None:
        self._netlink = Netlink(netlink.NETFILTER)
        try:
            self._set(group, attribute(_COMMAND, _BIND))
            self._set(group, attribute(_MODE, struct.pack("!IBB", _IPV6_HEAD, _COPY_PACKET, 0)))
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

    def wanted(self) -> list[IPv6Address]:
        """Return the addresses that were sent to since the last call, each once."""
        found: dict[IPv6Address, None] = {}
        try:
            for message in self._netlink.events():
                if message.kind == _PACKET:
                    found |= dict.fromkeys(_destination(message.body[_HEAD.size :]))
        except OverrunError:
            pass  # who still wants it sends again, and is reported again
        return list(found)


def _destination(body: bytes) -> Iterator[IPv6Address]:
    """Yield where a packet goes (RFC 8200, section 3)."""
    packet = attributes(body).get(_PAYLOAD, b"")
    if len(packet) >= _IPV6_HEAD and packet[0] >> 4 == 6:  # noqa: PLR2004
        yield IPv6Address(packet[24:40])
