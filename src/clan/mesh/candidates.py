"""Where the peer of a link may be: each place is a candidate, the likeliest first. Pure.

What is said of a place is a claim, whoever says it; whether somebody is there is measured. No place
is in the clan's own networks: the mesh is not reached through the mesh.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import TYPE_CHECKING

from clan.mesh import nat64
from clan.mesh.hops import labels
from clan.mesh.link import Endpoint, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.chart.content import Machine
    from clan.mesh.chart.links import LinkRecord, PublishedInterface
    from clan.mesh.desire import Known
    from clan.mesh.link import Slot

IpAddress = IPv4Address | IPv6Address


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A call that was heard on a LAN. It is a candidate, never a fact."""

    identity: bytes
    uplink: str
    """Of this machine, on which it came in."""
    interface: str
    """The id of the peer's interface for that LAN, as it says."""
    address: IpAddress
    """Where it came from."""
    at: float
    """Seconds of the monotonic clock."""


@dataclass(frozen=True, slots=True)
class Said:
    """Where a peer says that one of its interfaces is, and when it did. A candidate as well."""

    endpoint: Endpoint
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Ends:
    """A slot of this machine on an uplink, and an interface of a peer's."""

    slot: Slot
    uplink: Attachment
    machine: Machine
    record: LinkRecord
    theirs: PublishedInterface

    @property
    def family(self) -> int:
        """The version of IP of the places: IPv4, between IPv6 alone and IPv4 alone."""
        return self.slot.family if self.slot.family == self.theirs.family else 4


def places(known: Known, ends: Ends) -> Iterator[Endpoint]:
    """Yield where a peer's interface may be found by a slot, the likeliest first.

    With IPv6 alone, what has IPv4 alone is at the address that the NAT64 has for it; the other end
    sees the NAT64's own.
    """
    # What is known for the shortest time is the likeliest: machines move.
    heard = [*_seen(known, ends), *_said(known, ends)]
    heard.sort(key=lambda each: each.at, reverse=True)
    found = (
        *(each.endpoint for each in heard),
        *_listed(known, ends),
        *_reached(ends),
        *_there(known, ends),
    )
    for each in found:
        host = ip_address(each.host)
        if ends.slot.family == ends.family:
            yield each
        elif known.nat64 is not None and isinstance(host, IPv4Address):
            yield Endpoint(host=str(nat64.embed(known.nat64, host)), port=each.port)


def _seen(known: Known, ends: Ends) -> Iterator[Said]:
    """Yield where a peer called from on a slot's LAN.

    Who is on the same LAN is there by its interfaces for the internet too; but a link-local address
    is the LAN's own.
    """
    slot, theirs = ends.slot, ends.theirs
    for each in known.sights:
        is_here = (each.identity, each.uplink) == (ends.machine.identity, slot.uplink)
        if not is_here or each.address.version != theirs.family or not theirs.port:
            continue
        is_there = each.interface == theirs.id
        fits = is_there if slot.kind is Kind.LAN else not each.address.is_link_local
        if fits and theirs.family == slot.family:
            yield Said(Endpoint(host=str(each.address), port=theirs.port), each.at)


def _said(known: Known, ends: Ends) -> Iterator[Said]:
    """Yield where a peer says that its interface is to be found, if it can be there."""
    own = {each.ip for attached in known.attachments for each in attached.addresses}
    said = known.places.get((ends.machine.identity, ends.theirs.id), ())
    for each in said if ends.slot.kind is Kind.INTERNET else ():
        host = ip_address(each.endpoint.host)
        odd = host.is_multicast or host.is_unspecified or host.is_loopback or host.is_link_local
        fits = host.version == ends.family and host not in own and not odd
        if fits and not _inside(host, known):
            yield each


def _listed(known: Known, ends: Ends) -> Iterator[Endpoint]:
    """Yield where the inventory says that a peer is, by address or name, if the slot leads there.

    A name may mean the machine's address for life, which is no place.
    """
    for each in ends.machine.addresses:
        host, port = _numeric(each.host), each.port or ends.theirs.port
        for address in known.hosts.get(each.host, ()) if host is None else (host,):
            fits = address.version == ends.family and port and not _inside(address, known)
            if fits and _leads(ends, address):
                yield Endpoint(host=str(address), port=port)


def _reached(ends: Ends) -> Iterator[Endpoint]:
    """Yield where a peer that relays is reached from outside: most likely so by its other ports."""
    for each in ends.record.reached if ends.slot.kind is Kind.INTERNET else ():
        if ip_address(each.host).version == ends.family and ends.theirs.port:
            yield Endpoint(host=each.host, port=ends.theirs.port)


def _there(known: Known, ends: Ends) -> Iterator[Endpoint]:
    """Yield where a peer says that it is in another network, if the slot leads there."""
    host = _numeric(ends.theirs.network) if ends.slot.kind is Kind.OVERLAY else None
    if host is None or host.version != ends.family or not ends.theirs.port or _inside(host, known):
        return
    if _leads(ends, host) and all(host != each.ip for each in ends.uplink.addresses):
        yield Endpoint(host=str(host), port=ends.theirs.port)


def _leads(ends: Ends, host: IpAddress) -> bool:
    """Whether an address may be reached by a slot: a LAN and a tunnel have only some."""
    if ends.slot.kind is Kind.LAN:
        return any(host in each.network for each in ends.uplink.addresses)
    if ends.slot.kind is Kind.OVERLAY:
        return any(host in each.to for each in ends.uplink.ways)
    return True


def _numeric(host: str) -> IpAddress | None:
    try:
        return ip_address(host)
    except ValueError:
        return None


def _inside(host: IpAddress, known: Known) -> bool:
    """Whether an address is the clan's own: the mesh is not reached through the mesh."""
    networks: tuple[IPv4Network | IPv6Network | None, ...] = (
        known.prefix,
        labels.prefix(known.prefix),
        known.view.content.aliases,
    )
    return any(each is not None and host in each for each in networks)
