"""Other networks than Yggdrasil as ways of the mesh: the user's own, where nothing else leads."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Transfer, meet
from tests.lab.overlay import TINC, TINC_PORT, tinc
from tests.lab.paths import goes_on, reach, settles

if TYPE_CHECKING:
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

ONLY_TINC = f"""\
table inet only_tinc {{
    chain cut {{
        type filter hook prerouting priority -400;
        iifname "eth0" tcp dport {TINC_PORT} accept
        iifname "eth0" tcp sport {TINC_PORT} accept
        iifname "eth0" udp dport {TINC_PORT} accept
        iifname "eth0" meta l4proto {{ tcp, udp }} drop
    }}
}}
"""


def test_two_that_share_nothing_but_tinc_talk_by_it(town: Town) -> None:
    desk, laptop = boxes = town.boxes("desk", "laptop")
    addresses = {each.name: town.internet.plug(each) for each in boxes}
    for each in boxes:
        with each.space.inside():
            subprocess.run(["nft", "-f", "-"], input=ONLY_TINC.encode(), check=True)
    with tinc(boxes, addresses):
        meet(boxes, addresses)
        talk = reach(laptop, desk, 60)
        settles(talk, kind="overlay", uplink=TINC, family=4)
        session = Transfer(laptop, desk, 22, every=0.05, size=500)
        session.moves()
        goes_on(talk)
        talk.begin()
        talk.go(2)
        assert len(talk.lost()) < 10
        session.end()
        talk.close()
