"""A router that forgets a flow of UDP after thirty seconds."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import meet
from tests.lab.paths import know_server, reach, settles

if TYPE_CHECKING:
    from tests.lab.internet import Town

pytestmark = pytest.mark.lab

FORGETS = 30
IDLE = 75
"""Seconds without traffic: for the first thirty, the agents still probe."""
BOUND = 0.5
"""Seconds that the first packet may take; a test waits up to five times as long."""


def test_a_pair_that_was_idle_goes_on_at_once(town: Town) -> None:
    vps, desk, laptop = boxes = town.boxes("vps", "desk", "laptop")
    addresses = {"vps": town.internet.plug(vps)}
    for each in (desk, laptop):
        home = town.home()
        for name in ("udp_timeout", "udp_timeout_stream"):
            home.space.run(f"sysctl -qw net.netfilter.nf_conntrack_{name}={FORGETS}")
        home.plug(each)
    meet(boxes, addresses)
    know_server(desk, laptop)
    talk = reach(desk, laptop)
    settles(talk, kind="internet")
    time.sleep(IDLE)
    talk.begin()
    talk.go(3)
    assert min(talk.answered.values()) - min(talk.sent.values()) < 5 * BOUND
    assert talk.gap() < 5 * BOUND
    settles(talk, 5, kind="internet")
    talk.close()
