"""Ten thousand machines are no special case."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tests.desk import Desk


def big(machines: int) -> str:
    """Write a clan of twenty instances, most by tags, some machine by machine."""
    names = [f"machine{index:05}" for index in range(machines)]
    instances: dict[str, Any] = {}
    for index in range(5):
        instances[f"tor{index}"] = {
            "module": {"name": "tor"},
            "roles": {"server": {"tags": ["all"]}},
        }
        instances[f"lan{index}"] = {
            "module": {"name": "lan"},
            "roles": {"default": {"tags": ["a"]}},
        }
        controller = {"endpoint": "vpn.example.com", "port": 51000 + index}
        instances[f"wg{index}"] = {
            "module": {"name": "wireguard"},
            "roles": {
                "controller": {"machines": {names[0]: {"settings": controller}}},
                "peer": {"tags": {f"rack{rack}": {} for rack in range(1, 7)}},
            },
        }
        hosts = {name: {"settings": {"host": f"{name}.example.com"}} for name in names}
        instances[f"web{index}"] = {
            "module": {"name": "internet"},
            "roles": {"default": {"machines": hosts}},
        }
    return json.dumps(
        {
            "machines": {
                name: {"tags": ["a", f"rack{index % 7}"]} for index, name in enumerate(names)
            },
            "instances": instances,
        }
    )


def test_ten_thousand_machines_in_twenty_instances_resolve(desk: Desk) -> None:
    """How long it takes, and how that grows, is measured by `scripts/bench reach.growth`."""
    clan = desk.open(big(10_000), "json")
    assert len(clan.instances) == 20
    assert len(clan.tags["all"]) == 10_000
    assert len(clan.exports["web0"].to_json()["networking"]["peers"]) == 10_000
