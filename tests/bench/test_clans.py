from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bench.harness.clans import better_networks, family, large
from clan.inventory.open import open_clan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("machines", [100, 1000])
def test_the_large_clan_has_ten_networks_and_every_machine_on_most(
    tmp_path: Path, machines: int
) -> None:
    file = tmp_path / "clan.toml"
    file.write_text(large(machines))
    clan = open_clan(file)
    assert len(clan.machines) == machines
    peers = {instance.name: len(networking.peers) for instance, networking in clan.networks()}
    offices = {f"office{number}": machines // 5 for number in range(5)}
    everywhere = dict.fromkeys(["lan", "internet", "tor", "vpn0", "vpn1"], machines)
    assert peers == everywhere | offices


def test_better_networks_are_tried_before_all_others(tmp_path: Path) -> None:
    more = better_networks("nas", ["dark0.example.com", "dark1.example.com"])
    clan = open_clan(family(tmp_path / "family", more) / "clan.toml")
    assert [instance.name for instance, _ in clan.networks()] == [
        "better1",
        "better0",
        "lan",
        "internet",
    ]
    assert all("nas" in networking.peers for _, networking in clan.networks())
