"""What a relay makes of asks: in tables, and for any order of them."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.link import Endpoint
from clan.mesh.relay import desk
from clan.mesh.relay.desk import LIFE, TOKEN_FOR, Asked, Count, Desk, Post, Side, State
from clan.mesh.relay.message import Answer, Ask, Call, Outcome
from clan.mesh.relay.ports import DOOR, PORTS, SEATS
from clan.mesh.relay.table import NextHop, Passed, ruleset

RELAY = b"r" * 32
ENDS: dict[str, Side] = {name: (name.encode() * 32, f"{name * 8}") for name in "abcdef"}
FOUR = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
DESK = Desk(own=RELAY, secret=b"s" * 32, joins=lambda one, other: b"x" * 32 not in {one, other})


def asked(
    own: str,
    peer: str,
    *,
    seat: int = 7,
    port: int = 4000,
    serial: int = 1,
    door: bool = False,
    **more: object,
) -> Asked:
    ask = Ask(
        to=RELAY,
        peer=ENDS[peer][0],
        own=ENDS[own][1],
        their=ENDS[peer][1],
        seat=seat,
        serial=serial,
        **more,  # type: ignore[arg-type]
    )
    source = Endpoint(host=f"198.51.100.{ord(own)}", port=port)
    return Asked(
        sender=ENDS[own][0],
        ask=ask,
        source=source,
        local="203.0.113.2",
        seat=seat,
        port=DOOR if door else PORTS[seat],
    )


def answers(said: list[Post | Call]) -> list[Answer]:
    return [e.message for e in said if isinstance(e, Post) and isinstance(e.message, Answer)]


def register(state: State, ask: Asked, now: float = 0.0) -> tuple[State, list[Answer]]:
    """Ask as a member does, as often as the relay says how; return the last answers."""
    for _ in range(4):
        state, said = DESK.take(state, ask, now)
        found = answers(said)
        if not found or found[0].outcome not in {Outcome.TOKEN, Outcome.SEAT}:
            return state, found
        fresh = replace(ask.ask, token=found[0].token, seat=found[0].seat)
        port = DOOR if ask.port == DOOR else PORTS[found[0].seat]
        ask = replace(ask, ask=fresh, seat=found[0].seat, port=port)
    raise AssertionError("the relay never says yes")


def test_both_ends_are_told_when_both_are_there() -> None:
    state, (first,) = register(State(), asked("a", "b"))
    assert first.outcome is Outcome.WAITING
    state, found = register(state, asked("b", "a"))
    assert [each.outcome for each in found] == 2 * [Outcome.READY]
    assert {each.to for each in found} == {ENDS["a"][0], ENDS["b"][0]}
    assert state.flows[0].is_ready


def test_who_waits_has_the_other_called() -> None:
    state, said = DESK.take(State(), asked("a", "b"), 0)
    token = answers(said)[0].token
    _, said = DESK.take(state, asked("a", "b", token=token), 0)
    call = next(each for each in said if isinstance(each, Call))
    assert (call.to, call.peer, call.own) == (ENDS["b"][0], ENDS["a"][0], ENDS["b"][1])


@pytest.mark.parametrize(
    "change",
    [
        {"source": Endpoint(host="192.0.2.9", port=4000)},
        {"source": Endpoint(host="198.51.100.97", port=4001)},
        {"local": "203.0.113.3"},
        {"sender": ENDS["c"][0]},
    ],
)
def test_a_token_is_good_for_one_place_and_one_sender(change: dict[str, object]) -> None:
    state, said = DESK.take(State(), asked("a", "b"), 0)
    right = asked("a", "b", token=answers(said)[0].token)
    assert answers(DESK.take(state, right, 0)[1])[0].outcome is Outcome.WAITING
    wrong = replace(right, **change)  # type: ignore[arg-type]
    state, said = DESK.take(state, wrong, 0)
    assert answers(said)[0].outcome is Outcome.TOKEN
    assert not state.flows


def test_a_token_ends() -> None:
    _, said = DESK.take(State(), asked("a", "b"), 0)
    right = asked("a", "b", token=answers(said)[0].token)
    for now, outcome in ((TOKEN_FOR, Outcome.WAITING), (2 * TOKEN_FOR, Outcome.TOKEN)):
        assert answers(DESK.take(State(), right, now)[1])[0].outcome is outcome


def test_who_is_registered_from_there_needs_no_token() -> None:
    state, _ = register(State(), asked("a", "b"))
    state, said = DESK.take(state, asked("a", "b", serial=2), 9)
    assert answers(said)[0].outcome is Outcome.WAITING
    assert state.flows[0].legs[0].at == 9
    moved = [asked("a", "b", serial=3, port=4001), asked("a", "b", serial=3, door=True)]
    for each in (*moved, replace(asked("a", "b", serial=3), local="203.0.113.3")):
        assert answers(DESK.take(state, each, 9)[1])[0].outcome is Outcome.TOKEN


def test_a_serial_counts_once() -> None:
    state, _ = register(State(), asked("a", "b", serial=5))
    state, _ = register(state, asked("a", "b", serial=6, port=4001))
    token = DESK.take(state, asked("a", "b", serial=9), 0)[1]
    old = asked("a", "b", serial=5, token=answers(token)[0].token)
    after, said = DESK.take(state, old, 0)
    assert after == state
    assert (answers(said)[0].outcome, answers(said)[0].serial) == (Outcome.OLD, 6)
    same = replace(old, ask=replace(old.ask, serial=6))
    assert DESK.take(state, same, 0) == (state, [])  # from where it is not any more


def test_an_answer_that_was_lost_is_given_again() -> None:
    state, _ = register(State(), asked("a", "b"))
    after, again = register(state, asked("a", "b"), 1.0)
    assert after == state
    assert again[0].outcome is Outcome.WAITING


def test_flows_that_share_a_side_have_seats_of_their_own() -> None:
    state = State()
    for pair in ("ab", "ac", "bc", "de"):
        for own, peer in ((pair[0], pair[1]), (pair[1], pair[0])):
            state, _ = register(state, asked(own, peer, port=4000 + len(state.flows)))
    seats = {"".join(sorted(k for k in ENDS if ENDS[k] in f.sides)): f.seat for f in state.flows}
    assert len({seats["ab"], seats["ac"], seats["bc"]}) == 3
    assert seats["de"] == 7  # it shares none, so it need not move


def test_there_are_so_many_seats_and_no_more() -> None:
    flows = tuple(
        desk.Flow(sides=(ENDS["a"], (b"z" * 32, f"{seat:08x}")), seat=seat, number=seat + 1)
        for seat in range(SEATS)
    )
    _, said = DESK.take(State(flows=flows), asked("a", "b"), 0)
    assert answers(said)[0].outcome is Outcome.FULL


@pytest.mark.parametrize("pair", [(ENDS["a"][0], ENDS["a"][0]), (ENDS["a"][0], RELAY)])
def test_no_machine_is_joined_with_itself_or_the_relay(pair: tuple[bytes, bytes]) -> None:
    ask = asked("a", "b")
    ask = replace(ask, sender=pair[0], ask=replace(ask.ask, peer=pair[1]))
    assert answers(DESK.take(State(), ask, 0)[1])[0].outcome is Outcome.REFUSED


def test_another_map_ends_what_it_forbids() -> None:
    state = State()
    for own, peer in FOUR:
        state, _ = register(state, asked(own, peer))
    without = replace(DESK, joins=lambda one, other: ENDS["a"][0] not in {one, other})
    assert [flow.sides[0] for flow in without.revise(state).flows] == [ENDS["c"]]
    assert DESK.revise(state) is state


def test_who_leaves_is_gone_and_a_flow_that_is_silent_too() -> None:
    state = State()
    for own, peer in FOUR:
        state, _ = register(state, asked(own, peer))
    state, _ = register(state, asked("a", "b", serial=2, leaves=True))
    left, right = state.flows
    assert (len(left.legs), len(right.legs)) == (1, 2)
    state = desk.count(state, {right.number: Count(passed=1)}, LIFE - 1)
    state = desk.count(state, {}, LIFE + 1)
    assert [flow.number for flow in state.flows] == [right.number]


def test_a_flow_that_came_in_fragments_once_is_not_plain_any_more() -> None:
    state = State()
    for own, peer in FOUR:
        state, _ = register(state, asked(own, peer))
    state = desk.count(state, {1: Count(fragments=1), 2: Count(passed=9)}, 1)
    state = desk.count(state, {1: Count(passed=9)}, 2)
    state, _ = register(state, asked("a", "b", serial=2), 3)
    assert [flow.is_plain for flow in state.flows] == [False, True]


def test_one_end_may_come_by_the_port_that_stands_for_any_seat() -> None:
    state, _ = register(State(), asked("a", "b", door=True))
    state, found = register(state, asked("b", "a"))
    assert [each.outcome for each in found] == 2 * [Outcome.READY]
    hop = NextHop(interface="eth0", neighbour="203.0.113.1")
    written = ruleset([Passed(flow=state.flows[0], hops=(hop, hop))], ["eth0"])
    # What goes to either comes from where it sends to.
    for at, (host, port, other) in enumerate(
        (("198.51.100.97", DOOR, 1), ("198.51.100.98", PORTS[7], 0))
    ):
        assert f"{host} . 4000 . 203.0.113.2 . {port} : goto to1_{other}" in written
        chain = written.partition(f"chain to1_{at} {{")[2].partition("}")[0]
        assert f"ip daddr set {host}\n" in chain
        assert f"udp sport set {port} udp dport set 4000 " in chain


def test_the_port_for_any_seat_serves_one_flow_of_an_interface() -> None:
    state, _ = register(State(), asked("a", "b", door=True))
    after, (refused,) = register(state, asked("a", "c", door=True))
    assert (refused.outcome, after) == (Outcome.FULL, state)
    _, (waits,) = register(state, asked("a", "c"))
    assert waits.outcome is Outcome.WAITING


ASKS = st.tuples(
    st.sampled_from("abcd"),
    st.sampled_from("abcd"),
    st.integers(0, 3),
    st.integers(4000, 4002),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
)


@given(st.lists(ASKS, max_size=40))
def test_whatever_is_asked_no_two_flows_are_taken_for_each_other(
    asks: list[tuple[str, str, int, int, int, bool, bool]],
) -> None:
    state = State()
    for number, (own, peer, seat, port, serial, leaves, door) in enumerate(asks):
        ask = asked(own, peer, seat=seat, port=port, serial=serial, leaves=leaves, door=door)
        # All behind one router, so that their places can be the same.
        ask = replace(ask, source=Endpoint(host="198.51.100.1", port=port))
        if own != peer:
            state, _ = register(state, ask, float(number))
        keys = [(leg.endpoint, leg.port) for flow in state.flows for leg in flow.legs]
        assert len(keys) == len(set(keys))
        numbers = [flow.number for flow in state.flows]
        assert len(numbers) == len(set(numbers))
        for flow in state.flows:
            others = [f for f in state.flows if f is not flow and set(f.sides) & set(flow.sides)]
            assert flow.seat not in {other.seat for other in others}
