"""What an event says of a pair: messages, counters, traffic, uplinks, a sleep."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import measure, width
from clan.mesh.exchange import Called, Counters, Received, Resumed, Send, Traffic
from clan.mesh.pair import SELDOM, Mode
from clan.mesh.wire import Answer, Probe, Summary, Switch, ticks

if TYPE_CHECKING:
    from clan.mesh.draft import Draft
    from clan.mesh.exchange import Event
    from clan.mesh.pair import Standing

AWAKE = 1.0
"""Seconds after waking in which a peer's call finds this end looking for it already."""
FRESH = 5.0
"""Seconds since a path was heard within which it lives without another look."""
LARGE = 1280
"""Bytes from which on an answer has its probe's size."""


def hear(draft: Draft, event: Event) -> None:
    """Take an event in that concerns this pair."""
    match event:
        case Received():
            _received(draft, event)
        case Counters():
            _counters(draft, event)
        case Traffic():
            asleep = draft.pair.mode is not Mode.FAST
            draft.pair = replace(draft.pair, traffic=max(draft.pair.traffic, event.at))
            if asleep:
                awaken(draft)
        case Called():
            draft.pair = replace(draft.pair, busy=max(draft.pair.busy, event.at))
            if draft.now - draft.pair.woken >= AWAKE:
                awaken(draft)
        case Resumed():
            if draft.pair.mode is not Mode.COLD:
                draft.pair = replace(draft.pair, busy=draft.now, floor=draft.now)
                awaken(draft, doubt=True)
        case _:
            raise AssertionError(event)


def awaken(draft: Draft, *, doubt: bool = False) -> None:
    """Look for all links at once; the path is in doubt unless it was heard a moment ago."""
    path = draft.path
    doubtful = doubt or path is None or draft.now - path.health.heard > FRESH
    draft.pair = replace(
        draft.pair,
        woken=draft.now,
        doubt=draft.now if doubtful else draft.pair.doubt,
        beaten=None if doubtful else draft.pair.beaten,
        floor=draft.now if doubtful else draft.pair.floor,
    )
    for standing in list(draft.links.values()):
        health = replace(standing.health, missed=0) if doubtful else standing.health
        tries = standing.tries if standing.alive_since is not None else 0
        draft.put(replace(standing, health=health, tries=tries))


def uplink_returned(draft: Draft, uplink: str) -> None:
    """Look anew for what goes over an uplink that works, or has another address."""
    if draft.pair.mode is Mode.COLD:
        return
    path = draft.path
    awaken(draft, doubt=path is not None and path.link.slot.uplink == uplink)


def _received(draft: Draft, event: Received) -> None:
    standing = draft.links.get(event.link)
    if standing is None:
        return
    message = event.message
    match message:
        case Probe():
            # Of two ends the one with more to ask decides how often both do.
            is_fast = 0 < message.every <= SELDOM
            every = max(message.every, draft.every) if is_fast else message.every
            health = measure.promise(standing.health, at=event.at, every=every)
            draft.put(replace(standing, health=health))
            _probed(draft, event, message)
        case Answer():
            _answered(draft, standing, message, event.at)
            draft.follow(message.choice)
        case Switch():
            draft.put(replace(standing, health=measure.hear(standing.health, event.at)))
            draft.follow(message.choice, message.reason)
        case Summary():
            draft.put(replace(standing, health=measure.hear(standing.health, event.at)))
            for about in message.links:
                for other in list(draft.links.values()):
                    if (other.link.id.own, other.link.id.their) == (about.their, about.own):
                        draft.put(replace(other, about=about))


def _probed(draft: Draft, event: Received, message: Probe) -> None:
    if message.busy:
        asleep = draft.pair.mode is not Mode.FAST
        draft.pair = replace(draft.pair, busy=max(draft.pair.busy, event.at))
        if asleep:
            awaken(draft)
    draft.follow(message.choice)
    answer = Answer(
        sequence=message.sequence,
        received=ticks(event.at),
        sent=ticks(draft.now),
        choice=draft.pair.choice,
    )
    size = event.size if event.size >= LARGE else 0
    draft.actions.append(Send(link=event.link, message=answer, size=size))
    if event.link == draft.pair.path:
        draft.asked |= not size
    elif not size:
        draft.pair = replace(draft.pair, sought=event.at)


def _answered(draft: Draft, standing: Standing, message: Answer, at: float) -> None:
    health, flight = measure.answer(
        standing.health, sequence=message.sequence, held=message.held, at=at
    )
    if flight is not None:
        if flight.size:
            passed = width.passed(standing.width, flight.size, draft.now)
            standing = replace(standing, width=passed)
        if standing.alive_since is None:
            health = measure.revive(health)
            standing = replace(standing, alive_since=at, tries=0)
            trip = at - flight.sent - message.held
            draft.decide(f"link {standing.link.id} lives", f"it answered in {trip * 1000:.0f} ms")
        draft.compare = draft.compare or bool(flight.round)
    draft.put(replace(standing, health=health))


def _counters(draft: Draft, event: Counters) -> None:
    standing = draft.links.get(event.link)
    if standing is None:
        return
    health = standing.health
    # What was read before the path was in doubt says nothing of the time since.
    is_recent = draft.pair.doubt is None or standing.counted_at >= draft.pair.doubt
    if standing.counted is not None and event.received > standing.counted and is_recent:
        health = measure.hear(health, event.at)
    draft.put(
        replace(standing, health=health, counted=event.received, counted_at=event.at),
    )
