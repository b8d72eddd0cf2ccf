"""What agents say is read or refused, put in words, and drawn."""

from __future__ import annotations

import contextlib
import xml.etree.ElementTree as ET
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.agent.report import Scene, report
from clan.mesh.chart.accept import Held
from clan.mesh.desire import Wish
from clan.mesh.errors import MeshError
from clan.mesh.exchange import Desired
from clan.mesh.step import State
from clan.mesh.tls.report import name_relays
from clan.modules.mesh.drawing import draw, edges
from clan.modules.mesh.seen import (
    Decided,
    Seen,
    for_long,
    in_ms,
    in_percent,
    read_decisions,
    read_seen,
)

SVG = "{http://www.w3.org/2000/svg}"


def link(kind: str = "lan", *, alive: bool = True, number: int = 1) -> dict[str, Any]:
    return {
        "id": f"nas/0000000{number}-00000002",
        "uplink": "eth0",
        "their_uplink": "wlan0",
        "kind": kind,
        "family": 6,
        "alive": alive,
        "heard": 0.2,
        "round_trip": 0.0004,
        "loss": 0.0,
        "mtu": 1420,
        "failures": 0,
    }


def said(**peers: dict[str, Any]) -> dict[str, Any]:
    return {
        "name": "laptop",
        "address": "fd00::1",
        "alias": None,
        "map": {"state": "clear", "epoch": 1, "serial": 7, "made": 1_800_000_000},
        "uplinks": {"eth0": {"metered": False, "down": True}},
        "peers": peers,
    }


def pair(mode: str, *links: dict[str, Any], path: int | None = 0) -> dict[str, Any]:
    return {
        "address": str(IPv6Address("fd00::2")),
        "mode": mode,
        "path": None if path is None else links[path]["id"],
        "since": 61.0,
        "why": "it is the LAN",
        "map": {"epoch": 1, "serial": 6},
        "links": list(links),
    }


def test_what_an_agent_says_is_read() -> None:
    seen = read_seen(said(nas=pair("fast", link(), link("internet", alive=False, number=3))))
    assert (seen.map, seen.uplinks) == ((1, 7), {"eth0": False})
    nas = seen.peers["nas"]
    assert (nas.state, nas.why, nas.map) == ("connected", "it is the LAN", (1, 6))
    assert nas.path is not None
    assert nas.path.called == "lan by eth0"
    assert [each.called for each in nas.others] == ["internet IPv6 by eth0"]
    assert (in_ms(nas.path.round_trip), in_percent(nas.path.loss)) == ("0.4 ms", "0 %")
    assert (for_long(nas.since), for_long(None), in_ms(None)) == ("1 minute", "-", "-")


def test_what_this_version_s_agent_says_is_read() -> None:
    scene = Scene(
        wish=Wish(desired=Desired(name="")),
        state=State(),
        held=Held.of(),
        attachments=(),
        slots=(),
        seen={},
        mapped={},
        verified=frozenset(),
        endpoints={},
        has={},
        why={},
        fault="no room",
        now=0.0,
    )
    assert read_seen(report(scene)) == Seen(
        name=None,
        address=None,
        fault="no room",
        map=(0, 0),
        map_state="none",
        made=None,
        uplinks={},
        peers={},
    )


def test_a_stream_is_called_by_who_passes_it_on() -> None:
    peers: dict[str, Any] = {
        "nas": {"links": [link("tls"), link("lan", number=3)]},
        "vps": {"links": [link("tls") | {"id": "vps/00000001-00000009"}]},
        "phone": {"links": [link("tls") | {"id": "phone/00000001-00000008"}]},
    }
    status: dict[str, Any] = {"name": "laptop", "peers": peers}
    stream = {"machine": "vps", "slot": "00000001", "called": True, "suspect": True}
    other = stream | {"machine": "hub", "suspect": False, "reaches": ["00000002"]}
    answered = {"machine": "phone", "slot": "00000008", "called": False, "reaches": []}
    reaches = {"reaches": ["00000002", "00000009"]}
    name_relays(status, {"streams": [stream | reaches, other, answered]})
    seen = read_seen(status).peers
    assert [each.called for each in seen["nas"].links] == ["tls via hub", "lan by eth0"]
    assert [each.called for each in seen["vps"].links] == ["tls via vps"]
    # One that ends at this machine itself.
    assert [each.called for each in seen["phone"].links] == ["tls via laptop"]
    # A process that does not answer leaves it open.
    name_relays(status, {"streams": []})
    assert read_seen(status).peers["nas"].links[0].called == "tls by eth0"


@pytest.mark.parametrize(
    ("peer", "state"),
    [
        (pair("fast", link(alive=False)), "lost"),
        (pair("slow", path=None), "lost"),
        (pair("cold", path=None), "idle"),
        (pair("kept", link()), "connected"),
        (pair("cold", link(alive=False)), "idle"),
    ],
)
def test_a_pair_is_idle_connected_or_lost(peer: dict[str, Any], state: str) -> None:
    assert read_seen(said(nas=peer)).peers["nas"].state == state


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3)
    ),
    max_leaves=9,
)
PEER = st.fixed_dictionaries(
    {}, optional={"mode": JSON, "path": JSON, "links": JSON, "since": JSON}
)


@given(
    JSON
    | st.fixed_dictionaries(
        {},
        optional={
            "name": JSON,
            "map": JSON,
            "uplinks": JSON,
            "peers": JSON | st.dictionaries(st.text(max_size=5), PEER, max_size=3),
        },
    )
)
def test_whatever_is_said_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(MeshError):
        read_seen(value)


def test_decisions_are_read() -> None:
    one = {"at": 1.5, "peer": "nas", "what": "path eth0", "why": "it is the LAN"}
    assert read_decisions({"decisions": [one]}) == [
        Decided(at=1.5, peer="nas", what="path eth0", why="it is the LAN")
    ]


@given(JSON | st.fixed_dictionaries({"decisions": st.lists(JSON | PEER, max_size=3) | JSON}))
def test_whatever_is_said_to_be_decided_is_read_or_refused(value: Any) -> None:
    with contextlib.suppress(MeshError):
        read_decisions(value)


def clan(**kinds: str) -> dict[str, Seen | None]:
    """Return a hub called nas that sees each machine by a kind; the machines do not answer."""
    peers = {
        name: read_seen(said(**{name: pair("fast", link(kind))})).peers[name]
        for name, kind in kinds.items()
    }
    return {"nas": replace(read_seen(said()), name="nas", peers=peers), **dict.fromkeys(kinds)}


def texts(picture: str) -> list[str]:
    return ["".join(each.itertext()) for each in ET.fromstring(picture).iter(f"{SVG}text")]


def test_a_path_is_drawn_once_in_its_colour_with_its_round_trip() -> None:
    seen = clan(laptop="lan", phone="internet")
    assert [(each.one, each.other, each.state, each.kind) for each in edges(seen)] == [
        ("nas", "laptop", "connected", "lan"),
        ("nas", "phone", "connected", "internet"),
    ]
    picture = draw("family: the mesh home", seen)
    shown = texts(picture)
    assert shown.count("0.4 ms") == 2
    assert {"nas", "laptop", "phone", "no answer", "map 1.7", "lan", "internet"} <= set(shown)
    assert "overlay" not in shown


def test_what_either_end_has_lost_is_lost() -> None:
    lost = read_seen(said(nas=pair("fast", link(alive=False))))
    seen: dict[str, Seen | None] = {**clan(laptop="lan"), "laptop": lost}
    (edge,) = edges(seen)
    assert (edge.state, edge.round_trip) == ("lost", None)
    assert "no way" in texts(draw("x", seen))


@given(st.dictionaries(st.text(min_size=1, max_size=30), st.none(), max_size=12), st.text())
def test_every_picture_is_xml(seen: dict[str, Seen | None], title: str) -> None:
    ET.fromstring(draw(title, seen))


def test_thirty_machines_fit_without_a_word_over_another() -> None:
    seen = clan(**{f"machine-{number}": "lan" for number in range(29)})
    picture = ET.fromstring(draw("many", seen))
    boxes = [
        (float(each.get("x", "0")), float(each.get("y", "0")))
        for group in picture.iter(f"{SVG}g")
        for each in group.iter(f"{SVG}rect")
    ]
    assert len(boxes) == 30
    for one in boxes:
        near = [
            other
            for other in boxes
            if other != one and abs(other[0] - one[0]) < 132 and abs(other[1] - one[1]) < 40
        ]
        assert near == []
