"""Two machines with two cables between them, and what cables do: lose, delay, carry no more."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.lab.agents import Box, Talk, Transfer, boxes, lives
from tests.lab.links import until
from tests.lab.paths import reach

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

BOUND = 0.5
"""Seconds of silence that leaving a path may cost; a test waits up to five times as long."""
CLEAN = 60.0
"""Seconds within which a path with losses is left for one without."""
ALL = "eth0, wlan0"
RULE = """
table inet fault {{
    chain come {{
        type filter hook prerouting priority -400;
        iifname {{ {uplinks} }} {what} drop
    }}
}}
"""


class Cables:
    """A desk and a laptop, joined by eth0 and wlan0."""

    def __init__(self, desk: Box, laptop: Box) -> None:
        self.both = self.desk, self.laptop = desk, laptop
        for each in self.both:
            for uplink in ("eth0", "wlan0"):  # packets of the length that they have on a cable
                each.space.run(f"ethtool -K {uplink} gso off tx-udp-segmentation off gro off")
            each.start()
        until(lambda: desk.links("laptop") == 2)
        until(lambda: laptop.links("desk") == 2)
        reach(desk, laptop).close()

    def fault(self, *at: Box, uplinks: str, what: str = "") -> None:
        """Drop such packets where they come in by these uplinks."""
        for each in at:
            with each.space.inside():
                text = RULE.format(uplinks=uplinks, what=what)
                subprocess.run(["nft", "-f", "-"], input=text.encode(), check=True)

    def mend(self) -> None:
        """Take all faults away, and see that all links live again and are forgiven."""
        for each in self.both:
            if "fault" in each.space.run("nft list tables"):
                each.space.run("nft delete table inet fault")
        talk = reach(*self.both)

        def both_live() -> bool:
            talk.go(0.3)
            return self.desk.alive("laptop") == self.laptop.alive("desk") == 2

        until(both_live, 60)
        talk.go(1)
        talk.close()

    def path(self) -> str:
        """Return the uplink that is used."""
        return str(lives(self.desk, self.laptop)["uplink"])


@pytest.fixture(scope="module")
def made(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cables]:
    del lab_ready
    folder = tmp_path_factory.mktemp("cables")
    with boxes(["desk", "laptop"], folder, ["eth0", "wlan0"]) as (desk, laptop):
        yield Cables(desk, laptop)


@pytest.fixture
def cables(made: Cables) -> Iterator[Cables]:
    yield made
    made.mend()


@pytest.mark.parametrize("deaf", [0, 1])
def test_a_cut_of_one_direction_is_left_by_both(cables: Cables, deaf: int) -> None:
    talk = Talk(*cables.both)
    talk.go(2)
    path = cables.path()
    talk.begin()
    cables.fault(cables.both[deaf], uplinks=path)
    talk.go(5)
    assert talk.gap() < 5 * BOUND
    for one, other in (cables.both, cables.both[::-1]):
        assert lives(one, other)["uplink"] != path
    talk.close()


def test_a_path_that_loses_a_third_is_left_for_a_clean_one(cables: Cables) -> None:
    talk = Talk(*cables.both)
    session = Transfer(*cables.both, 22, every=0.05, size=500)
    talk.go(2)
    path = cables.path()
    cables.fault(*cables.both, uplinks=path, what="numgen random mod 100 < 30")

    def is_left() -> bool:
        talk.go(1)
        return cables.path() != path

    until(is_left, CLEAN)
    talk.begin()
    talk.go(2)
    assert not talk.lost()
    session.moves()
    session.end()
    talk.close()


def test_where_all_paths_lose_a_third_the_two_go_on(cables: Cables) -> None:
    talk = Talk(*cables.both)
    # Little: TCP too waits long where half of all questions or answers are lost.
    session = Transfer(*cables.both, 22, every=0.05, size=100)
    talk.go(2)
    cables.fault(*cables.both, uplinks=ALL, what="numgen random mod 100 < 30")
    path = cables.path()
    talk.begin()
    talk.go(8)
    # Of two ways there and back of seven in ten each, about half.
    assert len(talk.answered) > len(talk.sent) / 3
    assert talk.gap() < 5 * BOUND
    assert cables.path() == path
    session.moves(180)
    talk.close()
    cables.mend()
    session.end()


def test_large_packets_that_vanish_move_a_session(cables: Cables) -> None:
    """Pings pass; the path takes 1280 bytes, says so to nobody, and the other takes more."""
    talk = Talk(*cables.both)
    session = Transfer(*cables.both, 22, every=0.05, size=20_000)
    talk.go(2)
    session.moves()
    path = cables.path()
    cables.fault(*cables.both, uplinks=path, what="meta length > 1280")
    # Only the session is there to be noticed by now.
    session.moves(CLEAN)

    def is_left() -> bool:
        talk.go(1)
        return cables.path() != path

    until(is_left, CLEAN)
    session.moves()
    session.end()
    talk.close()


def test_packets_shrink_where_the_long_ones_vanish(cables: Cables) -> None:
    """On both paths, so that there is no other; 1280 bytes and what WireGuard adds still pass."""
    session = Transfer(*cables.both, 22, every=0.05, size=20_000)
    talk = Talk(*cables.both)
    talk.go(5)
    cables.fault(*cables.both, uplinks=ALL, what="meta length > 1400")
    session.moves(CLEAN)
    assert lives(*cables.both)["mtu"] < 1420
    session.end()
    talk.close()
