"""What the mesh needs of this machine beside its interfaces: addresses, routes, rules, firewall.

All of it is brought to what is wanted whenever something changed, and it does not matter whose
doing that was: what systemd-networkd deletes on a restart comes back.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING

from clan.mesh.agent import firewall, lan, marks, uplinks
from clan.mesh.agent.firewall import Entry, Guard
from clan.mesh.agent.interfaces import PORT
from clan.mesh.agent.rtnetlink import ANY, MAIN, PROTOCOL, UNREACHABLE, Route
from clan.mesh.hops import labels
from clan.mesh.link import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from ipaddress import IPv6Network

    from clan.mesh.agent.interfaces import Interface
    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.opening import Opening
    from clan.mesh.agent.uplinks import Attachment, Carrier
    from clan.mesh.desire import Member, Wish


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """Where a peer's route leads: an interface's index, and bytes of the longest packet."""

    index: int
    mtu: int


class Ground:
    """This machine's; `opening` has others' firewalls let it in."""

    def __init__(self, kernel: Kernel, prefix: IPv6Network, opening: Opening) -> None:
        self._kernel = kernel
        self._prefix = prefix
        self._opening = opening
        self._guard: Guard | None = None
        self._over: frozenset[int] = frozenset()
        self._ports: list[tuple[str, int, str]] | None = None
        self._tables: set[int] | None = None

    def settle(
        self,
        wish: Wish,
        interfaces: Iterable[Interface],
        attachments: Iterable[Attachment],
        ways: Mapping[str, Way],
        *,
        streams: int | None = None,
    ) -> None:
        """Have all of it; `streams` is the TCP port at which TLS is taken.

        Raises OSError or StepError for what cannot be had.
        """
        interfaces, attachments = list(interfaces), list(attachments)
        self._over = frozenset(each.index for each in interfaces if not each.uplink.index)
        served = [("tcp", streams, each.name) for each in attachments if streams and each.works]
        # Before there is an address or a link that somebody could misuse.
        carriers = tuple(each.carrier for each in attachments if each.carrier is not None)
        bound = self._bound(interfaces)
        self._shield(wish, interfaces, bound, served, carriers)
        self._addresses(wish)
        led = {marks.mark(each.own.number): each.uplink.index for each in bound}
        self._kernel.settle_rules(marks.rules(led, self._kernel.rules()))
        routes = self._kernel.routes()
        for each in attachments:
            table = uplinks.table(each.index, [*each.ways, *routes])
            self._kernel.settle_routes(table, table=marks.table(each.index))
        self._clear(marks.table(each) for each in (*led.values(), *(a.index for a in attachments)))
        self._kernel.settle_routes(self._routes(wish, ways), table=MAIN)

    def _clear(self, in_use: Iterable[int]) -> None:
        """Take away what is left in the tables of uplinks that are gone."""
        if self._tables is None:
            left = self._kernel.routes(table=ANY, protocol=PROTOCOL)
            self._tables = {each.table for each in left} - {MAIN}
        now = set(in_use)
        for number in self._tables - now:
            self._kernel.settle_routes((), table=number)
        self._tables = now

    def lead(self, wish: Wish, peer: str, way: Way) -> None:
        """Let a peer's routes go another way, in one moment each. Raises OSError."""
        if wish.member is not None:
            for route in self._routes_to(wish.member, wish.peers[peer], way):
                self._kernel.set_route(route)

    def forget_guard(self) -> None:
        """Note that somebody took the firewall's table away."""
        self._guard = None

    def forget_ports(self) -> None:
        """Note that somebody else's firewall may rule that did not before."""
        self._ports = None

    def _shield(
        self,
        wish: Wish,
        interfaces: list[Interface],
        bound: list[Interface],
        served: list[tuple[str, int, str]],
        carriers: tuple[Carrier, ...],
    ) -> None:
        members = wish.peers.values()
        guard = Guard(
            prefix=self._prefix,
            alias=wish.aliases,
            interfaces=tuple(sorted(each.own.interface for each in interfaces)),
            entries=tuple(
                Entry(
                    uplink=each.own.slot.uplink,
                    port=each.own.port,
                    mark=marks.mark(each.own.number),
                )
                for each in sorted(bound, key=lambda each: each.own.number)
                if each.own.slot.kind is not Kind.TLS
            ),
            ways=labels.prefix(self._prefix),
            over=tuple(
                Entry(
                    uplink=each.own.interface,
                    port=each.own.port,
                    mark=marks.mark(each.own.number),
                )
                for each in sorted(interfaces, key=lambda each: each.own.number)
                if not each.uplink.index
            ),
            carriers=carriers,
            relayed=tuple(sorted(e.own.port for e in interfaces if e.own.slot.kind is Kind.RELAY)),
            peers=(
                *(each.address for each in members),
                *(each.alias for each in members if each.alias is not None),
            ),
        )
        if guard != self._guard:
            firewall.uphold(guard)
            self._guard = guard
        ports = sorted({*_outside(interfaces), *_inside(interfaces), *served})
        if ports != self._ports:
            self._opening.want(ports)
            self._ports = ports

    def _bound(self, interfaces: Iterable[Interface]) -> list[Interface]:
        """Return the interfaces whose datagrams have to be bound to their uplinks.

        None where nothing could lead them elsewhere, as there is no interface beside one uplink and
        the mesh's own: so it is on most servers. Rules and marks that bind cost the kernel some
        hundredths of what a datagram takes.
        """
        there = {each.name for each in self._kernel.interfaces().values() if not each.loopback}
        others = there - {each.own.interface for each in interfaces}
        return _on_uplinks(interfaces) if len(others) > 1 else []

    def _addresses(self, wish: Wish) -> None:
        loopback = next(each for each in self._kernel.interfaces().values() if each.loopback)
        wanted = set()
        if wish.member is not None:
            wanted = {
                ip_interface(each)
                for each in (wish.member.address, wish.member.alias)
                if each is not None
            }
            if wish.member.ways is not None:
                wanted.add(ip_interface(wish.member.ways.network_address))
        there = {
            each.address
            for each in self._kernel.addresses()
            if each.index == loopback.index
            and (
                each.address.ip in self._prefix
                or each.address.ip in labels.prefix(self._prefix)
                or (wish.aliases is not None and each.address.ip in wish.aliases)
            )
        }
        for address in wanted - there:
            self._kernel.add_address(loopback.index, address)
        for address in there - wanted:
            self._kernel.remove_address(loopback.index, address)

    def _routes(self, wish: Wish, ways: Mapping[str, Way]) -> list[Route]:
        found = [
            Route(to=self._prefix, kind=UNREACHABLE),
            Route(to=labels.prefix(self._prefix), kind=UNREACHABLE),
        ]
        if wish.aliases is not None:
            found.append(Route(to=wish.aliases, kind=UNREACHABLE))
        if wish.member is not None:
            for name, way in ways.items():
                if name in wish.peers:
                    found += self._routes_to(wish.member, wish.peers[name], way)
        return found

    def _routes_to(self, own: Member, peer: Member, way: Way) -> list[Route]:
        found = [
            Route(to=ip_network(peer.address), index=way.index, source=own.address, mtu=way.mtu),
        ]
        if peer.alias is not None and own.alias is not None:
            to = ip_network(peer.alias)
            found.append(Route(to=to, index=way.index, source=own.alias, mtu=way.mtu))
        if peer.ways is not None and own.ways is not None:
            if way.index in self._over:  # no way over members goes by another one
                found.append(Route(to=peer.ways, kind=UNREACHABLE))
            else:
                # As long as any: what the link does not take whole is cut outside of it.
                source = own.ways.network_address
                hop = Route(to=peer.ways, index=way.index, source=source, mtu=uplinks.WIDEST_HOP)
                found.append(hop)
        return found


def _on_uplinks(interfaces: Iterable[Interface]) -> list[Interface]:
    """Return the interfaces that have an uplink of the kernel's."""
    return [each for each in interfaces if each.uplink.index]


def _outside(interfaces: Iterable[Interface]) -> Iterator[tuple[str, int, str]]:
    """Yield what is let in by uplinks: WireGuard, and on LANs the calls and the map."""
    for each in _on_uplinks(interfaces):
        if each.own.slot.kind is Kind.TLS:
            continue  # nothing but the process of streams sends to it
        yield "udp", each.own.port, each.own.slot.uplink
        if each.own.slot.kind is Kind.LAN:
            yield "udp", lan.PORT, each.own.slot.uplink
            yield "tcp", lan.PORT, each.own.slot.uplink


def _inside(interfaces: list[Interface]) -> Iterator[tuple[str, int, str]]:
    """Yield what is let in by links: what agents say to each other, and what comes by others."""
    over = [each.own.port for each in interfaces if not each.uplink.index]
    for each in interfaces:
        yield from (("udp", port, each.own.interface) for port in over if each.uplink.index)
        yield "udp", PORT, each.own.interface
        yield "tcp", PORT, each.own.interface
