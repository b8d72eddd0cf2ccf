"""Keys of links are replaced while machines talk; who was away for that is not forgotten."""

from __future__ import annotations

import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.agents import Talk, Transfer, meet
from tests.lab.links import until

from clan.mesh import slots
from clan.mesh.link import Kind

if TYPE_CHECKING:
    from tests.lab.agents import Box
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

PATIENCE = slots.OVERLAP * 5


@pytest.fixture
def pair(town: Town) -> tuple[Box, Box]:
    """A server and a machine behind a router, which has no way but that to it."""
    vps, desk = town.boxes("vps", "desk")
    addresses = {"vps": town.internet.plug(vps)}
    town.home().plug(desk)
    meet([vps, desk], addresses)
    until(lambda: desk.alive("vps"), 60)
    return vps, desk


def outlive(box: Box) -> str:
    """Have the key of a machine's way to the internet be a month old; return the interface's id."""
    box.stop()
    file = box.folder / "var/lib/clan/mesh/home/slots"
    known = slots.load(file)
    (own,) = (each for each in known if each.slot.kind is Kind.INTERNET)
    old = replace(own, drawn=own.drawn - slots.KEY_LIFE)
    slots.keep(file, [old if each == own else each for each in known])
    box.start()
    return own.id


def interfaces(box: Box) -> dict[str, dict[str, Any]]:
    """Return a machine's interfaces for the internet, by id."""
    try:
        found = box.ask()["interfaces"]
    except OSError:
        return {}
    return {each["id"]: each for each in found if each["kind"] == "internet"}


def test_a_key_is_replaced_while_they_talk(pair: tuple[Box, Box]) -> None:
    vps, desk = pair
    session = Transfer(desk, vps, 22, every=0.1, size=64)
    talk = Talk(desk, vps)
    talk.go(5)
    talk.begin()
    old = outlive(vps)
    end = time.monotonic() + PATIENCE
    while not (there := interfaces(vps)) or old in there:
        talk.go(1)
        assert time.monotonic() < end, there
    talk.go(5)
    (new,) = interfaces(vps)
    for one, other in (pair, pair[::-1]):
        link = one.path(other.name)
        assert link is not None
        assert new in link["id"]
        assert old not in str(one.ask()["peers"])
    # The other end lets in one of the two keys at a time: what is on its way just then is lost.
    assert talk.gap() < 1
    assert len(talk.lost()) < 25
    talk.close()
    session.moves()
    session.end()


def test_who_was_away_finds_it_by_what_it_had(pair: tuple[Box, Box]) -> None:
    vps, desk = pair
    desk.crash()
    old = outlive(vps)
    until(lambda: len(interfaces(vps)) > 1, 60)
    time.sleep(slots.OVERLAP + 20)
    assert interfaces(vps)[old]["leaving"]
    vps.stop()
    vps.start()
    until(lambda: old in interfaces(vps), 60)
    desk.start()
    until(lambda: desk.links("vps"), 60)
    talk = Talk(desk, vps)
    end = time.monotonic() + PATIENCE
    while not talk.answered:
        talk.go(1)
        assert time.monotonic() < end
    until(lambda: interfaces(vps) and old not in interfaces(vps), PATIENCE)
    begun = time.monotonic()
    talk.begin()
    while not talk.answered:
        talk.go(1)
        assert time.monotonic() < begun + 20
    talk.close()
