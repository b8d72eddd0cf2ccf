"""Lists reach whoever can be reached, and stop; what is old, too much or another's is not taken."""

from __future__ import annotations

import contextlib
from collections import deque
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import key

from clan.mesh.errors import MeshError
from clan.mesh.hops import flood, lists
from clan.mesh.hops.flood import Flood
from clan.mesh.hops.graph import ways
from clan.mesh.hops.lists import Neighbour, NeighbourList

NAMES = [f"machine{number}" for number in range(8)]
KEYS = {name: key(name) for name in NAMES}
MEMBERS = {KEYS[name].public: number for number, name in enumerate(NAMES, 1)}


def told(name: str, *near: str, serial: int = 1, cost: int = 10) -> NeighbourList:
    neighbours = (Neighbour(label=MEMBERS[KEYS[each].public], cost=cost) for each in near)
    said = NeighbourList(
        identity=KEYS[name].public, serial=serial, life=60, neighbours=tuple(sorted(neighbours))
    )
    return lists.write(said, KEYS[name])


@dataclass
class World:
    """Machines that hand lists on, with links that lose nothing and keep no order."""

    edges: dict[str, set[str]]
    floods: dict[str, Flood] = field(init=False)
    sent: int = 0
    now: float = 0.0
    waiting: deque[tuple[str, str, bytes]] = field(default_factory=deque)

    def __post_init__(self) -> None:
        self.floods = {name: Flood(KEYS[name].public) for name in self.edges}

    def say(self, name: str, serial: int) -> None:
        said = told(name, *self.edges[name], serial=serial)
        self.floods[name].put(said, self.now)
        for other in self.edges[name]:
            self.give(name, other, said)

    def give(self, one: str, other: str, said: NeighbourList) -> None:
        self.sent += 1
        self.waiting.append((one, other, said.raw))

    def run(self, order: list[int]) -> None:
        while self.waiting:
            self.waiting.rotate(order[self.sent % len(order)])
            one, here, data = self.waiting.popleft()
            news = self.floods[here].hear(data, KEYS[one].public, MEMBERS, self.now)
            if news.shown:
                self.give(here, one, news.shown)
            for other in self.edges[here] - {one} if news.taken else ():
                assert news.taken is not None
                self.give(here, other, news.taken)


EDGES = st.sets(
    st.tuples(st.sampled_from(NAMES), st.sampled_from(NAMES)).filter(lambda each: each[0] < each[1])
)
ORDER = st.lists(st.integers(0, 50), min_size=1, max_size=10)


@given(EDGES, ORDER)
def test_all_that_are_joined_come_to_hold_the_same_and_choose_the_same(
    edges: set[tuple[str, str]], order: list[int]
) -> None:
    near: dict[str, set[str]] = {name: set() for name in NAMES}
    for one, other in edges:
        near[one].add(other)
        near[other].add(one)
    world = World(near)
    for name in NAMES:
        world.say(name, 1)
    world.run(order)
    # Each list crosses each link once in each direction, at most.
    assert world.sent <= len(NAMES) * 2 * len(edges)
    for one, other in edges:
        held = [{each.raw for each in world.floods[name].lists(1)} for name in (one, other)]
        assert held[0] == held[1]
        for target in MEMBERS.values():
            known = [world.floods[name].graph(MEMBERS, 1) for name in (one, other)]
            assert ways(known[0], 1, target) == ways(known[1], 1, target)


def test_a_newer_list_counts_wherever_it_comes_from_and_an_older_one_is_answered() -> None:
    here = Flood(KEYS["machine0"].public)
    new, old = told("machine1", "machine0", serial=5), told("machine1", serial=4)
    assert here.hear(new.raw, KEYS["machine2"].public, MEMBERS, 0).taken == new
    assert here.hear(old.raw, KEYS["machine1"].public, MEMBERS, 1).shown == new
    assert here.hear(new.raw, KEYS["machine3"].public, MEMBERS, 1) == flood.News()
    assert [each.serial for each in here.lists(2)] == [5]


def test_what_is_held_expires_and_an_earlier_one_does_not_come_back() -> None:
    here = Flood(KEYS["machine0"].public)
    new, old = told("machine1", serial=5), told("machine1", serial=4)
    here.hear(new.raw, KEYS["machine1"].public, MEMBERS, 0)
    assert here.expires(1) == 60
    assert list(here.lists(60)) == []
    assert here.hear(old.raw, KEYS["machine2"].public, MEMBERS, 61).taken is None
    here.forget(MEMBERS, 61 + flood.GIVEN_UP)
    assert here.hear(old.raw, KEYS["machine2"].public, MEMBERS, 4000).taken == old


def test_a_machine_whose_clock_went_back_is_told_by_what_it_is_outdone() -> None:
    here = Flood(KEYS["machine1"].public)
    before = told("machine1", serial=99)
    here.put(told("machine1", serial=3), 0)
    assert here.hear(before.raw, KEYS["machine2"].public, MEMBERS, 0).taken is None
    assert here.own_serial == 99


def test_nobody_is_listened_to_who_is_no_member_any_more() -> None:
    here = Flood(KEYS["machine0"].public)
    there = told("machine1")
    here.hear(there.raw, KEYS["machine2"].public, MEMBERS, 0)
    left = {who: label for who, label in MEMBERS.items() if who != KEYS["machine1"].public}
    assert here.graph(left, 1).edges == {}
    here.forget(left, 1)
    assert list(here.lists(1)) == []
    with pytest.raises(MeshError, match="no member"):
        here.hear(there.raw, KEYS["machine2"].public, left, 1)


def test_what_was_heard_already_costs_nothing_and_crowds_out_nothing() -> None:
    """Each list comes from as many sides as there are: only the first is read."""
    here = Flood(KEYS["machine0"].public)
    said = told("machine1", serial=5)
    assert here.hear(said.raw, KEYS["machine2"].public, MEMBERS, 0).taken == said
    for _ in range(10 * int(flood.MOST_IN_A_ROW)):
        assert here.hear(said.raw, KEYS["machine3"].public, MEMBERS, 1) == flood.News()
    new = told("machine4", serial=1)
    assert here.hear(new.raw, KEYS["machine3"].public, MEMBERS, 1).taken == new


def test_a_member_that_shouts_is_not_handed_on_for_ever() -> None:
    here = Flood(KEYS["machine0"].public)
    first = told("machine1", serial=1)
    taken = 0
    for serial in range(1, 101):
        said = lists.write(replace(first, serial=serial), KEYS["machine1"])
        taken += here.hear(said.raw, KEYS["machine2"].public, MEMBERS, 0).taken is not None
    assert taken == flood.MOST_OF_ONE
    later = lists.write(replace(first, serial=1000), KEYS["machine1"])
    assert here.hear(later.raw, KEYS["machine2"].public, MEMBERS, 1).taken == later


def test_a_neighbour_that_shouts_is_not_read_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    here = Flood(KEYS["machine0"].public)
    read = []

    def counted(data: bytes) -> NeighbourList:
        read.append(data)
        raise MeshError("no list")

    monkeypatch.setattr(lists, "read", counted)
    for _ in range(1000):
        with contextlib.suppress(MeshError):
            here.hear(b"noise", KEYS["machine2"].public, MEMBERS, 0)
    assert len(read) == flood.MOST_IN_A_ROW
