"""A member's side: which links it has relayed, where it asks, and when. Pure.

An ask is repeated with the same serial until it is answered, with longer and longer pauses. What is
registered is asked for again now and then, as a relay forgets who is silent, and at once when the
link is looked for anew: the translation on the way may have changed, and only this end can say so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clan.mesh.link import Endpoint, LinkId
from clan.mesh.relay.message import Answer, Ask, Outcome
from clan.mesh.relay.pick import first_seat
from clan.mesh.relay.ports import SEATS

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

REFRESH = 150.0
"""Seconds between two registrations of a relayed link: half a minute before it is forgotten."""
FIRST, LAST = 0.2, 5.0
"""Seconds until an ask that is not answered is repeated, at first and at most; each is double."""
CALL_EVERY = 5.0
"""Seconds between asks while the other end does not come: each makes the relay call it."""
PAUSE = 30.0
"""Seconds until a relay that refused, or was full, is asked again."""
PATIENT = 3
"""How often one address of a relay is tried before the next one is."""
TURNS = 4
"""How often an ask is repeated at once as the relay says how."""
HASTE = 0.1
"""Seconds that two asks for one link are apart at least."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """A link that is to be relayed."""

    link: LinkId
    own: bytes
    """This machine's identity."""
    peer: bytes
    """The other end's."""
    relay: bytes
    places: tuple[Endpoint, ...]
    """Where the relay's first seat is; those that this uplink can reach."""
    seats: int = SEATS
    """How many seats it has, wherever it is reached."""
    doors: tuple[Endpoint, ...] = ()
    """Where one port stands for all of its seats, for when those are not answered from."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Seat:
    """A link's registration, as far as it is. `asked` is when the last ask was sent."""

    want: Want
    seat: int
    serial: int
    token: bytes = b""
    outcome: Outcome | None = None
    """The last answer; None while there is none to what was asked last."""
    is_ready: bool = False
    """Whether datagrams pass, by the last that the relay said."""
    place: int = 0
    """Which of the places is tried, counted on."""
    asked: float = -math.inf
    tries: int = 0
    turns: int = 0
    """Answers in a row that only said how to ask."""

    @property
    def endpoint(self) -> Endpoint:
        """Where the peer's datagrams go."""
        places, doors = self.want.places, self.want.doors
        number = self.place % (len(places) + len(doors))
        if number >= len(places):
            return doors[number - len(places)]
        return Endpoint(host=places[number].host, port=places[number].port + self.seat)

    @property
    def due(self) -> float:
        """When to ask, in seconds of the monotonic clock."""
        match self.outcome:
            case None:
                return self.asked + min(LAST, FIRST * 2.0 ** max(0, self.tries - 1))
            case Outcome.READY:
                return self.asked + REFRESH
            case Outcome.WAITING:
                return self.asked + CALL_EVERY
            case Outcome.FULL | Outcome.REFUSED:
                return self.asked + PAUSE
            case _:
                # Who answers so for ever is not asked for ever.
                return self.asked + (0 if self.turns <= TURNS else LAST)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All of them. `serial` is the highest that was used."""

    seats: Mapping[LinkId, Seat] = field(default_factory=dict)
    serial: int = 0

    @property
    def due(self) -> float:
        """When there is something to ask."""
        return min((seat.due for seat in self.seats.values()), default=math.inf)


@dataclass(frozen=True, slots=True)
class Query:
    """An ask that is to be sent to a place from the port of the link's own interface."""

    link: LinkId
    ask: Ask
    to: Endpoint


def guess(want: Want) -> Endpoint:
    """Return where a link's datagrams go unless the relay says otherwise."""
    return _new(want, 0).endpoint


def _new(want: Want, serial: int) -> Seat:
    sides = ((want.own, want.link.own), (want.peer, want.link.their))
    return Seat(want=want, seat=first_seat(sides, want.seats), serial=serial)


def settle(state: State, wants: Iterable[Want], clock: float) -> tuple[State, list[Query]]:
    """Have just these links relayed; what is not wanted any more is told its relay.

    `clock` is in seconds of 1970: serials rise also when this process begins anew.
    """
    wanted = {want.link: want for want in wants if want.places}
    serial = max(state.serial, int(clock * 1000))
    seats: dict[LinkId, Seat] = {}
    farewells = []
    for link, seat in state.seats.items():
        want = wanted.get(link)
        if want is not None and (want.relay, want.seats) == (seat.want.relay, seat.want.seats):
            seats[link] = seat if want == seat.want else replace(seat, want=want, outcome=None)
        elif seat.token and want is None:
            # One that another relay takes over goes on here, until it is silent.
            serial += 1
            gone = replace(seat, serial=serial)
            ask = replace(_ask(gone), leaves=True)
            farewells.append(Query(link, ask, seat.endpoint))
    for link, want in wanted.items():
        if link not in seats:
            serial += 1
            seats[link] = _new(want, serial)
    return State(seats=seats, serial=serial), farewells


def ask(state: State, now: float) -> tuple[State, list[Query]]:
    """Return what is to be asked now."""
    seats = dict(state.seats)
    serial = state.serial
    queries = []
    for link, seat in state.seats.items():
        if seat.due > now:
            continue
        if seat.outcome is None:
            # Nobody answers: perhaps somebody does at another of its addresses.
            turns_over = seat.tries > 0 and seat.tries % PATIENT == 0
            made = replace(seat, place=seat.place + turns_over)
        else:
            serial += 1
            made = replace(seat, serial=serial, outcome=None, tries=0)
        seats[link] = replace(made, asked=now, tries=made.tries + 1)
        queries.append(Query(link, _ask(made), made.endpoint))
    return State(seats=seats, serial=serial), queries


def hurry(state: State, link: LinkId, now: float) -> State:
    """Ask for a link at once: it is looked for."""
    seat = state.seats.get(link)
    if seat is None or now - seat.asked < HASTE:
        return state
    serial = state.serial + 1
    # Those that were in vain count on: else the next place would never have its turn.
    tries = seat.tries if seat.outcome is None else 0
    made = replace(seat, serial=serial, outcome=None, tries=tries, asked=-math.inf)
    return State(seats={**state.seats, link: made}, serial=serial)


def take(state: State, sender: bytes, answer: Answer) -> tuple[State, bool]:
    """Take a relay's answer in; say whether a link can be used now that could not before."""
    found = next(
        (
            (link, seat)
            for link, seat in state.seats.items()
            if (seat.want.relay, seat.want.peer) == (sender, answer.peer)
            and (link.own, link.their) == (answer.own, answer.their)
        ),
        None,
    )
    if found is None:
        return state, False
    link, seat = found
    serial = state.serial
    if answer.outcome is Outcome.OLD:
        if answer.serial < seat.serial:
            return state, False
        serial = max(serial, answer.serial)
    elif answer.serial != seat.serial:
        return state, False
    is_ready = answer.outcome is Outcome.READY
    began = is_ready and not seat.is_ready
    if answer.outcome in {Outcome.TOKEN, Outcome.SEAT, Outcome.OLD}:
        made = replace(
            seat,
            outcome=answer.outcome,
            token=answer.token or seat.token,
            seat=answer.seat,
            turns=seat.turns + 1,
        )
    else:
        made = replace(seat, outcome=answer.outcome, is_ready=is_ready, tries=0, turns=0)
    return State(seats={**state.seats, link: made}, serial=serial), began


def _ask(seat: Seat) -> Ask:
    want = seat.want
    return Ask(
        to=want.relay,
        peer=want.peer,
        own=want.link.own,
        their=want.link.their,
        seat=seat.seat,
        serial=seat.serial,
        token=seat.token,
    )
