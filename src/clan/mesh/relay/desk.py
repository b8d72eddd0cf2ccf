"""A relay's side: who is registered, at which port, and what follows from it. Pure.

A *flow* joins two *sides*, each a machine's interface, at one seat: a port of this relay. Two flows
that share a side have different seats, as they could not be told apart. A side's *leg* is where its
datagrams come from, and which address of this relay they come to.

A registration is signed, but whoever saw it can send it again. So it has to carry a token that this
relay gave for the very place that it comes from, unless it is registered from there already, and a
serial that is higher than the last.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, NamedTuple

from clan.mesh.relay.message import TOKEN, Answer, Ask, Call, Outcome
from clan.mesh.relay.ports import DOOR, SEATS

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clan.mesh.link import Endpoint
    from clan.mesh.relay.message import Message

Side = tuple[bytes, str]
"""An identity, and the id of one of its interfaces."""

LIFE = 180.0
"""Seconds that a leg stays after the last registration or datagram."""
TOKEN_FOR = 30.0
"""Seconds that a token is good for, and at most as long again."""
MOST = 1024
"""Flows of a relay."""
MOST_OF_ONE = 256
"""Flows of one machine."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leg:
    """One side as it is registered. `at` is in seconds of the monotonic clock."""

    side: Side
    endpoint: Endpoint
    """Where its datagrams come from: its translated address."""
    local: str
    """The address of this relay that they come to."""
    port: int
    """And the port: the seat's, or the one that stands for any."""
    mark: int
    """By which what is sent there leaves by the uplink that they come in by; 0 is any."""
    serial: int
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    """Two sides, at a seat; `legs` are those that are registered. `number` is its own, from 1."""

    sides: tuple[Side, Side]
    seat: int
    number: int
    legs: tuple[Leg, ...] = ()
    is_cut: bool = False
    """Whether datagrams came in fragments, which have to be put together."""

    @property
    def is_ready(self) -> bool:
        """Whether both sides are registered."""
        return len(self.legs) == len(self.sides)

    @property
    def is_plain(self) -> bool:
        """Whether it takes no more than other addresses: whole datagrams of one version of IP."""
        return not self.is_cut and len({":" in leg.local for leg in self.legs}) == 1

    def leg(self, side: Side) -> Leg | None:
        """Return a side's leg."""
        return next((leg for leg in self.legs if leg.side == side), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All flows."""

    flows: tuple[Flow, ...] = ()

    def of(self, sides: tuple[Side, Side]) -> Flow | None:
        """Return the flow of two sides, in their order."""
        return next((flow for flow in self.flows if flow.sides == sides), None)


class Count(NamedTuple):
    """What came for a flow: datagrams, or batches, that were passed on, and first fragments."""

    passed: int = 0
    fragments: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """An ask, by whom, and how it came in."""

    sender: bytes
    ask: Ask
    source: Endpoint
    local: str
    seat: int
    port: int
    """That it came to."""
    seats: int = SEATS
    """How many of this relay's seats others can reach."""
    mark: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Post:
    """A message to be sent to a place, from an address and a port of this relay."""

    message: Message
    to: Endpoint
    local: str
    port: int
    mark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What does not change from ask to ask. `secret` is this process's own, for tokens.

    `joins` says whether two identities may be joined.
    """

    own: bytes
    secret: bytes
    joins: Callable[[bytes, bytes], bool]

    def take(self, state: State, asked: Asked, now: float) -> tuple[State, list[Post | Call]]:
        """Take an ask in; return what holds then, and what is to be said to whom."""
        ask = asked.ask
        side, other = (asked.sender, ask.own), (ask.peer, ask.their)
        sides = (min(side, other), max(side, other))
        if not self._may(asked.sender, ask.peer):
            return state, [_answer(asked, Outcome.REFUSED, asked.seat)]
        flow = state.of(sides) or _new(state, sides, asked)
        if flow is None:
            return state, [_answer(asked, Outcome.FULL, asked.seat)]
        if flow.seat != asked.seat or ask.seat != asked.seat:
            return state, [_answer(asked, Outcome.SEAT, flow.seat)]
        known = flow.leg(side)
        if not _is_where_it_was(known, asked) and not self._shows_token(asked, now):
            return state, [_answer(asked, Outcome.TOKEN, flow.seat, self._token(asked, now))]
        if known is not None and ask.serial <= known.serial:
            return state, self._again(asked, flow, known)
        if ask.leaves:
            return _put(state, replace(flow, legs=_without(flow.legs, side))), []
        leg = Leg(
            side=side,
            endpoint=asked.source,
            local=asked.local,
            port=asked.port,
            mark=asked.mark,
            serial=ask.serial,
            at=now,
        )
        if asked.port == DOOR and _is_taken(state, flow, leg):
            return state, [_answer(asked, Outcome.FULL, flow.seat)]
        others = _elsewhere(_without(flow.legs, side), leg)
        flow = replace(flow, legs=tuple(sorted((*others, leg), key=_side_of)))
        state = _put(_evict(state, flow, leg), flow)
        if not flow.is_ready:
            call = Call(to=ask.peer, peer=asked.sender, own=ask.their, their=ask.own)
            return state, [_answer(asked, Outcome.WAITING, flow.seat), call]
        posts: list[Post | Call] = [_answer(asked, Outcome.READY, flow.seat)]
        there = flow.leg(other)
        is_news = known is None or known.endpoint != leg.endpoint
        if is_news and there is not None:
            posts.append(_ready(there, flow))
        return state, posts

    def revise(self, state: State) -> State:
        """Return what holds after another map came: flows that may not be are gone."""
        kept = tuple(flow for flow in state.flows if self._may(*(side[0] for side in flow.sides)))
        return state if kept == state.flows else replace(state, flows=kept)

    def _again(self, asked: Asked, flow: Flow, known: Leg) -> list[Post | Call]:
        """Answer what was taken in already, as an answer can be lost; nothing changes."""
        if asked.ask.serial < known.serial:
            return [_answer(asked, Outcome.OLD, flow.seat, serial=known.serial)]
        if asked.source != known.endpoint:
            return []
        return [_answer(asked, Outcome.READY if flow.is_ready else Outcome.WAITING, flow.seat)]

    def _may(self, one: bytes, other: bytes) -> bool:
        return one != other and self.own not in {one, other} and self.joins(one, other)

    def _shows_token(self, asked: Asked, now: float) -> bool:
        good = (self._token(asked, now, ago) for ago in (0, 1))
        return any(hmac.compare_digest(asked.ask.token, each) for each in good)

    def _token(self, asked: Asked, now: float, ago: int = 0) -> bytes:
        words = (
            asked.sender.hex(),
            asked.ask.peer.hex(),
            asked.ask.own,
            asked.ask.their,
            asked.source.host,
            asked.source.port,
            asked.local,
            asked.port,
            asked.seat,
            int(now // TOKEN_FOR) - ago,
        )
        data = "\0".join(map(str, words)).encode()
        return hmac.new(self.secret, data, hashlib.sha256).digest()[:TOKEN]


def count(state: State, seen: Mapping[int, Count], now: float) -> State:
    """Take in how many datagrams came for each flow's number since the last time.

    What moved lives on; what neither registered nor moved for `LIFE` is gone.
    """
    flows = []
    for flow in state.flows:
        came = seen.get(flow.number, Count())
        legs = flow.legs
        if any(came):
            legs = tuple(replace(leg, at=now) for leg in legs)
        legs = tuple(leg for leg in legs if now - leg.at < LIFE)
        if legs:
            flows.append(replace(flow, legs=legs, is_cut=flow.is_cut or came.fragments > 0))
    return State(flows=tuple(flows))


def _is_where_it_was(known: Leg | None, asked: Asked) -> bool:
    """Whether who asks is registered already from the very place: then that was shown."""
    here = (asked.source, asked.local, asked.port)
    return known is not None and (known.endpoint, known.local, known.port) == here


def _new(state: State, sides: tuple[Side, Side], asked: Asked) -> Flow | None:
    """Return a flow for two sides at a free seat, the wanted one if it can be."""
    mine = {side[0] for side in sides}
    many = [sum(identity in {s[0] for s in f.sides} for f in state.flows) for identity in mine]
    if len(state.flows) >= MOST or max(many) >= MOST_OF_ONE:
        return None
    taken = {flow.seat for flow in state.flows if not set(sides).isdisjoint(flow.sides)}
    places = ((asked.seat + step) % asked.seats for step in range(asked.seats))
    free = (place for place in places if place not in taken)
    numbers = {flow.number for flow in state.flows}
    place = next(free, None)
    if place is None:
        return None
    return Flow(
        sides=sides,
        seat=place,
        number=next(number for number in range(1, MOST + 1) if number not in numbers),
    )


def _put(state: State, flow: Flow) -> State:
    others = tuple(each for each in state.flows if each.sides != flow.sides)
    flows = (*others, flow) if flow.legs else others
    return replace(state, flows=tuple(sorted(flows, key=lambda each: each.number)))


def _evict(state: State, flow: Flow, leg: Leg) -> State:
    """Take others' legs away that come from the same place to the same port: they are old."""
    for each in state.flows:
        if each.sides != flow.sides:
            legs = _elsewhere(each.legs, leg)
            if legs != each.legs:
                state = _put(state, replace(each, legs=legs))
    return state


def _is_taken(state: State, flow: Flow, leg: Leg) -> bool:
    """Whether another flow has a leg from the same place to the same port.

    At the port for any seat that need not be old: it can serve one flow of an interface alone.
    """
    others = (each for each in state.flows if each.sides != flow.sides)
    return any(_elsewhere(each.legs, leg) != each.legs for each in others)


def _elsewhere(legs: tuple[Leg, ...], leg: Leg) -> tuple[Leg, ...]:
    here = leg.endpoint, leg.local, leg.port
    return tuple(each for each in legs if (each.endpoint, each.local, each.port) != here)


def _without(legs: tuple[Leg, ...], side: Side) -> tuple[Leg, ...]:
    return tuple(leg for leg in legs if leg.side != side)


def _side_of(leg: Leg) -> Side:
    return leg.side


def _answer(asked: Asked, outcome: Outcome, seat: int, token: bytes = b"", serial: int = 0) -> Post:
    ask = asked.ask
    answer = Answer(
        to=asked.sender,
        peer=ask.peer,
        own=ask.own,
        their=ask.their,
        serial=serial or ask.serial,
        outcome=outcome,
        seat=seat,
        token=token,
    )
    return Post(
        message=answer, to=asked.source, local=asked.local, port=asked.port, mark=asked.mark
    )


def _ready(leg: Leg, flow: Flow) -> Post:
    """Return what tells the side that was there first that the other has come, or moved."""
    peer, their = next(side for side in flow.sides if side != leg.side)
    answer = Answer(
        to=leg.side[0],
        peer=peer,
        own=leg.side[1],
        their=their,
        serial=leg.serial,
        outcome=Outcome.READY,
        seat=flow.seat,
    )
    return Post(message=answer, to=leg.endpoint, local=leg.local, port=leg.port, mark=leg.mark)
