"""What an agent tells of itself: plain values for JSON, from its state. Pure.

The shapes are in docs/reference/mesh.md, "Asking the agent": `clan mesh` of another version reads
them, so a field that is there stays.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from clan.mesh.hops import labels
from clan.mesh.link import Kind
from clan.mesh.relay import offer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.chart.accept import Held
    from clan.mesh.desire import Member, Wish
    from clan.mesh.link import Endpoint, LinkId
    from clan.mesh.pair import Pair, Standing
    from clan.mesh.slots import Own
    from clan.mesh.step import State


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """All that a report is made of."""

    wish: Wish
    state: State
    held: Held
    attachments: tuple[Attachment, ...]
    slots: tuple[Own, ...]
    seen: Mapping[str, tuple[Endpoint, ...]]
    """Where others see this machine's interfaces, by their ids."""
    mapped: Mapping[str, Endpoint]
    """Where routers say that they lead to them."""
    verified: frozenset[str]
    """Those of them that a member reached there."""
    endpoints: Mapping[LinkId, Endpoint]
    """Where WireGuard sends to on each link."""
    has: Mapping[bytes, tuple[int, int]]
    """Which map members have at least, by identity: epoch and serial."""
    why: Mapping[str, str]
    fault: str
    now: float
    """Seconds of the monotonic clock."""
    offers: offer.State = field(default_factory=offer.State)
    """Where this machine may be a relay, and whether others reached it there."""


def report(scene: Scene) -> dict[str, Any]:
    """Return all of it; times are seconds ago, round trips in seconds."""
    top, member = scene.held.top, scene.wish.member
    return {
        "name": member.name if member else None,
        "address": str(member.address) if member else None,
        "alias": str(member.alias) if member and member.alias else None,
        "fault": scene.fault or None,
        "map": {
            "state": scene.held.view.state.value,
            "epoch": top.epoch if top else 0,
            "serial": top.serial if top else 0,
            "hash": top.hash.hex() if top else None,
            "made": top.made if top else None,
        },
        "kept": list(scene.wish.kept),
        "uplinks": {
            each.name: {
                "metered": each.metered,
                "down": each.name in scene.state.down or not each.works,
                "addresses": [str(address) for address in each.addresses],
            }
            for each in scene.attachments
        },
        "interfaces": [_interface(own, scene) for own in scene.slots],
        "relay": [
            {
                "host": where.host,
                "port": where.port,
                "reached": place.is_reached(scene.now),
                "tried": place.tries,
                "trying": place.is_on_trial(scene.now),
            }
            for where, place in scene.offers.places.items()
        ],
        "peers": {name: peer(name, scene) for name in scene.wish.peers},
    }


def peer(name: str, scene: Scene) -> dict[str, Any]:
    """Return what is known of one peer. Raises KeyError where there is none of that name."""
    member: Member = scene.wish.peers[name]
    pair: Pair | None = scene.state.pairs.get(name)
    has = scene.has.get(member.identity)
    return {
        "address": str(member.address),
        "alias": str(member.alias) if member.alias else None,
        "map": {"epoch": has[0], "serial": has[1]} if has else None,
        "mode": pair.mode.value if pair else "cold",
        "path": str(pair.path) if pair and pair.path else None,
        "since": _ago(pair.chosen, scene.now) if pair else None,
        "why": scene.why.get(name),
        "doubt": _ago(pair.doubt, scene.now) if pair and pair.doubt is not None else None,
        "links": [_link(each, scene) for each in pair.links.values()] if pair else [],
    }


def _interface(own: Own, scene: Scene) -> dict[str, Any]:
    mapped = scene.mapped.get(own.id)
    return {
        "id": own.id,
        "name": own.interface,
        "uplink": own.slot.uplink,
        "family": own.slot.family,
        "kind": own.slot.kind.value,
        "network": own.slot.network,
        "port": own.port,
        "leaving": own.leaving,
        "seen": [_written(each) for each in scene.seen.get(own.id, ())],
        "mapped": _written(mapped) if mapped else None,
        "verified": own.id in scene.verified,
    }


def _link(each: Standing, scene: Scene) -> dict[str, Any]:
    health = each.health
    endpoint = scene.endpoints.get(each.link.id)
    return {
        "id": str(each.link.id),
        "uplink": each.link.slot.uplink,
        "their_uplink": each.link.their_uplink,
        "kind": each.link.slot.kind.value,
        "family": each.link.slot.family,
        "network": each.link.slot.network,
        "endpoint": _written(endpoint) if endpoint else None,
        "alive": each.alive_since is not None,
        "alive_for": None if each.alive_since is None else _ago(each.alive_since, scene.now),
        "heard": _ago(health.heard, scene.now),
        "answered": _ago(health.answered, scene.now),
        "round_trip": health.round_trip,
        "variation": health.variation,
        "loss": health.loss,
        "mtu": each.width.mtu,
        "narrow": each.width.narrow,
        "failures": each.failures,
        "hops": _hops(endpoint, scene) if each.link.slot.kind is Kind.HOPS else None,
    }


def _hops(endpoint: Endpoint | None, scene: Scene) -> list[str]:
    """Return the names of the machines in the middle, the first hop first; "?" for one unknown."""
    if endpoint is None or scene.wish.member is None or scene.wish.member.ways is None:
        return []
    content = scene.held.view.content
    found = labels.labels(content.identities)
    names = {found[each.identity]: each.name for each in content.machines}
    ways = scene.wish.member.ways.supernet(new_prefix=labels.BITS)
    passed = labels.read(ways, IPv6Address(endpoint.host))
    return [names.get(label, "?") for label in passed[:-1]]


def _written(endpoint: Endpoint) -> str:
    host = f"[{endpoint.host}]" if ":" in endpoint.host else endpoint.host
    return f"{host}:{endpoint.port}"


def _ago(at: float, now: float) -> float | None:
    return None if math.isinf(at) else max(0.0, now - at)
