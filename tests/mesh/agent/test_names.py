"""Names are asked for while somebody is wanted, by threads, and seldom."""

from __future__ import annotations

import select
import threading
from dataclasses import replace
from ipaddress import ip_address, ip_network
from types import SimpleNamespace
from typing import TYPE_CHECKING, cast

from tests.mesh.signers import machine
from tests.mesh.test_slots import HOME, INTERNET

from clan.mesh import nat64
from clan.mesh.agent.names import AGAIN, FIRST, Names
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.chart.content import KnownAddress
from clan.mesh.link import Link, LinkId
from clan.mesh.pair import Mode, Pair, Standing

if TYPE_CHECKING:
    from clan.mesh.agent.here import Here
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.candidates import IpAddress

NAS = "nas.example.com"
LINK = Link(id=LinkId(peer="nas", own="a", their="b"), slot=INTERNET)
WANTED = {"nas": Pair(mode=Mode.FAST, links={LINK.id: Standing(link=LINK)})}


class Resolver:
    """It answers what it is told to, when `free` says so."""

    def __init__(self) -> None:
        self.answers: dict[str, str] = {}
        self.asked: list[str] = []
        self.free = threading.Event()
        self.free.set()

    def __call__(self, name: str) -> list[IpAddress]:
        self.asked.append(name)
        assert self.free.wait(20)
        if name not in self.answers:
            raise OSError("no such name")
        return [ip_address(self.answers[name])]


def here(*attachments: object) -> Here:
    return cast(
        "Here", SimpleNamespace(attachments=attachments, slots=[SimpleNamespace(slot=INTERNET)])
    )


def names(resolver: Resolver, where: Here | None = None) -> Names:
    known = SimpleNamespace(
        content=SimpleNamespace(machines=(machine("nas", addresses=(KnownAddress(host=NAS),)),))
    )
    return Names(cast("Knowledge", known), where or here(HOME), resolver)


def turn(asked: Names, now: float, pairs: dict[str, Pair] = WANTED) -> None:
    """Ask, and take in what is answered within 20 seconds."""
    asked.turn((), pairs, now)
    (bell, _) = next(asked.sockets())
    readable, _, _ = select.select([bell], [], [], 20)
    asked.turn(readable, pairs, now)


def test_a_name_is_asked_for_again_after_minutes_and_keeps_its_meaning_meanwhile() -> None:
    resolver = Resolver()
    resolver.answers[NAS] = "203.0.113.1"
    asked = names(resolver)
    turn(asked, 0.0)
    assert asked.hosts == {NAS: (ip_address("203.0.113.1"),)}
    assert asked.due() == AGAIN
    resolver.answers[NAS] = "203.0.113.2"
    asked.turn((), WANTED, AGAIN - 1)
    assert len(resolver.asked) == 1
    before = asked.version
    turn(asked, AGAIN)
    assert asked.hosts == {NAS: (ip_address("203.0.113.2"),)}
    assert asked.version > before
    resolver.answers.clear()
    turn(asked, 2 * AGAIN)
    assert asked.hosts == {NAS: (ip_address("203.0.113.2"),)}
    assert asked.due() == 2 * AGAIN + FIRST


def test_nobody_waits_for_a_resolver_that_does_not_answer() -> None:
    resolver = Resolver()
    resolver.free.clear()
    asked = names(resolver)
    for now in range(3):
        asked.turn((), WANTED, float(now))
    assert asked.hosts == {}
    resolver.answers[NAS] = "203.0.113.1"
    resolver.free.set()
    turn(asked, 9.0)
    assert resolver.asked == [NAS]


def test_no_name_is_asked_for_while_nobody_wants_it_or_the_internet_leads_there() -> None:
    resolver = Resolver()
    asked = names(resolver)
    lives = {"nas": Pair(mode=Mode.FAST, links={LINK.id: Standing(link=LINK, alive_since=1.0)})}
    for pairs in ({}, {"nas": Pair()}, lives):
        asked.turn((), pairs, 0.0)
    assert resolver.asked == []


def test_with_ipv6_alone_a_nat64_is_looked_for_and_one_that_is_gone_is_forgotten() -> None:
    resolver = Resolver()
    resolver.answers[nat64.NAME] = "64:ff9b::c000:aa"
    only6 = replace(HOME, defaults=(Route(to=ip_network("::/0"), index=1),))
    asked = names(resolver, here(only6))
    turn(asked, 0.0, {})
    assert asked.nat64 == ip_network("64:ff9b::/96")
    resolver.answers.clear()
    now = 0.0
    for _ in range(3):
        assert asked.nat64 is not None
        now = asked.due()
        turn(asked, now, {})
    assert asked.nat64 is None
