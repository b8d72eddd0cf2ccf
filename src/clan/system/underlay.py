"""Where this computer is: a name for the networks it is attached to now.

It is what measurements are remembered under, so that what failed in the café does not count at
home. Nothing is sent to find it out.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import struct
import time
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

PROC_NET = Path("/proc/net")
# Documentation addresses (RFC 5737, RFC 3849): connecting a UDP socket to one sends nothing but
# makes the kernel choose a source address.
SOMEWHERE = ((socket.AF_INET, "192.0.2.1"), (socket.AF_INET6, "2001:db8::1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Underlay:
    """The networks this computer is on: a key to remember them by, and what it would send from.

    `sources` are the networks (a /24, an IPv6 /64) it would send from to somewhere far away,
    `links` those it is attached to (IPv4, on Linux), which is all that a LAN without a router has.
    """

    key: str
    sources: tuple[str, ...]
    links: tuple[str, ...]


def observe_underlay() -> Underlay:
    """Return where this computer is, from its default routes and the addresses it would use.

    A router is known by its hardware address where the kernel has it (IPv4 on Linux): two homes
    with one private range are then two places.
    """
    sources = tuple(network for family, target in SOMEWHERE if (network := _source(family, target)))
    routers, links = _routes()
    # Links count only where there is no router: a VPN or a container's bridge is no other place.
    text = "\n".join([*routers, *(sources or links)])
    key = hashlib.sha256(text.encode()).hexdigest()[:16]
    return Underlay(key=key, sources=sources, links=links)


def lately(observe: Callable[[], Underlay], age: float) -> Callable[[], Underlay]:
    """Return `observe` with what it found kept for `age` seconds: many may ask at once."""
    kept: Underlay | None = None
    due = 0.0

    def look() -> Underlay:
        nonlocal kept, due
        now = time.monotonic()
        if kept is None or now >= due:
            kept, due = observe(), now + age
        return kept

    return look


def _source(family: int, target: str) -> str | None:
    """Return the network this computer would send from: a /24, or an IPv6 /64."""
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((target, 9))
            address = ipaddress.ip_address(probe.getsockname()[0].partition("%")[0])
    except OSError:
        return None
    if isinstance(address, IPv6Address) and not _leads_out(address, IPv6Address(target)):
        return None
    # Not the address itself: IPv6 privacy addresses change every day in one place.
    length = 24 if address.version == 4 else 64  # noqa: PLR2004 (the versions of IP)
    return str(ipaddress.ip_network((address, length), strict=False))


def _leads_out(source: IPv6Address, target: IPv6Address) -> bool:
    """Whether an address belongs to an interface with a route to the target.

    While the address from a router is still being checked for duplicates (RFC 4862), the kernel
    takes one of any other interface, such as a tunnel's: that is no network to send from.
    """
    try:
        addresses = (PROC_NET / "if_inet6").read_text("ascii").splitlines()
        routes = (PROC_NET / "ipv6_route").read_text("ascii").splitlines()
    except OSError:
        return True  # not Linux
    own = {name for number, *_, name in map(str.split, addresses) if _six(number) == source}
    leading = {
        name
        for number, length, *_, name in map(str.split, routes)
        # Where nothing leads, the kernel says so by a route to `lo`.
        if name != "lo" and target in IPv6Network((_six(number), int(length, 16)))
    }
    return not own.isdisjoint(leading)


def _six(number: str) -> IPv6Address:
    """Read an address as the kernel's tables have it: 32 hexadecimal digits."""
    return IPv6Address(int(number, 16))


def _routes() -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the IPv4 default routers as `interface address hardware-address`, and the links."""
    try:
        routes = (PROC_NET / "route").read_text("ascii").splitlines()[1:]
        neighbours = (PROC_NET / "arp").read_text("ascii").splitlines()[1:]
    except OSError:
        return (), ()
    hardware = {row[0]: row[3] for line in neighbours if (row := line.split())}
    routers = set()
    links = set()
    for line in routes:
        interface, destination, gateway, *_ = line.split()
        if int(destination, 16) == 0:
            address = _address(gateway)
            routers.add(f"{interface} {address} {hardware.get(address, '')}".rstrip())
        elif int(gateway, 16) == 0:
            links.add(f"{interface} {_address(destination)}")
    return tuple(sorted(routers)), tuple(sorted(links))


def _address(word: str) -> str:
    """Read an address as /proc/net/route has it: the kernel's word, in the computer's order."""
    return socket.inet_ntoa(struct.pack("=L", int(word, 16)))
