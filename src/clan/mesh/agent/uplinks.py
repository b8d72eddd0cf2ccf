"""The uplinks of this machine: the networks it is attached to now, as the kernel has them.

It owns what counts as one, and the routes by which marked datagrams leave by one alone. Which is
used for what is not decided here.
"""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass, replace
from ipaddress import ip_network
from typing import TYPE_CHECKING

from clan.mesh.agent import marks
from clan.mesh.agent.rtnetlink import PROTOCOL, UNICAST, UNREACHABLE, Route

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.rtnetlink import Address, Interface, IpInterface

WIDEST_HOP = 1420
"""Bytes of what is sent from one member to the next: what WireGuard leaves of an Ethernet frame."""
_ANY = (ip_network("0.0.0.0/0"), ip_network("::/0"))
_LAST = 0xFFFFFF00
"""The metric of the route that ends an uplink's table: after any other."""
_INNER = frozenset({"bridge", "dummy", "ifb", "vrf", "nlmon"})
"""Kinds of interfaces that lead out only where a default route says so: a bridge may be the LAN, or
the network of this machine's containers."""
_PATIENCE = 2.0
"""Seconds for NetworkManager to answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """What sends the packets that another network's tunnel is made of.

    A program, by its control group, with how deep that is and the number that each start changes;
    or the kernel's WireGuard, by its UDP port.
    """

    group: str = ""
    level: int = 0
    number: int = 0
    port: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """An uplink as it is now. `kind` is the kernel's word: empty for hardware, `tun` of overlays.

    `addresses` are those that can be used, link-local ones too. `defaults` are its default routes,
    the preferred first in each version of IP. `works` says that it is up and has a carrier.
    `carrier` is of another network's tunnel, if it is known; `ways` are such a tunnel's routes.
    """

    name: str
    index: int
    kind: str
    works: bool
    mtu: int
    addresses: tuple[IpInterface, ...]
    defaults: tuple[Route, ...]
    metered: bool = False
    carrier: Carrier | None = None
    ways: tuple[Route, ...] = ()


HOPS = Attachment(
    name="hops",
    index=0,
    kind="",
    works=True,
    mtu=WIDEST_HOP,
    addresses=(),
    defaults=(),
)
"""What is no interface of the kernel's: the members by way of which others are reached."""


def look(kernel: Kernel, own: Collection[str] = ()) -> list[Attachment]:
    """Return the uplinks, ordered by name; `own` are the mesh's interfaces. Raises NetlinkError."""
    return attachments(
        kernel.interfaces().values(), kernel.addresses(), kernel.routes(), metered(), own
    )


def attachments(
    interfaces: Iterable[Interface],
    addresses: Iterable[Address],
    routes: Iterable[Route],
    metered: Collection[str] = (),
    own: Collection[str] = (),
) -> list[Attachment]:
    """Work out the uplinks from what the kernel has."""
    addresses = list(addresses)
    defaults = sorted(
        (route for route in routes if route.to in _ANY and route.kind == UNICAST),
        key=lambda route: (route.to.version, route.metric),
    )
    found = []
    for each in interfaces:
        leads_out = any(route.index == each.index for route in defaults)
        is_ours = each.loopback or each.part_of or each.name in own
        if is_ours or (each.kind in _INNER and not leads_out):
            continue
        found.append(
            Attachment(
                name=each.name,
                index=each.index,
                kind=each.kind,
                works=each.up and each.carrier,
                mtu=each.mtu,
                addresses=tuple(
                    address.address
                    for address in addresses
                    if address.index == each.index and address.usable and not address.deprecated
                ),
                defaults=tuple(route for route in defaults if route.index == each.index),
                metered=each.name in metered,
            )
        )
    return sorted(found, key=lambda each: each.name)


def table(uplink: int, routes: Iterable[Route]) -> list[Route]:
    """Return the routes of an uplink's table: its own of the main table, and then an end.

    What these do not lead to has no route at all, so that it does not go by another uplink.
    """
    number = marks.table(uplink)
    own = [
        replace(route, table=number, protocol=PROTOCOL)
        for route in routes
        if route.index == uplink and route.kind == UNICAST and route.protocol != PROTOCOL
    ]
    ends = [Route(to=to, table=number, kind=UNREACHABLE, metric=_LAST) for to in _ANY]
    return [*own, *ends]


def metered() -> frozenset[str]:
    """Return the interfaces of which NetworkManager says, or guesses, that traffic costs money."""
    if shutil.which("nmcli") is None:
        return frozenset()
    words = ["nmcli", "-t", "-f", "GENERAL.DEVICE,GENERAL.METERED", "device", "show"]
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=_PATIENCE)
    except (OSError, subprocess.TimeoutExpired):
        return frozenset()  # it is being stopped, or hangs: nothing is known then
    return metered_of(done.stdout)


def metered_of(shown: str) -> frozenset[str]:
    """Read the metered interfaces from what `nmcli -t … device show` prints."""
    found, name = set(), ""
    for line in shown.splitlines():
        key, _, value = line.partition(":")
        if key == "GENERAL.DEVICE":
            name = value
        elif key == "GENERAL.METERED" and value.startswith("yes"):
            found.add(name)
    return frozenset(found)
