"""What a machine's resolver says leads to others: names, and IPv4 where there is IPv6 alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, lives, meet
from tests.lab.links import until
from tests.lab.resolvers import NAT64, OnlySix, asks, resolver

if TYPE_CHECKING:
    from pathlib import Path

    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

NAME = "desk.example.com"


def test_a_name_leads_to_a_machine_as_soon_as_the_resolver_answers(town: Town) -> None:
    desk, laptop = boxes = town.boxes("desk", "laptop")
    address = town.internet.plug(desk)
    town.home().plug(laptop)
    core = desk.space.run("ip route show default").split()[2]
    with asks(laptop, core):
        meet(boxes, {"desk": NAME})
        for _ in range(10):  # nothing answers there, and the agent waits for nothing
            begun = time.monotonic()
            assert laptop.ask()["peers"]["desk"]["links"][0]["endpoint"] is None
            assert time.monotonic() < begun + 1
        with resolver(town.internet.space, f"{NAME}={address}"):
            found = until(lambda: laptop.path("desk") or {}, 90)
    assert found["kind"] == "internet"
    assert found["endpoint"].startswith(address)


def test_a_nat64_joins_a_phone_with_ipv6_alone_to_a_desk_with_ipv4_alone(
    town: Town, tmp_path: Path
) -> None:
    desk, phone = boxes = town.boxes("desk", "phone")
    address = town.internet.plug(desk)
    network = OnlySix(town.internet, tmp_path / "tayga")
    try:
        router = network.plug(phone)
        with resolver(network.space, f"ipv4only.arpa={NAT64}192.0.0.170"), asks(phone, router):
            meet(boxes, {"desk": address})
            found = lives(phone, desk)
            assert (found["kind"], found["family"]) == ("internet", 6)
            talk = Talk(phone, desk)
            talk.go(2)
            assert len(talk.answered) > 50
            found = lives(desk, phone)
            assert (found["kind"], found["family"]) == ("internet", 4)
            assert found["endpoint"].startswith(network.address)
            talk.close()
    finally:
        network.remove()
