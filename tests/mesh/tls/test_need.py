"""Which streams a machine is to have, by what its links do and who takes streams."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import pytest
from tests.mesh.signers import fresh, key, machine

from clan.mesh.chart.content import KnownAddress
from clan.mesh.chart.links import LinkRecord, Reached, Served
from clan.mesh.link import Endpoint, Kind, Link, LinkId, Slot
from clan.mesh.measure import Health
from clan.mesh.pair import Mode, Pair, Standing
from clan.mesh.tls import need
from clan.mesh.tls.wants import Relay

if TYPE_CHECKING:
    from clan.mesh.chart.content import Machine

NOW = 1000.0
NEVER = -math.inf
WEB = Served(port=8443, name="www.example.org", path="/clan")


def standing(kind: Kind, *, alive: bool = False, heard: float = NEVER, own: str = "0a") -> Standing:
    link = Link(
        id=LinkId(peer="nas", own=own, their=kind.value),
        slot=Slot(uplink="eth0", family=6, kind=kind),
    )
    since = NOW - 5 if alive else None
    return Standing(link=link, alive_since=since, health=Health(heard=heard))


def pair(mode: Mode, *links: Standing) -> Pair:
    return Pair(links={each.link.id: each for each in links}, mode=mode)


def record(name: str, served: Served | None, *, reached: tuple[Reached, ...] = ()) -> LinkRecord:
    hashed = fresh(name) if served and not served.name else b""
    return LinkRecord(
        identity=key(name).public, serial=1, served=served, certificate=hashed, reached=reached
    )


def at(name: str, *hosts: str) -> Machine:
    return machine(name, addresses=tuple(KnownAddress(host=host) for host in hosts))


def relays(*named: tuple[Machine, LinkRecord], own: str = "laptop") -> dict[str, Relay]:
    records = {each.identity: record for each, record in named}
    return need.relays((each for each, _ in named), records, key(own).public)


def test_who_takes_streams_is_called_where_it_is_known_to_be() -> None:
    reached = (Reached(host="203.0.113.9", port=40000),)
    found = relays(
        (at("vps", "192.0.2.1", "vps.example.org"), record("vps", Served(port=443))),
        (at("hub"), record("hub", Served(port=444), reached=reached)),
        (at("site", "192.0.2.2"), record("site", WEB)),
        (at("nas", "192.0.2.3"), record("nas", None)),
        (at("lost"), record("lost", Served(port=443))),
        (at("laptop", "192.0.2.4"), record("laptop", Served(port=443))),
    )
    assert found.keys() == {"vps", "hub", "site"}
    assert found["vps"].sni == "vps.example.org"
    assert found["vps"].certificate == fresh("vps")
    assert [each.host for each in found["vps"].places] == ["192.0.2.1", "vps.example.org"]
    assert found["hub"].places == (Endpoint(host="203.0.113.9", port=444),)
    assert found["site"] == Relay(
        identity=key("site").public,
        places=(Endpoint(host="www.example.org", port=8443),),
        sni="www.example.org",
        path="/clan",
    )


def test_all_call_the_same_ones_first() -> None:
    named = [(at(name, "192.0.2.1"), record(name, WEB)) for name in ("a", "b", "c", "d")]
    assert list(relays(*named)) == list(relays(*reversed(named), own="nas"))


@pytest.mark.parametrize(
    ("pairs", "kept", "expected"),
    [
        ({}, (), True),
        ({"vps": pair(Mode.KEPT, standing(Kind.INTERNET))}, ("vps",), True),
        ({"vps": pair(Mode.KEPT, standing(Kind.INTERNET, alive=True))}, ("vps",), False),
        ({"vps": pair(Mode.FAST, standing(Kind.RELAY, alive=True))}, (), False),
        ({"vps": pair(Mode.FAST, standing(Kind.TLS, alive=True))}, (), True),
        ({"nas": pair(Mode.FAST, standing(Kind.LAN, alive=True))}, (), True),
        # What lived when it was asked last, in another place perhaps.
        ({"vps": pair(Mode.COLD, standing(Kind.INTERNET, alive=True))}, (), True),
        # Others keep links open to here, and ask.
        ({"tv": pair(Mode.COLD, standing(Kind.INTERNET, heard=NOW - 60))}, (), False),
        ({"tv": pair(Mode.COLD, standing(Kind.INTERNET, heard=NOW - 90))}, (), True),
    ],
)
def test_udp_that_gets_to_nobody(
    pairs: dict[str, Pair], kept: tuple[str, ...], expected: bool
) -> None:
    assert need.blocked(pairs, kept, NOW) is expected


@pytest.mark.parametrize(
    ("found", "expected"),
    [
        (pair(Mode.FAST, standing(Kind.TLS), standing(Kind.INTERNET)), True),
        (pair(Mode.SLOW, standing(Kind.TLS, alive=True)), True),
        (pair(Mode.FAST, standing(Kind.TLS), standing(Kind.INTERNET, alive=True)), False),
        (pair(Mode.FAST, standing(Kind.INTERNET)), False),
        (pair(Mode.KEPT, standing(Kind.TLS)), False),
        (pair(Mode.COLD, standing(Kind.TLS)), False),
    ],
)
def test_a_pair_that_nothing_else_connects(found: Pair, expected: bool) -> None:
    assert need.alone(found) is expected


def test_what_is_called() -> None:
    there = {
        name: Relay(identity=key(name).public, places=(), certificate=fresh(name))
        for name in ("a", "b", "c", "d")
    }

    def called(
        peers: tuple[str, ...] = (),
        held: tuple[str, str] | None = None,
        kept: tuple[str, ...] = ("c",),
    ) -> tuple[str, set[str]]:
        found = need.streams(there, ("1", "2"), kept=kept, held=held, peers=peers)
        names = {relay.identity: name for name, relay in there.items()}
        return "".join(names[each.identity] for each in found.relays), set(found.slots)

    # Nothing to say: until one answers those that are asked, then that alone.
    assert called() == ("c", {"1", "2"})
    assert called(kept=()) == ("ab", {"1", "2"})
    assert called(held=("c", "2")) == ("c", {"2"})
    # For a peer, those that it calls too; to a relay, that one.
    assert called(peers=("nas",), held=("c", "2")) == ("abc", {"1", "2"})
    assert called(peers=("d",)) == ("d", {"1", "2"})
    assert called(peers=("d", "nas")) == ("dab", {"1", "2"})


def test_the_stream_that_has_been_good_for_longest_is_held() -> None:
    pairs = {
        "vps": pair(Mode.KEPT, standing(Kind.TLS, alive=True, own="0b")),
        "hub": pair(Mode.COLD, standing(Kind.TLS, alive=True)),
        "nas": pair(Mode.FAST, standing(Kind.TLS, alive=True)),
    }
    assert need.held(pairs, ("hub", "vps")) == ("vps", "0b")
    assert need.held(pairs, ("hub",)) is None
