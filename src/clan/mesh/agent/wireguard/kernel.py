"""The kernel's WireGuard, by generic netlink (linux/wireguard.h)."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_network
from itertools import islice
from typing import TYPE_CHECKING

from clan.mesh.agent import netlink
from clan.mesh.agent.netlink import DUMP, Netlink, attribute, attributes, nested
from clan.mesh.agent.netlink import every_attribute as every
from clan.mesh.agent.wireguard.device import Device, Endpoint, Peer, Wireguard, fingerprint

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.rtnetlink import IpNetwork
    from clan.mesh.agent.wireguard.device import Change

_AT_ONCE = 100
"""Peers that one message sets: an attribute, here all peers, has at most 64 KiB."""

_GENERIC = struct.Struct("=BBxx")
_GET_DEVICE, _SET_DEVICE = 0, 1
_IFNAME, _PRIVATE, _PORT, _MARK, _PEERS = 2, 3, 6, 7, 8
_KEY, _FLAGS, _ENDPOINT, _KEEPALIVE, _HANDSHAKE, _RECEIVED, _SENT, _ALLOWED = 1, 3, 4, 5, 6, 7, 8, 9
_REMOVE, _REPLACE_ALLOWED, _UPDATE_ONLY = 1, 2, 4
_FAMILY, _ADDRESS, _LENGTH = 1, 2, 3
_CONTROL, _GET_FAMILY, _FAMILY_ID, _FAMILY_NAME = 16, 3, 1, 2
_INET6 = struct.Struct("=HHI16sI")
"""sockaddr_in6; its port is in the order of the network, and so swapped by hand."""


class InKernel(Wireguard):
    """The kernel's (linux/wireguard.h)."""

    def __init__(self, kernel: Kernel, name: str) -> None:
        super().__init__(name)
        self._kernel = kernel
        self._netlink = Netlink(netlink.GENERIC)
        self._family = _family(self._netlink, b"wireguard")

    def read(self) -> Device:
        """List it and its peers."""
        own: dict[int, bytes] = {}
        peers: dict[bytes, Peer] = {}
        body = _GENERIC.pack(_GET_DEVICE, 1) + attribute(_IFNAME, self.name.encode() + b"\0")
        for message in self._netlink.ask(self._family, body, DUMP):
            found = attributes(message.body[_GENERIC.size :])
            own |= found
            for _, data in every(found.get(_PEERS, b"")):
                key, peer = _read_peer(attributes(data))
                if key in peers:  # its addresses were too many for one message
                    peer = replace(peers[key], allowed=peers[key].allowed | peer.allowed)
                peers[key] = peer
        return Device(
            key=fingerprint(own.get(_PRIVATE, b"")),
            port=struct.unpack("=H", own[_PORT])[0],
            mark=struct.unpack("=I", own[_MARK])[0],
            peers=peers,
        )

    def configure(self, *, private: bytes, port: int, mark: int) -> None:
        """Set them in one message."""
        self._set(
            attribute(_PRIVATE, private),
            attribute(_PORT, struct.pack("=H", port)),
            attribute(_MARK, struct.pack("=I", mark)),
        )

    def change(self, changes: Iterable[Change]) -> None:
        """Set some at a time."""
        entries = (nested(0, *parts) for change in changes for parts in _entries(change))
        while part := list(islice(entries, _AT_ONCE)):
            self._set(nested(_PEERS, *part))

    def remove(self) -> None:
        """Delete the interface."""
        self._netlink.close()
        there = self._kernel.interface(self.name)
        if there is not None:
            self._kernel.delete(there.index)

    def _set(self, *parts: bytes) -> None:
        name = attribute(_IFNAME, self.name.encode() + b"\0")
        body = _GENERIC.pack(_SET_DEVICE, 1) + name + b"".join(parts)
        self._netlink.ask(self._family, body)


def _family(asked: Netlink, name: bytes) -> int:
    """Return the number that a generic family has here (linux/genetlink.h)."""
    body = _GENERIC.pack(_GET_FAMILY, 1) + attribute(_FAMILY_NAME, name + b"\0")
    (found,) = asked.ask(_CONTROL, body)
    number: int = struct.unpack("=H", attributes(found.body[_GENERIC.size :])[_FAMILY_ID])[0]
    return number


def _entries(change: Change) -> Iterator[list[bytes]]:
    """Yield the kernel's entries for a change, as lists of attributes."""
    if change.remove or change.fresh:
        yield [attribute(_KEY, change.key), attribute(_FLAGS, struct.pack("=I", _REMOVE))]
    if change.remove:
        return
    parts = [attribute(_KEY, change.key)]
    if change.endpoint is not None:
        parts.append(attribute(_ENDPOINT, _packed(change.endpoint)))
    if change.keepalive is not None:
        parts.append(attribute(_KEEPALIVE, struct.pack("=H", change.keepalive)))
    flags = _UPDATE_ONLY if change.allowed is None else _REPLACE_ALLOWED
    parts.append(attribute(_FLAGS, struct.pack("=I", flags)))
    if change.allowed is not None:
        parts.append(
            nested(_ALLOWED, *(_network(each) for each in sorted(change.allowed, key=str)))
        )
    yield parts


def _network(network: IpNetwork) -> bytes:
    family = socket.AF_INET if isinstance(network.network_address, IPv4Address) else socket.AF_INET6
    return nested(
        0,
        attribute(_FAMILY, struct.pack("=H", family)),
        attribute(_ADDRESS, network.network_address.packed),
        attribute(_LENGTH, bytes([network.prefixlen])),
    )


def _packed(endpoint: Endpoint) -> bytes:
    """Return a sockaddr_in or sockaddr_in6 (ip(7), ipv6(7))."""
    port = socket.htons(endpoint.port)
    if endpoint.address.version == 4:  # noqa: PLR2004 (the version of IP)
        return struct.pack("=HH4s8x", socket.AF_INET, port, endpoint.address.packed)
    return _INET6.pack(socket.AF_INET6, port, 0, endpoint.address.packed, endpoint.zone)


def _unpacked(data: bytes) -> Endpoint:
    family, port = struct.unpack_from("=HH", data)
    if family == socket.AF_INET:
        return Endpoint(ip_address(data[4:8]), socket.ntohs(port))
    _, _, _, packed, zone = _INET6.unpack_from(data)
    return Endpoint(ip_address(packed), socket.ntohs(port), zone)


def _read_peer(found: Mapping[int, bytes]) -> tuple[bytes, Peer]:
    allowed = (attributes(data) for _, data in every(found.get(_ALLOWED, b"")))
    seconds, nanoseconds = struct.unpack("=qq", found.get(_HANDSHAKE, bytes(16)))
    return found[_KEY], Peer(
        endpoint=_unpacked(found[_ENDPOINT]) if _ENDPOINT in found else None,
        allowed=frozenset(ip_network((each[_ADDRESS], each[_LENGTH][0])) for each in allowed),
        handshake=seconds + nanoseconds / 1e9,
        received=struct.unpack("=Q", found.get(_RECEIVED, bytes(8)))[0],
        sent=struct.unpack("=Q", found.get(_SENT, bytes(8)))[0],
        keepalive=struct.unpack("=H", found.get(_KEEPALIVE, bytes(2)))[0],
    )
