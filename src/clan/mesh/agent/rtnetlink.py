"""Interfaces, addresses, routes and rules as values, and as the kernel's bytes (rtnetlink(7)).

It owns the layout of these messages and sends none. Numbers are those of linux/if_link.h,
if_addr.h, rtnetlink.h and fib_rules.h.
"""

from __future__ import annotations

import socket
import struct
import sys
from dataclasses import dataclass
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import TYPE_CHECKING

from clan.mesh.agent.netlink import attribute, attributes, nested

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IpAddress = IPv4Address | IPv6Address
IpInterface = IPv4Interface | IPv6Interface
IpNetwork = IPv4Network | IPv6Network

MAIN = 254
"""The table in which routes are looked up by themselves."""
ANY = 0
"""Stands for all tables, where one is asked for."""
PROTOCOL = 193
"""Who made a route or rule: us. It is a number that nobody else is known to use (0xC1)."""
METRIC = 1024
"""What the kernel gives an IPv6 route that is given none."""
UNICAST, UNREACHABLE = 1, 7
"""Kinds of routes."""

FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_VERSIONS = {number: version for version, number in FAMILIES.items()}
_BITS = {4: 32, 6: 128}
_ANY = {4: "0.0.0.0/0", 6: "::/0"}

# Attributes, by the kernel's names.
_IFLA_IFNAME, _IFLA_MTU, _IFLA_MASTER, _IFLA_LINKINFO, _IFLA_AF_SPEC, _IFLA_CARRIER = (
    3, 4, 10, 18, 26, 33,
)  # fmt: skip
_INFO_KIND, _INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE = 1, 8, b"\x01"
_IFA_ADDRESS, _IFA_LOCAL, _IFA_FLAGS = 1, 2, 8
_RTA_DST, _RTA_OIF, _RTA_GATEWAY, _RTA_PRIORITY, _RTA_PREFSRC, _RTA_METRICS = 1, 4, 5, 6, 7, 8
_RTA_MULTIPATH, _RTA_TABLE, _RTA_MARK, _RTA_VIA = 9, 15, 16, 18
_RTAX_MTU = 2
_FRA_PRIORITY, _FRA_MARK, _FRA_TABLE, _FRA_MASK, _FRA_PROTOCOL = 6, 10, 15, 16, 21

_LINK = struct.Struct("=BxHiII")
_ADDRESS = struct.Struct("=BBBBI")
_ROUTE = struct.Struct("=BBBBBBBBI")
_NEXT = struct.Struct("=HBBi")

_UP, _LOOPBACK, _LOWER_UP = 0x1, 0x8, 0x10000
_PERMANENT, _TENTATIVE, _DEPRECATED, _NO_DAD, _NO_ROUTE = 0x80, 0x40, 0x20, 0x2, 0x200
_UNUSABLE = _TENTATIVE | 0x8
"""An address that is being looked for on the LAN, or was found there."""
_CLONED, _ONLINK = 0x200, 0x4
_AS_MADE = 0x2000
"""RTM_F_FIB_MATCH: the route that was found, as somebody made it."""
_HOST, _LINK_SCOPE = 254, 253
_TO_TABLE, _INVERTED = 1, 0x2


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A network interface; `kind` is the kernel's word, empty for hardware.

    `part_of` is the index of the bridge or bond that it is a port of, or 0.
    """

    index: int
    name: str
    kind: str
    up: bool
    carrier: bool
    loopback: bool
    mtu: int
    part_of: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """An address of an interface. A usable one is not being tested; a deprecated one is leaving."""

    index: int
    address: IpInterface
    usable: bool = True
    deprecated: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """A route; `index` is its interface's, 0 for one that leads nowhere.

    `source` is the address that what is sent has, `mtu` the longest packet, in bytes, if not the
    interface's. `onlink` holds the gateway for a neighbour, whatever its address.
    """

    to: IpNetwork
    index: int = 0
    gateway: IpAddress | None = None
    source: IpAddress | None = None
    metric: int = METRIC
    table: int = MAIN
    protocol: int = PROTOCOL
    kind: int = UNICAST
    mtu: int = 0
    onlink: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """What carries a mark is looked up in a table. `family` is 4 or 6; lower priorities first.

    A mark of None is that of others' rules, which look at something else, or do something else.
    """

    family: int
    priority: int
    mark: int | None
    table: int
    mask: int = 0xFFFFFFFF
    protocol: int = PROTOCOL


def link_body(index: int = 0, *, flags: int = 0, change: int = 0) -> bytes:
    """Return the head of a message on an interface."""
    return _LINK.pack(socket.AF_UNSPEC, 0, index, flags, change)


def link_up(index: int, *, up: bool) -> bytes:
    """Return what brings an interface up, or down."""
    return link_body(index, flags=_UP if up else 0, change=_UP)


def link_mtu(index: int, mtu: int) -> bytes:
    """Return what sets an interface's MTU, in bytes."""
    return link_body(index) + attribute(_IFLA_MTU, struct.pack("=I", mtu))


def link_new(name: str, kind: str) -> bytes:
    """Return what makes an interface."""
    return (
        link_body()
        + attribute(_IFLA_IFNAME, name.encode() + b"\0")
        + nested(_IFLA_LINKINFO, attribute(_INFO_KIND, kind.encode()))
    )


def link_by_name(name: str) -> bytes:
    """Return what asks for an interface."""
    return link_body() + attribute(_IFLA_IFNAME, name.encode() + b"\0")


def link_without_own_address(index: int) -> bytes:
    """Return what keeps an interface from giving itself an IPv6 address."""
    none = attribute(_INET6_ADDR_GEN_MODE, _ADDR_GEN_NONE)
    return link_body(index) + nested(_IFLA_AF_SPEC, nested(socket.AF_INET6, none))


def read_link(body: bytes) -> Interface | None:
    """Read an interface; None where it is about one as a port of a bridge, or such."""
    family, _, index, flags, _ = _LINK.unpack_from(body)
    if family != socket.AF_UNSPEC:
        return None
    found = attributes(body[_LINK.size :])
    carrier = found[_IFLA_CARRIER] != b"\0" if _IFLA_CARRIER in found else bool(flags & _LOWER_UP)
    return Interface(
        index=index,
        name=_text(found.get(_IFLA_IFNAME, b"")),
        kind=_text(attributes(found.get(_IFLA_LINKINFO, b"")).get(_INFO_KIND, b"")),
        up=bool(flags & _UP),
        carrier=carrier,
        loopback=bool(flags & _LOOPBACK),
        mtu=_number(found, _IFLA_MTU),
        part_of=_number(found, _IFLA_MASTER),
    )


def address_body(index: int, address: IpInterface) -> bytes:
    """Return what adds or removes an address: at once, and without a route to its network."""
    family = FAMILIES[address.version]
    length = address.network.prefixlen
    scope = _LINK_SCOPE if address.is_link_local else _HOST if address.is_loopback else 0
    flags = _PERMANENT | _NO_DAD
    if not address.is_link_local:
        flags |= _NO_ROUTE
    head = _ADDRESS.pack(family, length, flags & 0xFF, scope, index)
    packed = address.ip.packed
    return (
        head
        + attribute(_IFA_LOCAL, packed)
        + attribute(_IFA_ADDRESS, packed)
        + attribute(_IFA_FLAGS, struct.pack("=I", flags))
    )


def addresses_body() -> bytes:
    """Return what asks for all addresses."""
    return _ADDRESS.pack(socket.AF_UNSPEC, 0, 0, 0, 0)


def read_address(body: bytes) -> Address | None:
    """Read an address; None for one of a family that is not ours to know."""
    family, length, flags, _, index = _ADDRESS.unpack_from(body)
    found = attributes(body[_ADDRESS.size :])
    packed = found.get(_IFA_LOCAL) or found.get(
        _IFA_ADDRESS
    )  # IPv4: the near end, where there are two
    if family not in _VERSIONS or packed is None:
        return None
    flags = _number(found, _IFA_FLAGS) or flags
    return Address(
        index=index,
        address=ip_interface((packed, length)),
        usable=not flags & _UNUSABLE,
        deprecated=bool(flags & _DEPRECATED),
    )


def route_body(route: Route) -> bytes:
    """Return what makes or deletes a route."""
    version = route.to.version
    is_near = version == 4 and route.gateway is None and route.kind == UNICAST  # noqa: PLR2004
    head = _ROUTE.pack(
        FAMILIES[version],
        route.to.prefixlen,
        0,
        0,
        0,  # the table is an attribute, as its number may be long
        route.protocol,
        _LINK_SCOPE if is_near else 0,
        route.kind,
        _ONLINK if route.onlink else 0,
    )
    parts = [
        attribute(_RTA_DST, route.to.network_address.packed),
        attribute(_RTA_TABLE, struct.pack("=I", route.table)),
        attribute(_RTA_PRIORITY, struct.pack("=I", route.metric)),
    ]
    if route.index:
        parts.append(attribute(_RTA_OIF, struct.pack("=i", route.index)))
    if route.gateway is not None:
        # IPv4 by way of an IPv6 neighbour (RFC 5549) is written otherwise.
        packed = route.gateway.packed
        if route.gateway.version == version:
            parts.append(attribute(_RTA_GATEWAY, packed))
        else:
            parts.append(
                attribute(_RTA_VIA, struct.pack("=H", FAMILIES[route.gateway.version]) + packed)
            )
    if route.source is not None:
        parts.append(attribute(_RTA_PREFSRC, route.source.packed))
    if route.mtu:
        parts.append(nested(_RTA_METRICS, attribute(_RTAX_MTU, struct.pack("=I", route.mtu))))
    return head + b"".join(parts)


def routes_body(version: int, table: int, protocol: int = 0) -> bytes:
    """Return what asks for a table's routes, those of one protocol or all."""
    head = _ROUTE.pack(FAMILIES[version], 0, 0, 0, 0, protocol, 0, 0, 0)
    return head + attribute(_RTA_TABLE, struct.pack("=I", table))


def route_to(address: IpAddress, mark: int) -> bytes:
    """Return what asks for the route that a packet with a mark takes."""
    length = address.max_prefixlen
    head = _ROUTE.pack(FAMILIES[address.version], length, 0, 0, 0, 0, 0, 0, _AS_MADE)
    return (
        head + attribute(_RTA_DST, address.packed) + attribute(_RTA_MARK, struct.pack("=I", mark))
    )


def read_routes(body: bytes) -> Iterator[Route]:
    """Read a route, as one for each of its gateways; none where it is of no kind known here."""
    family, length, _, _, table, protocol, _, kind, flags = _ROUTE.unpack_from(body)
    version = _VERSIONS.get(family)
    if version is None or flags & _CLONED:
        return
    found = attributes(body[_ROUTE.size :])
    to = ip_network((found[_RTA_DST], length)) if _RTA_DST in found else ip_network(_ANY[version])
    source = ip_address(found[_RTA_PREFSRC]) if _RTA_PREFSRC in found else None
    ways = [(_number(found, _RTA_OIF), flags, found)]
    if _RTA_MULTIPATH in found:
        ways = list(_ways(found[_RTA_MULTIPATH]))
    for index, way_flags, said in ways:
        yield Route(
            to=to,
            index=index if kind == UNICAST else 0,
            gateway=_gateway(said),
            source=source,
            metric=_number(found, _RTA_PRIORITY),
            table=_number(found, _RTA_TABLE) or table,
            protocol=protocol,
            kind=kind,
            mtu=_number(attributes(found.get(_RTA_METRICS, b"")), _RTAX_MTU),
            onlink=bool(way_flags & _ONLINK),
        )


def _ways(data: bytes) -> Iterator[tuple[int, int, Mapping[int, bytes]]]:
    """Yield the interface, flags and attributes of each way of a multipath route."""
    at = 0
    while at + _NEXT.size <= len(data):
        length, flags, _, index = _NEXT.unpack_from(data, at)
        if length < _NEXT.size:
            return
        yield index, flags, attributes(data[at + _NEXT.size : at + length])
        at += (length + 3) & ~3


def _gateway(found: Mapping[int, bytes]) -> IpAddress | None:
    if _RTA_GATEWAY in found:
        return ip_address(found[_RTA_GATEWAY])
    return ip_address(found[_RTA_VIA][2:]) if _RTA_VIA in found else None


def rule_body(rule: Rule) -> bytes:
    """Return what makes or deletes a rule that has a mark."""
    head = _ROUTE.pack(FAMILIES[rule.family], 0, 0, 0, 0, 0, 0, _TO_TABLE, 0)
    return head + b"".join(
        (
            attribute(_FRA_PRIORITY, struct.pack("=I", rule.priority)),
            attribute(_FRA_MARK, struct.pack("=I", rule.mark or 0)),
            attribute(_FRA_MASK, struct.pack("=I", rule.mask)),
            attribute(_FRA_TABLE, struct.pack("=I", rule.table)),
            attribute(_FRA_PROTOCOL, bytes([rule.protocol])),
        )
    )


def rules_body(version: int) -> bytes:
    """Return what asks for a family's rules."""
    return _ROUTE.pack(FAMILIES[version], 0, 0, 0, 0, 0, 0, 0, 0)


def read_rule(body: bytes) -> Rule | None:
    """Read a rule; None for one that is not of IP."""
    family, _, _, _, table, _, _, action, flags = _ROUTE.unpack_from(body)
    found = attributes(body[_ROUTE.size :])
    by_mark = _FRA_MARK in found and action == _TO_TABLE and not flags & _INVERTED
    if family not in _VERSIONS:
        return None
    return Rule(
        family=_VERSIONS[family],
        priority=_number(found, _FRA_PRIORITY),
        mark=_number(found, _FRA_MARK) if by_mark else None,
        mask=_number(found, _FRA_MASK),
        table=_number(found, _FRA_TABLE) or table,
        protocol=found.get(_FRA_PROTOCOL, b"\0")[0],
    )


def _number(found: Mapping[int, bytes], kind: int) -> int:
    data = found.get(kind, b"")
    return int.from_bytes(data, sys.byteorder)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("utf-8", "replace")
