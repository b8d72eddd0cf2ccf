"""Controllers that stand in for dead ones: what is made of answers, played out on a clock."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from clan.machine.wireguard import board, watch
from clan.machine.wireguard.carriers import Known, allowed, stand_ins
from clan.machine.wireguard.link import Link

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NAMES = ("c1", "c2", "c3")
TICK = 0.02
TRIP = 0.04


def link(names: tuple[str, ...] = NAMES, *, own: str | None = None) -> Link:
    carriers = [
        {"name": name, "subnet": f"fd00:0:0:{n}00::/56", "address": f"fd00:0:0:{n}00::1"}
        for n, name in enumerate(names, 1)
    ]
    shape: dict[str, Any] = {
        "name": "vpn",
        "private_key": "/key",
        "addresses": [],
        "routes": [],
        "peers": [
            {
                "name": each["name"],
                "public_key": each["name"].upper(),
                "allowed_ips": [each["subnet"]],
                "endpoint": None,
                "keepalive": None,
            }
            for each in carriers
            if each["name"] != own
        ],
        "mtu": 1420,
        "port": None,
        "carriers": carriers,
    }
    return Link.of(shape)


@pytest.mark.parametrize(
    ("dead", "by"),
    [
        ((), {}),
        (("c1",), {"c1": "c2"}),
        (("c2",), {"c2": "c1"}),
        (("c1", "c2"), {"c1": "c3", "c2": "c3"}),
        (NAMES, {}),
        (("gone",), {}),
    ],
)
def test_the_first_that_lives_stands_in(dead: tuple[str, ...], by: dict[str, str]) -> None:
    assert stand_ins(link().carriers, dead) == by


def test_a_dead_ones_subnet_moves_and_its_own_address_stays() -> None:
    one, two, three = (f"fd00:0:0:{n}00::/56" for n in (1, 2, 3))
    assert allowed(link(), ()) == {"C1": {one}, "C2": {two}, "C3": {three}}
    assert allowed(link(), {"c1"}) == {
        "C1": {"fd00:0:0:100::1/128"},
        "C2": {one, two},
        "C3": {three},
    }
    # A controller reaches all peers directly: nothing of its moves.
    assert allowed(link(own="c3"), {"c1"}) == {"C1": {one}, "C2": {two}}


def test_what_is_known_outlives_the_agent(tmp_path: Path) -> None:
    assert Known.read("vpn", tmp_path) == Known()
    known = Known(lost=("c1",), told={"c2": ("c1",)}, since={"c1": 5.0})
    known.write("vpn", tmp_path)
    assert Known.read("vpn", tmp_path) == known
    Known.forget("vpn", tmp_path)
    assert Known.read("vpn", tmp_path).dead == frozenset()


class World:
    """Peers and controllers on one clock; `up(peer, controller, now)` is whether a way works."""

    def __init__(self, peers: int = 2, names: tuple[str, ...] = NAMES, start: float = 0.0) -> None:
        self.peers = {
            f"p{n}": watch.Watch(sights={name: watch.Sight() for name in names})
            for n in range(1, peers + 1)
        }
        self.boards = {name: board.Board() for name in names}
        self.up: Callable[[str, str, float], bool] = lambda _p, _c, _t: True
        self.trip: Callable[[str], float] = lambda _: TRIP
        self.busy = {"p1"}
        self.quiet = True
        self.now = start
        self.asked = dict.fromkeys(self.peers, 0)
        self.changes: list[tuple[float, str, frozenset[str]]] = []
        self.answers: list[tuple[float, str, str, int]] = []
        self.mail: list[tuple[float, str, str, frozenset[str]]] = []

    def run(self, seconds: float) -> None:
        """Let time pass."""
        for _ in range(round(seconds / TICK)):
            self.now += TICK
            for peer in self.peers:
                self.turn_of_peer(peer)
            for name in self.boards:
                self.turn_of_board(name)

    def due(self, mail: list[Any], to: str) -> list[Any]:
        found = [each for each in mail if each[0] <= self.now and each[1] == to]
        mail[:] = [each for each in mail if each not in found]
        return found

    def turn_of_peer(self, peer: str) -> None:
        answers = tuple((name, n) for _, _, name, n in self.due(self.answers, peer))
        heard = tuple((name, what) for _, _, name, what in self.due(self.mail, peer))
        before = self.peers[peer].dead
        look = watch.Look(now=self.now, busy=peer in self.busy, answers=answers, heard=heard)
        after, acts = watch.step(self.peers[peer], look)
        self.peers[peer] = after
        if after.dead != before:
            assert acts.lines
            self.changes.append((self.now, peer, after.dead))
        self.asked[peer] += acts.ask is not None
        for name in after.sights:
            if acts.ask is not None and self.up(peer, name, self.now):
                self.answers.append((self.now + self.trip(name), peer, name, acts.ask))
            if acts.tell and name not in after.lost and self.up(peer, name, self.now):
                self.mail.append((self.now + TRIP / 2, name, peer, after.lost))

    def turn_of_board(self, name: str) -> None:
        heard = tuple((peer, lost) for _, _, peer, lost in self.due(self.mail, name))
        look = board.Look(now=self.now, quiet=self.quiet, heard=heard)
        self.boards[name], acts = board.step(self.boards[name], look)
        for peer in self.peers if acts.tell_all else acts.tell:
            if self.up(peer, name, self.now):
                self.mail.append((self.now + TRIP / 2, peer, name, self.boards[name].dead))

    def dead(self) -> list[set[str]]:
        return [set(each.dead) for each in self.peers.values()]


def dies(*names: str, at: float = 0.0, back: float = float("inf")) -> Any:
    return lambda _peer, name, now: not (name in names and at <= now < back)


def test_all_that_hear_of_a_dead_controller_move_within_two_seconds() -> None:
    """Those too that send nothing, and so would not notice."""
    for moment in range(20):
        world = World(peers=5)
        world.run(10 + moment * TICK)
        world.up = dies("c2", at=world.now)
        died = world.now
        world.run(2)
        assert world.dead() == [{"c2"}] * 5
        assert max(at for at, _, _ in world.changes) - died < 1.7
        assert len(world.changes) == 5


def test_what_one_peer_alone_lost_moves_for_all() -> None:
    world = World(peers=3)
    world.run(5)
    world.up = lambda peer, name, _: (peer, name) != ("p1", "c1")
    world.run(3)
    assert world.dead() == [{"c1"}] * 3
    assert world.peers["p2"].lost == frozenset()
    # For as long as it is so for that one.
    world.run(60)
    assert world.dead() == [{"c1"}] * 3
    world.up = dies()
    world.run(20)
    assert world.dead() == [set()] * 3


def test_two_dead_ones_are_carried_by_the_third() -> None:
    world = World(peers=3)
    world.run(5)
    world.up = dies("c1", "c2")
    world.run(8)
    assert world.dead() == [{"c1", "c2"}] * 3


@pytest.mark.parametrize("names", [NAMES, ("c1", "c2")])
def test_where_none_answers_nothing_moves(names: tuple[str, ...]) -> None:
    """The uplink is gone, and comes back; or all answers are late."""
    world = World(names=names)
    world.run(5)
    world.up = dies(*names, at=5, back=30)
    world.run(40)
    world.trip = lambda _: 1.5
    world.run(20)
    assert world.changes == []


def test_a_far_controller_is_not_a_dead_one() -> None:
    world = World()
    for far in (0.5, 1.0, 1.5):
        world.trip = lambda name, far=far: far if name == "c1" else 0.01  # type: ignore[misc]
        world.run(30)
    assert world.changes == []


def test_few_questions_say_nothing_however_long_they_took() -> None:
    """The agent itself did not come to run."""
    known = watch.Watch(sights={name: watch.Sight() for name in NAMES})
    for number in range(1, watch.MISSES):
        known, acts = watch.step(known, watch.Look(now=float(number), busy=True))
        assert acts.ask == number
        answers = (("c2", number), ("c3", number))
        known, _ = watch.step(known, watch.Look(now=number + 0.01, busy=True, answers=answers))
    assert known.lost == frozenset()


def test_lost_packets_are_not_a_dead_controller() -> None:
    world = World()
    # Every third answer of one controller is lost.
    world.up = lambda _peer, name, now: name != "c1" or round(now / TICK) % 3 != 0
    world.run(120)
    assert world.changes == []


def test_where_nothing_is_sent_nothing_is_asked() -> None:
    world = World()
    world.busy = set()
    world.run(5)
    # Once, to learn how far they are.
    assert world.asked == {"p1": 1, "p2": 1}
    world.up = dies("c1")
    world.run(600)
    assert world.asked == {"p1": 1, "p2": 1}
    world.busy = {"p1"}
    world.run(2)
    assert world.dead() == [{"c1"}] * 2


def test_it_comes_back_after_a_while_and_at_a_quiet_moment() -> None:
    world = World()
    world.run(5)
    world.up = dies("c1", at=5, back=100)
    world.run(95)
    world.quiet = False
    world.run(10)
    assert world.dead() == [{"c1"}] * 2
    world.run(25)
    assert all(not each.lost for each in world.peers.values())
    assert world.dead() == [{"c1"}] * 2
    world.quiet = True
    world.run(0.2)
    assert world.dead() == [set()] * 2
    # All changed over within a round trip, and nothing changed again.
    first, last = (at for at, _, _ in world.changes[-2:])
    assert last - first <= TRIP
    world.run(60)
    assert len(world.changes) == 4


def test_a_moment_that_is_never_quiet_is_waited_for_half_a_minute_at_most() -> None:
    world = World()
    world.quiet = False
    world.run(5)
    world.up = dies("c1", at=5, back=20)
    world.run(15 + 5 + 12 + board.LONGEST + 8)
    assert world.dead() == [set()] * 2


def test_one_that_comes_and_goes_is_trusted_less_and_less() -> None:
    world = World()
    # Half a minute there, half a minute not.
    world.up = lambda _peer, name, now: name != "c1" or int(now) // 30 % 2 == 0
    world.run(1800)
    moves = [at for at, peer, _ in world.changes if peer == "p1"]
    assert len(moves) <= 6
    assert max(each.sights["c1"].patience for each in world.peers.values()) <= 320


def test_a_word_that_nobody_repeats_ends() -> None:
    """The peer that lost a controller is switched off; the others go back."""
    world = World(peers=3)
    world.run(5)
    world.up = lambda peer, name, _: (peer, name) != ("p1", "c1")
    world.run(3)
    world.up = lambda peer, _name, _now: peer != "p1"
    world.run(board.LEASE + 8)
    assert world.dead()[1:] == [set()] * 2


def test_a_board_that_is_silent_leaves_all_as_it_is() -> None:
    """Controllers' agents are killed: peers keep what they were told."""
    world = World()
    world.run(5)
    world.up = dies("c1")
    world.run(3)
    world.boards.clear()
    world.run(60)
    assert world.dead() == [{"c1"}] * 2
