"""Which links are to be relayed, and by whom: from the map, the records and this machine. Pure.

A link is relayed between two slots of one rank: the first ones by the first of the pair's relays,
the second ones by the second.
"""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from typing import TYPE_CHECKING

from clan.mesh import nat64
from clan.mesh.link import Endpoint, LinkId
from clan.mesh.relay.pick import of_pair
from clan.mesh.relay.ports import DOOR, PORTS
from clan.mesh.relay.seat import Want
from clan.mesh.slots import RANKS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from ipaddress import IPv6Network

    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.chart.content import Machine
    from clan.mesh.chart.links import LinkRecord, PublishedInterface
    from clan.mesh.slots import Own


@dataclass(frozen=True, slots=True, kw_only=True)
class Clan:
    """Who there is, as all machines with the same map and records have it."""

    machines: Mapping[str, Machine]
    records: Mapping[bytes, LinkRecord]

    @classmethod
    def of(cls, machines: Iterable[Machine], records: Mapping[bytes, LinkRecord]) -> Clan:
        """Return it from a map's machines."""
        return cls(machines={each.name: each for each in machines}, records=records)

    def record(self, name: str) -> LinkRecord | None:
        """Return a machine's record."""
        machine = self.machines.get(name)
        return self.records.get(machine.identity) if machine else None

    def offering(self) -> list[str]:
        """Return the machines that offer themselves as relays, by name."""
        named = ((name, self.record(name)) for name in sorted(self.machines))
        return [name for name, record in named if record is not None and record.reached]

    def relays(self, one: str, other: str) -> tuple[str, ...]:
        """Return the relays of a pair, the first one first."""
        records = ((end, self.record(end)) for end in (one, other))
        named = {end: record.relays for end, record in records if record is not None}
        return of_pair((one, other), named, self.offering())


def wants(
    clan: Clan,
    here: str,
    peer: str,
    own: Iterable[Own],
    attachments: Iterable[Attachment],
    *,
    translated: IPv6Network | None = None,
) -> Iterator[tuple[Own, PublishedInterface, Want]]:
    """Yield the links to a peer that can be relayed, with the slots at their ends.

    `translated` is where a NAT64 has IPv4, for uplinks with IPv6 alone.
    """
    record = clan.record(peer)
    relays = dict(zip(RANKS, clan.relays(here, peer), strict=False))
    uplinks = {each.name: each for each in attachments}
    for mine in sorted(own, key=lambda own: own.id):
        relay = clan.record(relays.get(mine.slot.network, ""))
        uplink = uplinks.get(mine.slot.uplink)
        if mine.slot.kind != "relay" or relay is None or record is None or uplink is None:
            continue
        versions: set[int] = {route.to.version for route in uplink.defaults}
        for theirs in record.interfaces:
            if (theirs.kind, theirs.network) != ("relay", mine.slot.network):
                continue
            places = _places(
                relay,
                versions,
                _versions(record, theirs.uplink),
                translated if versions == {6} else None,
            )
            if not places:
                continue
            want = Want(
                link=LinkId(peer=peer, own=mine.id, their=theirs.id),
                own=clan.machines[here].identity,
                peer=record.identity,
                relay=relay.identity,
                places=places,
                doors=tuple(
                    Endpoint(host=each.host, port=DOOR)
                    for each in places
                    if each.port == PORTS.start
                ),
                seats=min(each.seats for each in relay.reached),
            )
            yield mine, theirs, want


def _versions(record: LinkRecord, uplink: str) -> set[int]:
    """Return the versions of IP by which an uplink of the other end reaches the internet."""
    return {e.family for e in record.interfaces if (e.kind, e.uplink) == ("internet", uplink)}


def _places(
    relay: LinkRecord, mine: set[int], theirs: set[int], translated: IPv6Network | None
) -> tuple[Endpoint, ...]:
    """Return where this end can reach a relay; first where the other end can with the same IP.

    Both ends then choose the same, if they can, and the kernel passes on.
    """
    places = [(ip_address(each.host), each.port) for each in relay.reached]
    possible = [place for place in places if place[0].version in mine or translated is not None]
    possible.sort(key=lambda place: (place[0].version not in theirs, -place[0].version, str(place)))
    return tuple(
        Endpoint(
            host=str(
                nat64.embed(translated, host)
                if translated is not None and isinstance(host, IPv4Address)
                else host
            ),
            port=port,
        )
        for host, port in possible
    )
