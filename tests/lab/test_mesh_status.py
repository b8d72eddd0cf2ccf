"""What an agent answers when it is asked: how things are, and why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import lives, meet
from tests.lab.links import until

from clan.mesh import journal

if TYPE_CHECKING:
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab


def test_an_agent_tells_what_it_does_and_why_and_its_journal_gives_the_same_again(
    town: Town,
) -> None:
    desk, nas = town.boxes("desk", "nas")
    lan = town.switch()
    lan.plug(desk)
    lan.plug(nas)
    chart = meet([desk, nas])
    until(lambda: desk.links("nas") and nas.links("desk"), 60)
    said = desk.ask()
    assert said["name"] == "desk"
    assert said["address"] == str(desk.address)
    assert said["map"]["serial"] == chart.serial
    assert said["peers"]["nas"]["mode"] == "cold"
    assert [each["kind"] for each in said["interfaces"]] == ["lan"]
    assert said["uplinks"]["eth0"]["addresses"]

    asked = time.monotonic()
    desk.ask("ping", peer="nas")
    until(lambda: desk.alive("nas"), 60)
    path = lives(desk, nas)
    assert path["answered"] < time.monotonic() - asked
    assert path["endpoint"].startswith("[fe80:")
    found = desk.ask("path", peer="nas")
    assert found["mode"] == "fast"
    assert found["why"]
    until(lambda: desk.ask("path", peer="nas")["map"] == {"epoch": 1, "serial": chart.serial})

    decided = desk.ask("log", peer="nas")["decisions"]
    assert any(each["what"] == f"link {path['id']} lives" for each in decided)
    assert all(time.time() - 300 < each["at"] <= time.time() for each in decided)
    assert desk.ask("log", peer="tv")["decisions"] == []
    assert len(desk.ask("log", last=1)["decisions"]) == 1

    (file,) = desk.ask("journal")["files"]
    desk.stop()
    steps = list(journal.replay(Path(file).read_text().splitlines()))
    assert [each.recorded for each in steps] == [each.again for each in steps]
    assert sum(len(each.again) for each in steps) >= len(decided)


def test_an_agent_with_nothing_to_do_sleeps(town: Town) -> None:
    desk, nas = town.boxes("desk", "nas")
    lan = town.switch()
    lan.plug(desk)
    lan.plug(nas)
    meet([desk, nas])
    until(lambda: desk.links("nas"), 60)
    time.sleep(8)  # the calls on a LAN that is new are over
    before = desk.busy()
    time.sleep(10)
    assert desk.busy() - before < 0.1


def test_what_an_agent_cannot_answer_it_says(town: Town) -> None:
    (desk,) = town.boxes("desk")
    desk.start()
    until(desk.socket.exists)
    assert "does not know 'weather'" in desk.ask("weather")["error"]
    for asked in ("path", "ping"):
        assert "no machine 'nas'" in desk.ask(asked, peer="nas")["error"]
        assert "error" in desk.ask(asked)
    assert "error" in desk.ask("log", last="many")
    assert desk.ask()["name"] is None
    assert desk.ask("record")["record"] is None or desk.record()
