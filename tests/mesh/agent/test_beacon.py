"""What the agent has the DHT told, when, and what of it it believes."""

from __future__ import annotations

import math
import time
from ipaddress import ip_interface, ip_network
from types import SimpleNamespace
from typing import Any

from tests.mesh.signers import fresh, key

from clan.mesh.agent import beacon
from clan.mesh.agent.beacon import Beacon
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.agent.uplinks import Attachment
from clan.mesh.chart.content import Secret
from clan.mesh.link import Endpoint
from clan.mesh.outside import blind, seam
from clan.mesh.signal import Place

NAS, TV = key("nas"), key("tv")
SECRET = Secret(made=1, key=fresh("one"))


def place(host: str) -> Place:
    return Place(interface="0a0b0c0d", endpoint=Endpoint(host=host, port=51000))


def uplink(name: str, address: str, *, metered: bool = False) -> Attachment:
    return Attachment(
        name=name,
        index=2,
        kind="",
        works=True,
        mtu=1500,
        addresses=(ip_interface(address), ip_interface("fe80::1/64")),
        defaults=(Route(to=ip_network("0.0.0.0/0"), index=2),),
        metered=metered,
    )


OUTSIDE = (place("203.0.113.7"), place("192.168.1.2"))
UPLINKS = (uplink("eth0", "192.168.1.2/24"), uplink("wwan0", "10.1.2.3/24", metered=True))


class Told:
    """A beacon, and all that it said was to be done."""

    def __init__(self) -> None:
        known: Any = SimpleNamespace(key=NAS, content=SimpleNamespace(secrets=(SECRET,)))
        self.said: list[str] = []
        self.beacon = Beacon(known, self.said.append)

    def at(self, now: float, places: tuple[Place, ...] = OUTSIDE) -> seam.Search:
        return seam.read_search(self.beacon.search(places, UPLINKS, now))


def test_it_says_what_is_outside_by_uplinks_that_cost_nothing() -> None:
    found = Told().at(100.0)
    assert found.sources == ("192.168.1.2",)
    assert found.put is not None
    seed, value = found.put
    assert blind.read(SECRET, NAS.public, value, time.time()).places == OUTSIDE[:1]
    day = int(time.time() // blind.DAY)
    assert seed in {blind.item(SECRET.key, NAS.public, each).seed for each in (day, day - 1)}


def test_who_is_nowhere_outside_says_nothing() -> None:
    told = Told()
    assert told.at(100.0, OUTSIDE[1:]).put is None
    assert told.beacon.due() == math.inf
    assert told.at(101.0).put is not None


def test_it_says_what_is_new_soon_and_the_same_seldom() -> None:
    told = Told()
    first = told.at(100.0).put
    assert told.at(101.0).put == first
    assert told.at(100.0 + beacon.AGAIN - 1).put == first
    again = told.at(100.0 + beacon.AGAIN).put
    assert again != first
    later = 101.0 + beacon.AGAIN
    other = (place("198.51.100.9"),)
    assert told.at(later, other).put == again
    assert told.beacon.due() == 100.0 + beacon.AGAIN + beacon.SOONEST
    assert told.at(told.beacon.due(), other).put != again


def test_who_is_wanted_is_looked_for_and_believed_if_it_speaks_itself() -> None:
    told = Told()
    assert told.at(100.0).get == ()
    told.beacon.want(TV.public, 100.0)
    (public, *_) = told.at(101.0).get
    false = blind.write(SECRET.key, NAS, 5, OUTSIDE)
    told.beacon.take(seam.got({public: false, NAS.public: false}))
    assert told.beacon.heard == []
    assert len(told.said) == 1
    told.beacon.take(seam.got({public: blind.write(SECRET.key, TV, 5, OUTSIDE)}))
    (heard,) = told.beacon.heard
    assert (heard.sender, heard.places) == (TV.public, OUTSIDE)
    assert told.at(101.0 + beacon.WANTED).get == ()
    told.beacon.take(seam.got({public: blind.write(SECRET.key, TV, 6, OUTSIDE)}))
    assert len(told.beacon.heard) == 1
