"""Maps and records go from machine to machine; nobody else is there to carry them."""

from __future__ import annotations

import subprocess
import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Talk, content, lives, meet
from tests.lab.links import until
from tests.mesh.signers import BOB, signed

from clan.mesh.agent.gossip import AGAIN
from clan.mesh.agent.interfaces import PORT

if TYPE_CHECKING:
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

SILENT = Path(__file__).parent / "programs" / "silent.py"


def test_a_map_goes_from_one_to_the_next_and_a_removed_machine_is_cut_off(town: Town) -> None:
    """Four in a row of acquaintance: the map is handed to one, who talks to the second alone."""
    lan = town.switch()
    boxes = town.boxes("desk", "nas", "thief", "tv")
    desk, nas, thief, tv = boxes
    first = signed(content(boxes))
    for each in boxes:
        lan.plug(each)
        each.give(first)
        each.start()
    for each in (desk, tv, thief):
        until(partial(each.links, "nas"), 60)
        talk = Talk(each, nas) if each is not thief else Talk(nas, thief)
        talk.go(3)
        talk.close()
        lives(each, nas)
    second = signed(content([desk, nas, tv]), after=[first])
    assert desk.take(second)["outcome"] == "newer"
    until(lambda: all(each.serial() == second.serial for each in (desk, nas, tv)), 25)
    for each in (desk, nas, tv):
        assert "thief" not in each.ask()["peers"]
    assert thief.serial() == first.serial
    talk = Talk(thief, nas)
    talk.go(2)
    talk.close()
    assert not talk.answered


def test_who_was_away_gets_the_map_over_the_lan_from_one_it_does_not_know(town: Town) -> None:
    """Its map is too old to shake hands with, and the clan has another secret since."""
    lan = town.switch()
    old, new, gone = town.boxes("old", "new", "gone")
    first = signed(content([gone, old]))
    later = signed(content([new, old]), BOB, after=[first])
    assert later.content.secrets[0] != first.content.secrets[0]
    for each, chart in ((old, first), (new, later), (gone, first)):
        lan.plug(each)
        each.give(chart)
        each.start()
    until(lambda: old.serial() == later.serial, 60)
    until(lambda: old.links("new") and new.links("old"), 60)
    talk = Talk(old, new)
    talk.go(3)
    talk.close()
    assert talk.answered
    assert gone.serial() == first.serial


def test_a_conversation_that_is_not_needed_any_more_is_not_waited_for(town: Town) -> None:
    """One that a peer refused was to be begun again; the peer has told all since by its own."""
    lan = town.switch()
    desk, nas = boxes = town.boxes("desk", "nas")
    for each in boxes:
        lan.plug(each)
    rule = f"iifname clan-* tcp dport {PORT} counter reject with tcp reset"
    refuse = "table inet refuse { chain in { type filter hook input priority 0; %s; }; }"
    with nas.space.inside():
        subprocess.run(["nft", "-f", "-"], input=(refuse % rule).encode(), check=True)
    second = signed(content(boxes), after=[meet(boxes)])
    talk = Talk(desk, nas)
    talk.go(2)
    talk.close()
    lives(desk, nas)
    desk.take(second)
    until(lambda: " packets 0 " not in nas.space.run("nft list table inet refuse"), 60)
    nas.take(second)
    until(lambda: desk.ask()["peers"]["nas"]["map"]["serial"] == second.serial, 60)
    time.sleep(2 * AGAIN)
    before = desk.busy()
    time.sleep(5)
    assert desk.busy() - before < 2.5  # half of a processor's time, however slow this one is


def test_a_map_comes_to_machines_with_which_nothing_is_open(town: Town) -> None:
    """Servers that never talked: whoever has the new map wakes some, and they others."""
    boxes = town.boxes("berlin", "oslo", "rome")
    addresses = {each.name: town.internet.plug(each) for each in boxes}
    first = meet(boxes, addresses)
    until(lambda: all(each.serial() == first.serial for each in boxes))
    second = signed(content(boxes, addresses), after=[first], made=first.made + 1)
    boxes[0].take(second)
    until(lambda: all(each.serial() == second.serial for each in boxes), 60)


def test_who_withholds_a_map_keeps_it_from_nobody(town: Town) -> None:
    """The one in the middle has it and hands on none; the others wake each other for it."""
    boxes = town.boxes("berlin", "oslo", "rome")
    berlin, oslo, rome = boxes
    oslo.program = [str(SILENT)]
    addresses = {each.name: town.internet.plug(each) for each in boxes}
    first = meet(boxes, addresses)
    until(lambda: all(each.serial() == first.serial for each in boxes))
    for each in (berlin, rome):
        talk = Talk(each, oslo)
        talk.go(2)
        talk.close()
    second = signed(content(boxes, addresses), after=[first], made=first.made + 1)
    oslo.take(second)
    talk = Talk(rome, oslo)
    talk.go(3)
    talk.close()
    assert berlin.serial() == rome.serial() == first.serial
    third = signed(content(boxes, addresses), after=[second], made=first.made + 2)
    berlin.take(third)
    until(lambda: rome.serial() == third.serial, 60)
