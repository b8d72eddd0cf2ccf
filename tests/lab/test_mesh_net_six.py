"""IPv6 at both ends, each behind a firewall that lets in only what was asked for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Transfer, meet
from tests.lab.internet import SYMMETRIC
from tests.lab.paths import know_server, reach, settles

if TYPE_CHECKING:
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab


def test_two_firewalls_are_passed_directly(town: Town) -> None:
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    for each in (desk, laptop):
        home = town.home(SYMMETRIC)
        town.internet.six(home)
        home.plug(each)
    meet(boxes, addresses)
    know_server(desk, laptop)
    talk = reach(desk, laptop)
    settles(talk, kind="internet", family=6)
    session = Transfer(desk, laptop, 22, every=0.05, size=500)
    session.moves()
    session.end()
    talk.close()
