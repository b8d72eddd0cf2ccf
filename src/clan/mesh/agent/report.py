"""What an agent tells of itself: plain values for JSON, from its state. Pure."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from clan.mesh.chart.accept import Held
    from clan.mesh.desire import Wish
    from clan.mesh.pair import Pair, Standing
    from clan.mesh.step import State


def report(wish: Wish, state: State, held: Held, now: float) -> dict[str, Any]:
    """Return all of it; times are seconds ago, round trips in seconds."""
    top = held.top
    return {
        "name": wish.member.name if wish.member else None,
        "address": str(wish.member.address) if wish.member else None,
        "alias": str(wish.member.alias) if wish.member and wish.member.alias else None,
        "map": {
            "state": held.view.state.value,
            "epoch": top.epoch if top else 0,
            "serial": top.serial if top else 0,
            "made": top.made if top else None,
        },
        "uplinks": {
            name: {"metered": each.metered, "down": name in state.down}
            for name, each in wish.desired.uplinks.items()
        },
        "peers": {
            name: {
                "address": str(member.address),
                "alias": str(member.alias) if member.alias else None,
                **_pair(state.pairs.get(name), now),
            }
            for name, member in wish.peers.items()
        },
    }


def _pair(pair: Pair | None, now: float) -> dict[str, Any]:
    if pair is None:
        return {"mode": "cold", "path": None, "since": None, "links": []}
    return {
        "mode": pair.mode.value,
        "path": str(pair.path) if pair.path else None,
        "since": _ago(pair.chosen, now),
        "links": [_link(each, now) for each in pair.links.values()],
    }


def _link(each: Standing, now: float) -> dict[str, Any]:
    health = each.health
    return {
        "id": str(each.link.id),
        "uplink": each.link.slot.uplink,
        "their_uplink": each.link.their_uplink,
        "kind": each.link.slot.kind.value,
        "family": each.link.slot.family,
        "alive": each.alive_since is not None,
        "heard": _ago(health.heard, now),
        "round_trip": health.round_trip,
        "loss": health.loss,
        "mtu": each.width.mtu,
        "failures": each.failures,
    }


def _ago(at: float, now: float) -> float | None:
    return None if math.isinf(at) else max(0.0, now - at)
