"""This machine's network, through the kernel: interfaces, addresses, routes, rules, and events.

Everything but `create` may be asked for twice: what is so already, or gone already, is no fault.
The namespace is the one in which `Kernel` or `Events` is made.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from clan.mesh.agent import netlink, rtnetlink
from clan.mesh.agent.netlink import CREATE, DUMP, EXCLUSIVE, REPLACE, Netlink, NetlinkError
from clan.mesh.agent.rtnetlink import FAMILIES, MAIN, PROTOCOL, Address, Interface, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from clan.mesh.agent.rtnetlink import IpAddress, IpInterface

_NEW_LINK, _DELETE_LINK, _GET_LINK, _SET_LINK = 16, 17, 18, 19
_NEW_ADDRESS, _DELETE_ADDRESS, _GET_ADDRESS = 20, 21, 22
_NEW_ROUTE, _DELETE_ROUTE, _GET_ROUTE = 24, 25, 26
_NEW_RULE, _DELETE_RULE, _GET_RULE = 32, 33, 34
_GROUPS = (1, 5, 7, 8, 9, 11, 19)
"""Events of links, and of addresses, routes and rules of IPv4 and of IPv6."""

_ABSENT = frozenset({errno.ENODEV, errno.ENOENT, errno.ESRCH, errno.EADDRNOTAVAIL})
"""What the kernel says of something that is not there."""

_NO_WAY = frozenset({errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EACCES, errno.EINVAL})
"""What it says where no route leads there, or one that forbids it (`unreachable`, `blackhole`)."""

_TUNSETIFF, _TUNSETPERSIST = 0x400454CA, 0x400454CB
_TUN_WITHOUT_HEADER = 0x1001
"""IFF_TUN | IFF_NO_PI (linux/if_tun.h)."""

WIREGUARD, TUN = "wireguard", "tun"
"""The kinds of interfaces that are made here."""


class Kernel:
    """The network of the namespace in which this is made. Needs CAP_NET_ADMIN to change it."""

    def __init__(self) -> None:
        self._netlink = Netlink(netlink.ROUTE)
        self.port = self._netlink.port
        """By which events tell what was done by this."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the socket; what was made stays."""
        self._netlink.close()

    def interfaces(self) -> dict[int, Interface]:
        """Return all interfaces by index. Raises NetlinkError."""
        found = self._netlink.ask(_GET_LINK, rtnetlink.link_body(), DUMP)
        read = (rtnetlink.read_link(each.body) for each in found)
        return {each.index: each for each in read if each is not None}

    def interface(self, name: str) -> Interface | None:
        """Return an interface, None where there is none of that name. Raises NetlinkError."""
        try:
            (found,) = self._netlink.ask(_GET_LINK, rtnetlink.link_by_name(name))
        except NetlinkError as fault:
            if fault.errno not in _ABSENT:
                raise
            return None
        return rtnetlink.read_link(found.body)

    def create(self, name: str, kind: str) -> int:
        """Make an interface, WIREGUARD or TUN, and return its index; it is not up yet.

        It gives itself no address. A TUN is made where the caller is, and stays whether or not a
        process has it open, with its addresses and routes. Raises NetlinkError: EOPNOTSUPP where
        the kernel makes none.
        """
        if kind == TUN:
            _make_tun(name)
        else:
            self._netlink.ask(_NEW_LINK, rtnetlink.link_new(name, kind), CREATE | EXCLUSIVE)
        made = self.interface(name)
        if made is None:
            raise NetlinkError(errno.ENODEV, f"the interface {name} went away while it was made")
        with contextlib.suppress(NetlinkError):  # without IPv6 there is nothing to keep it from
            self._netlink.ask(_SET_LINK, rtnetlink.link_without_own_address(made.index))
        return made.index

    def delete(self, index: int) -> None:
        """Take an interface away, with all addresses and routes on it. Raises NetlinkError."""
        with _absent_is_fine():
            self._netlink.ask(_DELETE_LINK, rtnetlink.link_body(index))

    def set_up(self, index: int, *, up: bool = True) -> None:
        """Bring an interface up, or down. Raises NetlinkError."""
        self._netlink.ask(_SET_LINK, rtnetlink.link_up(index, up=up))

    def set_mtu(self, index: int, mtu: int) -> None:
        """Set an interface's MTU, in bytes. Below 1280 it would lose IPv6. Raises NetlinkError."""
        if mtu < LEAST_MTU:
            raise NetlinkError(errno.EINVAL, f"an MTU of {mtu} is too small for IPv6")
        self._netlink.ask(_SET_LINK, rtnetlink.link_mtu(index, mtu))

    def addresses(self) -> list[Address]:
        """Return the addresses of all interfaces. Raises NetlinkError."""
        found = self._netlink.ask(_GET_ADDRESS, rtnetlink.addresses_body(), DUMP)
        read = (rtnetlink.read_address(each.body) for each in found)
        return [each for each in read if each is not None]

    def add_address(self, index: int, address: IpInterface) -> None:
        """Give an interface an address, usable at once. Raises NetlinkError.

        Only a link-local one brings the route to its network.
        """
        body = rtnetlink.address_body(index, address)
        self._netlink.ask(_NEW_ADDRESS, body, CREATE | REPLACE)

    def remove_address(self, index: int, address: IpInterface) -> None:
        """Take an address from an interface. Raises NetlinkError."""
        with _absent_is_fine():
            self._netlink.ask(_DELETE_ADDRESS, rtnetlink.address_body(index, address))

    def routes(self, *, table: int = MAIN, protocol: int = 0) -> list[Route]:
        """Return a table's routes, of both versions of IP. Raises NetlinkError.

        `protocol` is who made them (PROTOCOL is us), 0 for anyone.
        """
        found = []
        for version in FAMILIES:
            body = rtnetlink.routes_body(version, table, protocol)
            with _absent_is_fine():
                found += self._netlink.ask(_GET_ROUTE, body, DUMP)
        return [route for each in found for route in rtnetlink.read_routes(each.body)]

    def route(self, to: IpAddress, *, mark: int = 0) -> Route | None:
        """Return the route that a packet with a mark takes, the first of several that share it.

        None is for no way there, and for this machine itself. Raises NetlinkError.
        """
        try:
            found = self._netlink.ask(_GET_ROUTE, rtnetlink.route_to(to, mark))
        except NetlinkError as fault:
            if fault.errno not in _NO_WAY:
                raise
            return None
        routes = (route for each in found for route in rtnetlink.read_routes(each.body))
        return next((route for route in routes if route.kind == rtnetlink.UNICAST), None)

    def set_route(self, route: Route) -> None:
        """Make a route, in place of the one to there with its metric. Raises NetlinkError.

        The kernel swaps the two: there is no moment without either.
        """
        self._netlink.ask(_NEW_ROUTE, rtnetlink.route_body(route), CREATE | REPLACE)

    def delete_route(self, route: Route) -> None:
        """Delete a route. Raises NetlinkError."""
        with _absent_is_fine():
            self._netlink.ask(_DELETE_ROUTE, rtnetlink.route_body(route))

    def settle_routes(self, wanted: Iterable[Route], *, table: int) -> list[str]:
        """Have exactly the wanted routes of those in a table that are ours; say what was changed.

        New ones come before old ones go. Raises NetlinkError for the first that cannot be made,
        when all others are done.
        """
        want = {_place(route): route for route in wanted}
        there = {_place(route): route for route in self.routes(table=table, protocol=PROTOCOL)}
        steps = [
            (self.set_route, route, "set") for at, route in want.items() if there.get(at) != route
        ]
        steps += [
            (self.delete_route, route, "deleted") for at, route in there.items() if at not in want
        ]
        done, fault = [], None
        for act, route, word in steps:
            try:
                act(route)
            except NetlinkError as refused:
                fault = fault or NetlinkError(refused.errno, f"route to {route.to}: {refused}")
            else:
                done.append(f"{word} the route to {route.to}")
        if fault:
            raise fault
        return done

    def rules(self) -> list[Rule]:
        """Return all rules, whosever they are. Raises NetlinkError."""
        found = []
        for version in FAMILIES:
            found += self._netlink.ask(_GET_RULE, rtnetlink.rules_body(version), DUMP)
        read = (rtnetlink.read_rule(each.body) for each in found)
        return [each for each in read if each is not None]

    def settle_rules(self, wanted: Iterable[Rule]) -> list[str]:
        """Have exactly the wanted rules of those that are ours; say what was changed.

        Raises NetlinkError.
        """
        want = set(wanted)
        there = {rule for rule in self.rules() if rule.protocol == PROTOCOL}
        for rule in want - there:
            self._netlink.ask(_NEW_RULE, rtnetlink.rule_body(rule), CREATE | EXCLUSIVE)
        for rule in there - want:
            with _absent_is_fine():
                self._netlink.ask(_DELETE_RULE, rtnetlink.rule_body(rule))
        words = [("made", rule) for rule in want - there] + [
            ("deleted", rule) for rule in there - want
        ]
        return sorted(
            f"{word} the IPv{each.family} rule for mark {each.mark or 0:#x}" for word, each in words
        )


LEAST_MTU = 1280
"""Bytes: the smallest MTU of IPv6 (RFC 8200, section 5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something changed: `what` came, or became so, or (`gone`) is no more.

    `port` is that of the `Kernel` whose doing it is. It is 0 for the kernel's own doing, and
    wherever the kernel does not tell whose it is: addresses of IPv6, some changes of interfaces.
    """

    what: Interface | Address | Route | Rule
    gone: bool
    port: int


class Events:
    """Changes of interfaces, addresses, routes and rules, from the moment this is made."""

    def __init__(self) -> None:
        self._netlink = Netlink(netlink.ROUTE, _GROUPS)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._netlink.fileno()

    def close(self) -> None:
        """Hear no more."""
        self._netlink.close()

    def read(self) -> list[Event]:
        """Return what changed since the last call, in order.

        Raises OverrunError where some of it was lost: then look at everything anew.
        """
        found: list[Event] = []
        for message in self._netlink.events():
            gone = message.kind in {_DELETE_LINK, _DELETE_ADDRESS, _DELETE_ROUTE, _DELETE_RULE}
            found += [
                Event(what=what, gone=gone, port=message.port)
                for what in _read(message.kind, message.body)
            ]
        return found


def _read(kind: int, body: bytes) -> Iterator[Interface | Address | Route | Rule]:
    if kind in {_NEW_ROUTE, _DELETE_ROUTE}:
        yield from rtnetlink.read_routes(body)
    elif kind in _READERS:
        what = _READERS[kind](body)
        if what is not None:
            yield what


_READERS: dict[int, Callable[[bytes], Interface | Address | Rule | None]] = {
    _NEW_LINK: rtnetlink.read_link,
    _DELETE_LINK: rtnetlink.read_link,
    _NEW_ADDRESS: rtnetlink.read_address,
    _DELETE_ADDRESS: rtnetlink.read_address,
    _NEW_RULE: rtnetlink.read_rule,
    _DELETE_RULE: rtnetlink.read_rule,
}


def _place(route: Route) -> tuple[object, int]:
    """Return what only one route of a table can have."""
    return route.to, route.metric


def _make_tun(name: str) -> None:
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    try:
        fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _TUN_WITHOUT_HEADER))
        fcntl.ioctl(device, _TUNSETPERSIST, 1)
    except OSError as fault:
        raise NetlinkError(fault.errno, f"{name}: {fault.strerror}") from None
    finally:
        os.close(device)


@contextlib.contextmanager
def _absent_is_fine() -> Iterator[None]:
    try:
        yield
    except NetlinkError as fault:
        if fault.errno not in _ABSENT:
            raise
