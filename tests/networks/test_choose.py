from __future__ import annotations

import pytest

from clan.model.route import Network, Route
from clan.networks.choose import FIRST_PENALTY, LONGEST_PENALTY, Action, penalty, rank
from clan.networks.memory import Memory
from clan.networks.technology import Throughput, Traits

NOW = 1_000_000.0
HOME = "home"
TRAITS = {
    "fast": Traits(throughput=Throughput.HIGH),
    "medium": Traits(throughput=Throughput.MEDIUM),
    "hidden": Traits(throughput=Throughput.LOW, hides_location=True),
}


def route(network: str, priority: int, technology: str = "fast") -> Route:
    shape = Network(name=network, module=network, technology=technology, priority=priority)
    return Route(machine="nas", network=shape, hosts=("nas.local",))


LAN = route("lan", 2500)
INTERNET = route("internet", 2000)
TOR = route("tor", 10, "hidden")
QUICK, SLOW, BIG = route("quick", 700, "medium"), route("slow", 700, "medium"), route("big", 700)


def failed(network: str, *, times: int = 1, ago: float = 1.0, underlay: str = HOME) -> Memory:
    memory = Memory()
    for _ in range(times):
        memory = memory.failed(network, underlay, error="no answer", now=NOW - ago)
    return memory


def measured(**rtts: float) -> Memory:
    memory = Memory()
    for network, rtt in rtts.items():
        memory = memory.worked(network, HOME, rtt=rtt, address="a", now=NOW - 9)
    return memory


@pytest.mark.parametrize(
    ("story", "memory", "action", "order"),
    [
        ("priority decides", Memory(), Action.INTERACTIVE, "lan internet big quick slow tor"),
        (
            "what failed lately here goes behind everything",
            failed("lan"),
            Action.INTERACTIVE,
            "internet big quick slow tor lan",
        ),
        (
            "what failed elsewhere does not count here",
            failed("lan", underlay="cafe"),
            Action.INTERACTIVE,
            "lan internet big quick slow tor",
        ),
        (
            "after its penalty a network is in its place again",
            failed("lan", ago=FIRST_PENALTY + 1),
            Action.INTERACTIVE,
            "lan internet big quick slow tor",
        ),
        (
            "failing again and again keeps it behind for longer",
            failed("lan", times=3, ago=FIRST_PENALTY + 1),
            Action.INTERACTIVE,
            "internet big quick slow tor lan",
        ),
        (
            "a clock that went back does not keep it behind for ever",
            failed("lan", ago=-LONGEST_PENALTY * 3),
            Action.INTERACTIVE,
            "lan internet big quick slow tor",
        ),
        (
            "within one priority the lower latency is first, and the unmeasured last",
            measured(slow=0.2, quick=0.01),
            Action.INTERACTIVE,
            "lan internet quick slow big tor",
        ),
        (
            "latency does not beat priority",
            measured(tor=0.0001),
            Action.INTERACTIVE,
            "lan internet big quick slow tor",
        ),
        (
            "to copy, the throughput class comes before latency",
            measured(quick=0.01, slow=0.2, big=0.5),
            Action.BULK,
            "lan internet big quick slow tor",
        ),
        ("private is only what hides location", Memory(), Action.PRIVATE, "tor"),
    ],
)
def test_ranking(story: str, memory: Memory, action: Action, order: str) -> None:
    ranking = rank(
        [TOR, SLOW, BIG, INTERNET, QUICK, LAN],
        traits=TRAITS,
        action=action,
        memory=memory,
        underlay=HOME,
        now=NOW,
    )
    assert " ".join(r.route.network.name for r in ranking.allowed) == order, story
    assert len(ranking.allowed) + len(ranking.excluded) == 6


def test_every_place_has_its_reason() -> None:
    memory = measured(internet=0.0123).failed("lan", HOME, error="no answer", now=NOW - 1)
    ranking = rank(
        [LAN, INTERNET, TOR],
        traits=TRAITS,
        action=Action.INTERACTIVE,
        memory=memory,
        underlay=HOME,
        now=NOW,
    )
    assert [ranked.why for ranked in ranking.allowed] == [
        "priority 2000, 12.3 ms when last measured here",
        "priority 10",
        "failed here lately, priority 2500",
    ]


def test_the_penalty_doubles_up_to_a_limit() -> None:
    assert [penalty(count) for count in (0, 1, 2, 3)] == [0, 60, 120, 240]
    assert penalty(10_000) == LONGEST_PENALTY
