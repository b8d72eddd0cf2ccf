"""When a member asks its relays, where, and what it makes of answers."""

from __future__ import annotations

from dataclasses import replace

import pytest

from clan.mesh.link import Endpoint, LinkId
from clan.mesh.relay import seat
from clan.mesh.relay.message import Answer, Outcome
from clan.mesh.relay.seat import (
    CALL_EVERY,
    HASTE,
    LAST,
    PATIENT,
    PAUSE,
    REFRESH,
    Query,
    State,
    Want,
)

LINK = LinkId(peer="nas", own="0000000a", their="0000000b")
PLACES = (Endpoint(host="2001:db8::2", port=23600), Endpoint(host="203.0.113.2", port=40000))
WANT = Want(link=LINK, own=b"a" * 32, peer=b"b" * 32, relay=b"r" * 32, places=PLACES)


def begun(now: float = 0.0) -> tuple[State, Query]:
    state, _ = seat.settle(State(), [WANT], 1.0)
    state, (query,) = seat.ask(state, now)
    return state, query


def answer(query: Query, outcome: Outcome, **more: object) -> Answer:
    ask = query.ask
    made = Answer(
        to=WANT.own,
        peer=ask.peer,
        own=ask.own,
        their=ask.their,
        serial=ask.serial,
        outcome=outcome,
        seat=ask.seat,
    )
    return replace(made, **more)  # type: ignore[arg-type]


def test_it_asks_until_it_is_answered_at_one_address_and_then_the_next() -> None:
    state, query = begun()
    hosts, now = [query.to.host], 0.0
    while now < 20:
        now = state.due
        state, queries = seat.ask(state, now)
        hosts += [each.to.host for each in queries]
        assert {each.ask.serial for each in queries} == {query.ask.serial}
    assert hosts[: 2 * PATIENT] == PATIENT * [PLACES[0].host] + PATIENT * [PLACES[1].host]
    assert state.due - now <= LAST


def test_the_port_for_any_seat_is_tried_when_the_seats_are_not_answered_from() -> None:
    door = Endpoint(host="203.0.113.2", port=443)
    state, _ = seat.settle(State(), [replace(WANT, doors=(door,))], 1.0)
    there: list[Endpoint] = []
    while len(there) < 4 * PATIENT:
        state, queries = seat.ask(state, state.due)
        there += [each.to for each in queries]
    assert there[2 * PATIENT : 3 * PATIENT] == PATIENT * [door]
    assert there[3 * PATIENT] == there[0]


def test_a_link_that_is_looked_for_again_and_again_has_the_next_place_tried_too() -> None:
    state, query = begun()
    hosts, now = [query.to.host], 0.0
    while now < 3:
        now += 2 * HASTE
        state = seat.hurry(state, LINK, now)
        state, queries = seat.ask(state, now)
        hosts += [each.to.host for each in queries]
    assert set(hosts) == {each.host for each in PLACES}


def test_the_relay_says_how_and_the_link_is_ready_once() -> None:
    state, query = begun()
    state, began = seat.take(state, WANT.relay, answer(query, Outcome.TOKEN, token=b"t"))
    state, (query,) = seat.ask(state, 0.1)
    assert (query.ask.token, began) == (b"t", False)
    state, _ = seat.take(state, WANT.relay, answer(query, Outcome.SEAT, seat=3))
    state, (query,) = seat.ask(state, 0.2)
    assert (query.ask.seat, query.to.port) == (3, 23603)
    state, began = seat.take(state, WANT.relay, answer(query, Outcome.READY))
    assert began
    state, again = seat.take(state, WANT.relay, answer(query, Outcome.READY))
    assert not again
    assert state.due == 0.2 + REFRESH


@pytest.mark.parametrize(
    ("outcome", "pause"),
    [
        (Outcome.WAITING, CALL_EVERY),
        (Outcome.READY, REFRESH),
        (Outcome.FULL, PAUSE),
        (Outcome.REFUSED, PAUSE),
    ],
)
def test_it_asks_again_when_that_is_of_use(outcome: Outcome, pause: float) -> None:
    state, query = begun()
    state, _ = seat.take(state, WANT.relay, answer(query, outcome))
    assert state.due == pause
    state, (again,) = seat.ask(state, state.due)
    assert again.ask.serial > query.ask.serial


def test_a_clock_that_went_back_is_made_up_for() -> None:
    state, query = begun()
    state, _ = seat.take(state, WANT.relay, answer(query, Outcome.OLD, serial=1 << 50))
    state, (query,) = seat.ask(state, 0.1)
    assert query.ask.serial == (1 << 50) + 1


@pytest.mark.parametrize(
    "change", [{"sender": b"x" * 32}, {"peer": b"x" * 32}, {"own": "0000000c"}, {"serial": 1}]
)
def test_answers_of_others_or_to_something_else_count_for_nothing(
    change: dict[str, object],
) -> None:
    state, query = begun()
    sender = change.pop("sender", WANT.relay)
    assert isinstance(sender, bytes)
    wrong = answer(query, Outcome.READY, **change)
    assert seat.take(state, sender, wrong) == (state, False)


def test_a_relay_that_never_says_yes_is_not_asked_for_ever() -> None:
    state, query = begun()
    asks = 0
    while asks < 100 and state.due <= 0:
        state, _ = seat.take(state, WANT.relay, answer(query, Outcome.TOKEN, token=b"t"))
        state, found = seat.ask(state, 0.0)
        query = found[0] if found else query
        asks += 1
    assert asks < 10


def test_who_is_not_wanted_is_told() -> None:
    state, query = begun()
    assert seat.settle(state, [], 2.0)[1] == []  # nobody knows of it
    state, _ = seat.take(state, WANT.relay, answer(query, Outcome.TOKEN, token=b"t"))
    state, (farewell,) = seat.settle(state, [], 2.0)
    assert farewell.ask.leaves
    assert farewell.ask.serial > query.ask.serial
    assert not state.seats


def test_a_link_that_another_relay_takes_over_goes_on_until_that_does() -> None:
    state, query = begun()
    state, _ = seat.take(state, WANT.relay, answer(query, Outcome.TOKEN, token=b"t"))
    other = replace(WANT, relay=b"q" * 32)
    state, farewells = seat.settle(state, [other], 2.0)
    assert farewells == []
    assert state.seats[LINK].want == other
    assert not state.seats[LINK].is_ready


def test_looking_for_a_link_asks_at_once_but_not_twice() -> None:
    state, query = begun()
    state, _ = seat.take(state, WANT.relay, answer(query, Outcome.READY))
    assert seat.hurry(state, LINK, 0.05) == state
    state = seat.hurry(state, LINK, 5.0)
    state, (again,) = seat.ask(state, 5.0)
    assert again.ask.serial > query.ask.serial
    assert state.seats[LINK].is_ready
