"""Datagrams that are heard by a log group, and sent from ports that are others'.

A machine's end of a flow is WireGuard's port, and a relay's is nobody's: neither can be listened
on. So the kernel hands over what carries the magic, and answers go out by a raw socket.
"""

from __future__ import annotations

import socket
import struct
from dataclasses import dataclass
from ipaddress import ip_address

from clan.mesh.link import Endpoint

_UDP = struct.Struct("!HHHH")
_IPV4_HEAD, _IPV6_HEAD = 20, 40
_IPV6_CHECKSUM, _UDP_CHECKSUM_AT = 7, 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """A UDP datagram, from where to where."""

    source: Endpoint
    to: Endpoint
    data: bytes


def read(packet: bytes) -> Datagram | None:
    """Read a packet from its IP header on; None for one that is not whole, or not UDP."""
    version = packet[0] >> 4 if packet else 0
    if version == 4 and len(packet) >= _IPV4_HEAD:  # noqa: PLR2004
        protocol, head = packet[9], (packet[0] & 15) * 4
        source, to = packet[12:16], packet[16:20]
    elif version == 6 and len(packet) >= _IPV6_HEAD:  # noqa: PLR2004
        protocol, head = packet[6], _IPV6_HEAD
        source, to = packet[8:24], packet[24:40]
    else:
        return None
    if protocol != socket.IPPROTO_UDP or len(packet) < head + _UDP.size:
        return None
    from_port, to_port, length, _ = _UDP.unpack_from(packet, head)
    if not _UDP.size <= length <= len(packet) - head:
        return None
    return Datagram(
        source=Endpoint(host=str(ip_address(source)), port=from_port),
        to=Endpoint(host=str(ip_address(to)), port=to_port),
        data=packet[head + _UDP.size : head + length],
    )


def send(data: bytes, *, port: int, to: Endpoint, source: str = "", mark: int = 0) -> None:
    """Send a datagram from a UDP port of this machine, whosever it is.

    `source` is one of its addresses, the kernel's choice if empty; what carries a mark leaves by
    its uplink. Raises OSError where it cannot be sent. Needs CAP_NET_RAW.
    """
    is_ipv6 = ":" in to.host
    family = socket.AF_INET6 if is_ipv6 else socket.AF_INET
    # For this one only: a raw socket gets a copy of all UDP that comes in.
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_UDP) as raw:
        if mark:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, mark)
        if is_ipv6:
            raw.setsockopt(socket.IPPROTO_IPV6, _IPV6_CHECKSUM, _UDP_CHECKSUM_AT)
        if source:
            raw.bind((source, 0))
        # Without a checksum, as IPv4 allows; IPv6's is the kernel's doing.
        head = _UDP.pack(port, to.port, _UDP.size + len(data), 0)
        raw.sendto(head + data, (to.host, 0))
