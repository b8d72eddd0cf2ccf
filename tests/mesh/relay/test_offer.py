"""When a machine believes that it can be reached from outside."""

from __future__ import annotations

import itertools
from ipaddress import ip_network
from typing import TYPE_CHECKING

from clan.mesh.link import Endpoint
from clan.mesh.relay import offer, relaying
from clan.mesh.relay.offer import AGAIN, APART, HURRIED, LAST, VALID, State

if TYPE_CHECKING:
    from clan.mesh.relay.message import Try

PLACE = Endpoint(host="203.0.113.2", port=23600)
MEMBERS = [b"a" * 32, b"b" * 32]
LAN = [ip_network("192.0.2.0/24"), ip_network("2001:db8:9::/64")]
NONCE = b"n" * 16


def ask(state: State, now: float) -> tuple[State, Try]:
    """Have a place tried that is due."""
    state, query = offer.ask(state, MEMBERS, NONCE, now)
    assert query is not None
    return state, query


def asked() -> tuple[State, bytes]:
    state, query = ask(offer.settle(State(), [PLACE]), 0.0)
    return state, query.nonce


def test_what_arrives_from_elsewhere_shows_it_for_a_while() -> None:
    state, nonce = asked()
    assert offer.reached(state, 1.0) == []
    state = offer.arrive(state, nonce, "198.51.100.7", LAN, 1.0)
    assert offer.reached(state, 1.0) == [PLACE]
    assert state.due == 1.0 + AGAIN
    assert offer.reached(state, 1.0 + VALID) == []


def test_what_comes_from_its_own_networks_or_was_not_asked_for_shows_nothing() -> None:
    state, nonce = asked()
    for wrong, source in (
        (nonce, "192.0.2.7"),
        (nonce, "2001:db8:9::7"),
        (b"x" * 16, "198.51.100.7"),
        (b"", "198.51.100.7"),
    ):
        assert offer.reached(offer.arrive(state, wrong, source, LAN, 1.0), 1.0) == []


def test_the_same_word_twice_shows_it_once() -> None:
    state, nonce = asked()
    state = offer.arrive(state, nonce, "198.51.100.7", LAN, 1.0)
    again = offer.arrive(state, nonce, "198.51.100.7", LAN, 1000.0)
    assert again.places[PLACE].arrived == 1.0


def test_one_member_after_the_other_is_asked_more_and_more_seldom() -> None:
    state = offer.settle(State(), [PLACE])
    whom, times = [], []
    for _ in range(20):
        now = max(0.0, state.due)
        state, query = ask(state, now)
        whom.append(query.to)
        times.append(now)
    assert set(whom[:2]) == set(MEMBERS)
    pauses = [b - a for a, b in itertools.pairwise(times)]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LAST


def test_another_address_is_another_place() -> None:
    state, nonce = asked()
    state = offer.arrive(state, nonce, "198.51.100.7", LAN, 1.0)
    moved = offer.settle(state, [Endpoint(host="203.0.113.3", port=23600)])
    assert offer.reached(moved, 1.0) == []
    assert offer.settle(state, [PLACE]) is state


def test_without_members_nobody_is_asked() -> None:
    state = offer.settle(State(), [PLACE])
    assert offer.ask(state, [], NONCE, 0.0) == (state, None)


def test_two_places_are_never_tried_so_close_that_who_is_asked_leaves_one_out() -> None:
    """Also where their times would coincide for ever: both pauses double."""
    state = offer.settle(State(), [Endpoint(host="192.0.2.9", port=23600)])
    state, first = ask(state, 0.0)
    state = offer.settle(state, [PLACE, *state.places])
    times, hosts = [0.0], [first.host]
    for _ in range(12):
        assert offer.ask(state, MEMBERS, NONCE, state.due - 0.01) == (state, None)
        times.append(max(0.1, state.due))
        state, query = ask(state, times[-1])
        hosts.append(query.host)
    assert min(b - a for a, b in itertools.pairwise(times)) > relaying.TRY_EVERY
    assert hosts[1] == PLACE.host
    assert hosts.count(PLACE.host) >= 6


def test_an_address_is_reached_where_both_ends_of_the_range_are() -> None:
    first, last = offer.candidates(["203.0.113.2"])
    assert (first.port, last.port) == (23600, 23663)
    state, query = ask(offer.settle(State(), [first, last]), 0.0)
    state = offer.arrive(state, query.nonce, "198.51.100.7", LAN, 1.0)
    assert offer.reached(state, 1.0) == []
    state, query = ask(state, 1.0)
    assert (query.host, query.port) == (last.host, last.port)
    state = offer.arrive(state, query.nonce, "198.51.100.7", LAN, 2.0)
    assert offer.reached(state, 2.0) == [first]


def test_what_a_router_opened_at_an_address_of_its_own_is_all_that_is_tried_there() -> None:
    opened = Endpoint(host="2001:db8::2", port=23600)
    other, _ = offer.candidates(["203.0.113.2"])
    tried = offer.candidates([other.host, opened.host], [opened])
    assert [each for each in tried if each.host == opened.host] == [opened]
    assert other in tried
    # What was tried in vain until it was opened is not put off.
    state = offer.settle(State(), offer.candidates([opened.host, other.host]))
    for _ in range(8):
        state, _ = ask(state, max(0.0, state.due))
    now = max(each.asked for each in state.places.values())
    state = offer.settle(state, tried)
    assert state.places[opened].due < now
    assert state.places[other].tries > 0


def test_who_waits_for_it_has_it_tried_at_once_by_several_and_what_arrived_counts_on() -> None:
    state, nonce = asked()
    state = offer.arrive(state, nonce, "198.51.100.7", LAN, 1.0)
    home = Endpoint(host="192.168.1.2", port=23600)
    state = offer.hurry(offer.settle(state, [PLACE, home]), 9)
    whom = set()
    for now in (10.0 + number * APART for number in range(HURRIED)):
        state, query = ask(state, now)
        whom.add(query.to)
        assert query.host == PLACE.host
        assert state.places[PLACE].is_on_trial(now)
    assert whom == set(MEMBERS)
    assert not state.places[PLACE].is_on_trial(now + APART)
    assert offer.reached(state, now) == [PLACE]
    assert (state.places[PLACE].tries, state.places[home].tries) == (HURRIED, 0)
    state, query = ask(offer.hurry(state, 1), now + APART)
    state = offer.arrive(state, query.nonce, "198.51.100.7", LAN, now + APART)
    assert not state.places[PLACE].is_on_trial(now + APART)
