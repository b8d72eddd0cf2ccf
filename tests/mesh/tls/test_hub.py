"""A relay's ports: who is told of whom, and who is passed on to whom."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.tls.frames import Port
from clan.mesh.tls.hub import Hub

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.tls.hub import News


class Told:
    """What the ends know by what they were told."""

    def __init__(self) -> None:
        self.by_end: dict[str, dict[int, Port]] = {}

    def take(self, news: Iterable[News[str]]) -> None:
        for each in news:
            known = self.by_end.setdefault(each.end, {})
            for number in each.gone:
                del known[number]
            known.update(each.here)


def port(name: str, id_: str = "00000001") -> Port:
    return Port(name.encode(), id_)


def test_two_that_may_talk_find_each_other_and_nobody_else() -> None:
    hub: Hub[str] = Hub(lambda one, other: b"tv" not in {one, other})
    told = Told()
    numbers = {}
    for name in ("nas", "tv", "laptop"):
        numbers[name], news = hub.join(port(name), name)
        told.take(news)
    assert told.by_end == {
        "nas": {numbers["laptop"]: port("laptop")},
        "laptop": {numbers["nas"]: port("nas")},
    }
    assert hub.find(numbers["nas"], numbers["laptop"]) == "laptop"
    assert hub.find(numbers["nas"], numbers["tv"]) is None
    assert hub.find(numbers["tv"], numbers["nas"]) is None
    assert hub.find(numbers["nas"], numbers["nas"]) is None
    assert hub.find(99, numbers["nas"]) is None
    assert hub.number(numbers["nas"], port("laptop")) == numbers["laptop"]
    assert hub.number(numbers["nas"], port("tv")) is None


def test_what_was_for_one_that_is_gone_reaches_nobody() -> None:
    hub: Hub[str] = Hub(lambda *_: True)
    told = Told()
    nas, _ = hub.join(port("nas"), "nas")
    first, news = hub.join(port("laptop"), "first")
    assert hub.find(nas, first) == "first"
    told.take(news)
    told.take(hub.leave(first))
    second, news = hub.join(port("laptop"), "second")
    told.take(news)
    assert second != first
    assert hub.find(nas, first) is None
    assert hub.find(nas, second) == "second"
    assert told.by_end["nas"] == {second: port("laptop")}
    assert hub.leave(first) == []
    assert hub.changed() == []


def test_a_map_that_parts_two_is_followed_at_once() -> None:
    apart: set[bytes] = set()
    hub: Hub[str] = Hub(lambda one, other: not {one, other} & apart)
    told = Told()
    nas, _ = hub.join(port("nas"), "nas")
    laptop, news = hub.join(port("laptop"), "laptop")
    told.take(news)
    assert hub.find(nas, laptop) == "laptop"
    apart.add(b"laptop")
    told.take(hub.changed())
    assert hub.find(nas, laptop) is None
    assert told.by_end == {"nas": {}, "laptop": {}}
    apart.clear()
    told.take(hub.changed())
    assert hub.find(nas, laptop) == "laptop"


@given(
    st.lists(
        st.tuples(st.sampled_from(["join", "leave", "part", "mend"]), st.integers(0, 5)),
        max_size=40,
    )
)
def test_each_knows_just_those_that_it_can_send_to(steps: list[tuple[str, int]]) -> None:
    apart: set[bytes] = set()
    hub: Hub[str] = Hub(lambda one, other: not {one, other} & apart)
    told = Told()
    numbers: dict[int, Port] = {}
    for step, which in steps:
        name = port(f"m{which}")
        if step == "join":
            number, news = hub.join(name, f"end {len(numbers)}")
            numbers[number] = name
            told.by_end.setdefault(f"end {len(numbers) - 1}", {})
        elif step == "leave":
            number = max((n for n, p in numbers.items() if p == name), default=0)
            news = hub.leave(number)
        else:
            (apart.add if step == "part" else apart.discard)(name.identity)
            news = hub.changed()
        told.take(news)
        for own, _, end in hub.ends():
            for number, theirs in numbers.items():
                knows = number in told.by_end[end]
                assert (hub.find(own, number) is not None) is knows
                assert not knows or not {theirs.identity, numbers[own].identity} & apart
