"""What a machine wants: from the map, the records, its slots and what it heard, to links. Pure.

A link is possible between a slot of this machine and an interface of the peer's of the same kind,
family and network; and between IPv6 alone and IPv4 alone, which a NAT64 may join. On a LAN the peer
must have been heard there, or have an address of its subnet in the inventory. An overlay must lead
to the address that the peer says it has there. Whether a link works is not asked here: that is
measured.

Nobody is let in whom the map does not list, and no pair of machines is joined of which neither may
reach the other.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping  # noqa: TC003 (dataclasses)
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clan.mesh import identity
from clan.mesh.candidates import Ends, places
from clan.mesh.exchange import Desired, Peer
from clan.mesh.hops import labels
from clan.mesh.link import OVERHEAD, Endpoint, Kind, Link, LinkId, Uplink
from clan.mesh.relay.seat import guess
from clan.mesh.relay.wish import Clan, wants
from clan.mesh.slots import inside
from clan.mesh.tls.frames import Port
from clan.mesh.tls.wants import loopback

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.candidates import IpAddress, Said, Sight
    from clan.mesh.chart.content import Machine
    from clan.mesh.chart.forks import View
    from clan.mesh.chart.links import LinkRecord, PublishedInterface
    from clan.mesh.link import Slot
    from clan.mesh.slots import Own

MOST_ENDPOINTS = 8
"""Places at which one link's peer is looked for."""
LEAST_INSIDE = 1280
"""Bytes that a link takes whole, whatever it takes outside (RFC 8200, section 5)."""
MOST_KEPT = 2
"""Members to which a link is kept open."""
LIFETIME = 30.0
"""Seconds that routers of homes remember a UDP flow for, at least those that forget fast."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """All that a wish comes from."""

    identity: bytes
    """This machine's."""
    prefix: IPv6Network
    view: View
    records: Mapping[bytes, LinkRecord]
    """The latest of each identity, verified."""
    own: tuple[Own, ...]
    """The slots in use."""
    attachments: tuple[Attachment, ...]
    sights: tuple[Sight, ...] = ()
    """The latest first."""
    places: Mapping[tuple[bytes, str], tuple[Said, ...]] = field(default_factory=dict)
    """Where members' interfaces may be, by identity and id, as they say of themselves."""
    ways: Mapping[str, tuple[IPv6Address, ...]] = field(default_factory=dict)
    """Ways over several members to those who are sought or heard so, by name."""
    relayed: Mapping[LinkId, Endpoint] = field(default_factory=dict)
    """Where links that are relayed are registered."""
    hosts: Mapping[str, tuple[IpAddress, ...]] = field(default_factory=dict)
    """What the inventory's names mean, as this machine's resolver says."""
    nat64: IPv6Network | None = None
    """Where a NAT64 has IPv4, if there is one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A peer's key on one interface of this machine's."""

    link: LinkId
    key: bytes
    address: IPv6Address
    """Inside this link."""
    port: int = 0
    """Of the peer's interface outside."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A machine of the map, by its addresses for life."""

    name: str
    identity: bytes
    address: IPv6Address
    alias: IPv4Address | None
    ways: IPv6Network | None = None
    """Addresses of ways that begin with it; None where no two members have a third."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What `step` is told, and what the interfaces are to know."""

    desired: Desired
    member: Member | None = None
    """This machine; None while no map lists it."""
    peers: Mapping[str, Member] = field(default_factory=dict)
    """By name."""
    aliases: IPv4Network | None = None
    remotes: Mapping[LinkId, Remote] = field(default_factory=dict)
    kept: tuple[str, ...] = ()
    """Members to which a link is kept open, so that they can hand on signals."""


def desire(known: Known) -> Wish:
    """Return what is wanted now; nothing while no map that holds lists this machine."""
    content = known.view.content
    machines = content.machines
    here = next((each for each in machines if each.identity == known.identity), None)
    if here is None:
        return Wish(desired=Desired(name=""), aliases=content.aliases)
    uplinks = {
        each.name: Uplink(name=each.name, index=each.index, metered=each.metered)
        for each in known.attachments
    }
    over = [own for own in known.own if own.slot.kind is Kind.HOPS]
    uplinks |= {each.slot.uplink: Uplink(name=each.slot.uplink, index=0) for each in over}
    peers: dict[str, Peer] = {}
    members: dict[str, Member] = {}
    remotes: dict[LinkId, Remote] = {}
    open_to_all: list[Machine] = []
    for machine in machines:
        if machine is here or not _may_talk(known.view, here, machine):
            continue
        members[machine.name] = _member(known, machine)
        record = known.records.get(machine.identity)
        found = [*_links(known, machine, record), *_relayed(known, here, machine)] if record else []
        for link, theirs in _over_members(known, over, machine, record):
            # Whoever comes that way is let in; it is looked for if there is a reason.
            if machine.name in known.ways or not found:
                found.append((link, theirs))
            remotes[link.id] = _remote(machine, link, theirs)
        peers[machine.name] = Peer(links=tuple(link for link, _ in found))
        is_known = machine.addresses or (record is not None and record.reached)
        if is_known and any(link.slot.kind is Kind.INTERNET for link, _ in found):
            open_to_all.append(machine)
        for link, theirs in found:
            remotes[link.id] = _remote(machine, link, theirs)
    kept = _kept(known, open_to_all)
    peers |= {name: replace(peers[name], kept=True) for name in kept}
    return Wish(
        desired=Desired(name=here.name, peers=peers, uplinks=uplinks),
        member=_member(known, here),
        peers=members,
        aliases=content.aliases,
        remotes=remotes,
        kept=kept,
    )


def _kept(known: Known, machines: Iterable[Machine]) -> tuple[str, ...]:
    """Choose those to keep a link to, among those that can be found: relays, and who is listed.

    By a hash of both identities: each machine chooses others, and always the same. First those that
    take streams: they are reached also where nothing but TCP 443 is.
    """

    def place(machine: Machine) -> tuple[bool, bytes]:
        record = known.records.get(machine.identity)
        both = known.identity + machine.identity
        return (
            record is None or record.served is None,
            hashlib.sha256(b"clan mesh kept 1\0" + both).digest(),
        )

    return tuple(each.name for each in sorted(machines, key=place)[:MOST_KEPT])


def _may_talk(view: View, one: Machine, other: Machine) -> bool:
    return bool(view.allowed(one, other) or view.allowed(other, one))


def _member(known: Known, machine: Machine) -> Member:
    members = known.view.content.identities
    label = labels.labels(members)[machine.identity]
    return Member(
        name=machine.name,
        identity=machine.identity,
        address=identity.address(known.prefix, machine.identity),
        alias=machine.alias,
        ways=labels.network(labels.prefix(known.prefix), label) if labels.may_be(members) else None,
    )


def _remote(machine: Machine, link: Link, theirs: PublishedInterface) -> Remote:
    address = inside(machine.identity, theirs.id)
    return Remote(link=link.id, key=theirs.key, address=address, port=theirs.port)


def _over_members(
    known: Known, over: Iterable[Own], machine: Machine, record: LinkRecord | None
) -> Iterator[tuple[Link, PublishedInterface]]:
    """Yield the links to a machine by way of others: more than one while a key is replaced."""
    ways = known.ways.get(machine.name, ())
    interfaces = record.interfaces if record is not None else ()
    for own in over:
        for theirs in interfaces:
            if theirs.kind != own.slot.kind.value:
                continue
            yield (
                Link(
                    id=LinkId(peer=machine.name, own=own.id, their=theirs.id),
                    slot=own.slot,
                    their_uplink=theirs.uplink,
                    endpoints=tuple(Endpoint(host=str(way), port=theirs.port) for way in ways),
                    leaving=own.leaving or theirs.leaving,
                ),
                theirs,
            )


def _links(
    known: Known, machine: Machine, record: LinkRecord
) -> Iterator[tuple[Link, PublishedInterface]]:
    """Yield the links to a machine, by the ids of their ends."""
    for own in sorted(known.own, key=lambda own: own.id):
        uplink = next((e for e in known.attachments if e.name == own.slot.uplink), None)
        for theirs in record.interfaces:
            slot = own.slot
            if uplink is None or not (_fits(slot, theirs) or _crosses(known, slot, record, theirs)):
                continue
            ends = Ends(slot=slot, uplink=uplink, machine=machine, record=record, theirs=theirs)
            found = places(known, ends)
            endpoints = tuple(dict.fromkeys(found))[:MOST_ENDPOINTS]
            if slot.kind is Kind.TLS:
                endpoints = (loopback(own.id, Port(machine.identity, theirs.id)),)
            if slot.kind in {Kind.LAN, Kind.OVERLAY} and not endpoints:
                continue
            yield (
                Link(
                    id=LinkId(peer=machine.name, own=own.id, their=theirs.id),
                    slot=slot,
                    their_uplink=theirs.uplink,
                    endpoints=endpoints,
                    lifetime=LIFETIME if slot.kind is Kind.INTERNET else None,
                    leaving=own.leaving or theirs.leaving,
                    cut=uplink.mtu < LEAST_INSIDE + OVERHEAD[slot.family],
                ),
                theirs,
            )


def _fits(slot: Slot, theirs: PublishedInterface) -> bool:
    """Whether there can be a link between a slot and an interface of a peer's, but for relays."""
    if slot.kind is Kind.RELAY or (slot.kind.value, slot.family) != (theirs.kind, theirs.family):
        return False
    return slot.kind is Kind.OVERLAY or slot.network == theirs.network


def _crosses(known: Known, slot: Slot, record: LinkRecord, theirs: PublishedInterface) -> bool:
    """Whether one of two uplinks has IPv6 alone and the other IPv4: a NAT64 may join them."""
    if slot.kind is not Kind.INTERNET or theirs.kind != slot.kind.value:
        return False
    mine = {
        own.slot.family
        for own in known.own
        if (own.slot.uplink, own.slot.kind) == (slot.uplink, slot.kind)
    }
    far = {
        each.family
        for each in record.interfaces
        if (each.uplink, each.kind) == (theirs.uplink, theirs.kind)
    }
    return mine != far and len(mine) == len(far) == 1 and (mine == {4} or known.nat64 is not None)


def _relayed(
    known: Known, here: Machine, machine: Machine
) -> Iterator[tuple[Link, PublishedInterface]]:
    """Yield the links by way of relays."""
    clan = Clan.of(known.view.content.machines, known.records)
    wanted = wants(
        clan, here.name, machine.name, known.own, known.attachments, translated=known.nat64
    )
    for own, theirs, want in wanted:
        link = Link(
            id=want.link,
            slot=own.slot,
            their_uplink=theirs.uplink,
            endpoints=(known.relayed.get(want.link) or guess(want),),
            lifetime=LIFETIME,
            leaving=own.leaving or theirs.leaving,
        )
        yield link, theirs
