"""What is decided about an interface and its far ends, without one."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest

from clan.machine.system import StepError
from clan.machine.wireguard import backend, peers
from clan.machine.wireguard.link import Link, Seen, peers_of
from clan.machine.wireguard.peers import Memory, Tried, next_endpoint, wants_endpoint
from clan.model.plan import WireguardLink, WireguardPeer

if TYPE_CHECKING:
    from pathlib import Path

NAME = "vpn.example.com:51820"
OLD, NEW = "192.0.2.1:51820", "[2001:db8::1]:51820"


def seen(endpoint: str | None = OLD, handshake: int = 0) -> Seen:
    return Seen(allowed=frozenset(), endpoint=endpoint, handshake=handshake, keepalive=0)


def test_a_link_of_a_plan_is_read_whole() -> None:
    planned = WireguardLink(
        name="vpn",
        private_key="/k",
        addresses=("fd00:0::1/128",),
        routes=("fd00::/56",),
        peers=(WireguardPeer(name="a", public_key="A", allowed_ips=("fd00:0::/56",)),),
        mtu=1420,
    )
    link = Link.of(json.loads(json.dumps(planned.to_json())))
    assert link.addresses == {"fd00::1/128"}
    assert link.peers["A"].allowed == {"fd00::/56"}
    assert (link.port, link.peers["A"].keepalive, link.peers["A"].endpoint) == (0, 0, None)


def test_wgs_dump_is_read() -> None:
    lines = [
        "A=\t(none)\t[2001:db8::1]:51820\tfd00::/56,fd01::/96\t1700000000\t92\t180\t25",
        "B=\t(none)\t(none)\t(none)\t0\t0\t0\toff",
    ]
    found = dict(peers_of(lines))
    assert found["A="] == Seen(
        allowed=frozenset({"fd00::/56", "fd01::/96"}),
        endpoint=NEW,
        handshake=1700000000,
        keepalive=25,
        received=92,
        sent=180,
    )
    assert found["B="] == Seen(allowed=frozenset(), endpoint=None, handshake=0, keepalive=0)


GIVEN = Tried(endpoint=NAME, at=100.0)
CHOICES = [
    ("nothing is known of the name", [], None, None, 0.0, None),
    ("a new peer gets the first", [OLD, NEW], None, None, 0.0, OLD),
    ("an endpoint that the name no longer has", [NEW], seen(OLD), GIVEN, 101.0, NEW),
    ("the only one stays", [OLD], seen(OLD), GIVEN, 999.0, None),
    ("one that was given just now gets its time", [OLD, NEW], seen(OLD), GIVEN, 110.0, None),
    ("a silent one is followed by the next", [OLD, NEW], seen(OLD), GIVEN, 121.0, NEW),
    ("and by the first again", [OLD, NEW], seen(NEW), GIVEN, 121.0, OLD),
]


@pytest.mark.parametrize(
    ("addresses", "there", "tried", "at", "chosen"),
    [case[1:] for case in CHOICES],
    ids=[case[0] for case in CHOICES],
)
def test_which_address_a_far_end_gets(
    addresses: list[str], there: Seen | None, tried: Tried | None, at: float, chosen: str | None
) -> None:
    assert next_endpoint(addresses, NAME, there, tried, at) == chosen


@pytest.mark.parametrize(
    ("there", "tried", "asked"),
    [
        (None, None, True),
        (seen(handshake=900), GIVEN, False),
        (seen(handshake=900), Tried(endpoint="other.example:1", at=0.0), True),
        (seen(handshake=900), None, True),
        (seen(handshake=819), GIVEN, True),
        (seen(handshake=0), GIVEN, True),
        # The clock was set back: the handshake says nothing.
        (seen(handshake=1001), GIVEN, True),
    ],
)
def test_a_name_is_asked_for_unless_its_far_end_answers(
    there: Seen | None, tried: Tried | None, asked: bool
) -> None:
    assert wants_endpoint(NAME, there, tried, now=1000.0) is asked


def test_what_was_tried_is_remembered_and_a_broken_file_is_nothing(tmp_path: Path) -> None:
    path = tmp_path / "run" / "vpn.json"
    Memory(path).keep({"A": GIVEN})
    assert Memory(path).tried == {"A": GIVEN}
    path.write_text("{")
    assert Memory(path).tried == {}


def test_endpoints_are_looked_up_to_addresses_as_wg_writes_them() -> None:
    found = peers.resolved({"192.0.2.1:1", "[2001:db8::1]:2", "nobody.invalid:3"})
    assert found["192.0.2.1:1"] == ["192.0.2.1:1"]
    assert found["[2001:db8::1]:2"] == ["[2001:db8::1]:2"]
    assert isinstance(found["nobody.invalid:3"], str)


KERNEL = {"ifname": "vpn", "linkinfo": {"info_kind": "wireguard"}}


def test_an_interface_of_another_kind_is_left_alone() -> None:
    assert isinstance(backend.backend_of(KERNEL), backend.Kernel)
    for other in ({"ifname": "vpn"}, {"ifname": "vpn", "linkinfo": {"info_kind": "bridge"}}):
        with pytest.raises(StepError, match="interface vpn already, which is not WireGuard's"):
            backend.backend_of(other)


def test_there_is_no_interface_of_a_name_nobody_has() -> None:
    assert backend.shown("nobody-has-it") is None
