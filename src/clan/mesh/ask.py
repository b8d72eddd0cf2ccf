"""When a pair's links are asked, and when it has to be looked at again.

A fast pair's path is probed ten times a second, by both ends in the same breath: the one that does
not lead asks when it is asked, so that a question comes with an answer and wakes nobody. A machine
with many fast pairs asks all of them less often, and says so: the other ends do as it does. Once a
second, and more often after waking, all its links are asked in one moment: a *round*, the path
first. While the path is in doubt the rounds follow each other so closely that the answer is known
in a quarter of a second, and then less and less often, as a peer that says nothing on any link is
most likely asleep. While the end that leads asks so, the other leaves it to that one, which finds
out and says so, for half of the work. A slow pair's path and standby are asked once a minute, and
WireGuard holds them open in between. To a peer that is to hold calls for this machine a link is
held open that leads straight there, and looked for while there is none: a relay on the way would
take both down. A cold pair is asked nothing.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import choose, measure, width
from clan.mesh.exchange import Call, Send, SetEndpoint, SetKeepalive
from clan.mesh.judge import doubtful_at
from clan.mesh.link import Kind
from clan.mesh.pair import FAST_FOR, PATH_EVERY, SELDOM, Mode, mode
from clan.mesh.wire import MOST_LINKS, About, Probe, Summary

if TYPE_CHECKING:
    from clan.mesh.draft import Draft
    from clan.mesh.pair import Standing

LATE = 0.015
"""Seconds that the end which does not lead waits for the other's question until it asks unasked."""
ROUND_EVERY = 1.0
SETTLING_EVERY = 0.2
SETTLING_FOR = 3.0
"""Seconds after waking in which rounds are frequent, so that the best link is found soon."""
LOSSY = 0.25
"""Share of a path's probes lost from which on rounds are as frequent: is another link better?"""
LED = 5
"""How many times more seldom the end that does not lead asks in doubt while the other asks."""
BURSTS = ((1.0, 0.02), (5.0, 0.2), (30.0, 1.0), (math.inf, 5.0))
"""Up to which age of the doubt a fast pair is asked how often, in seconds."""
SLOW_BURSTS = ((5.0, 1.0), (math.inf, 60.0))
"""The same where there is no traffic."""
HOLD_EVERY = 60.0
"""Seconds between probes of a slow pair's link: does it still live?"""
HOLD_SHARE = 5 / 6
"""Which part of the lifetime of what is to be held open may pass between two packets."""
LOOK_EVERY, LONGEST_LOOK = 1.0, 30.0
"""Seconds between looks for a link that does not answer: doubles with each."""
LONGEST_SEARCH = 900.0
"""The longest where there is no traffic: every look costs the WireGuard handshakes of 90 s."""
CALL_AFTER, CALL_EVERY = 0.3, 5.0
LONGEST_CALL = 60.0
"""Seconds between calls of a peer to which a detour leads: from `CALL_EVERY` on they double."""
SUMMARY_EVERY = 10.0
LEAST_REST = 0.005
"""Seconds between two looks at a pair at which nothing happened."""
MOST_ASKED = 6
"""Links in a round."""


def ask(draft: Draft) -> None:
    """Send what is due."""
    before = draft.pair.mode
    kept = draft.desired.peers[draft.name].kept
    now_mode, until = mode(draft.pair, kept=kept, now=draft.now)
    if now_mode is not before:
        draft.pair = replace(draft.pair, mode=now_mode)
    if now_mode is Mode.FAST:
        _fast(draft)
    elif now_mode is not Mode.COLD:
        _slow(draft, slowed=before is Mode.FAST)
    elif draft.pair.doubt is not None:
        draft.pair = replace(draft.pair, doubt=None, beaten=None)
    if now_mode is Mode.FAST:
        _tell(draft)
    else:
        _hold(draft)
    draft.wake = _wake(draft, until)


def holds_open(draft: Draft) -> bool:
    """Return whether this end probes the links of a pair without traffic: one of the two does."""
    return draft.desired.peers[draft.name].kept or (draft.pair.mode is Mode.SLOW and draft.leads)


def _fast(draft: Draft) -> None:
    pair = draft.pair
    path = _path(draft)
    if draft.now >= _round_at(draft):
        # Rounds of a burst are not compared: what happens within one is a single event.
        counts = pair.doubt is None
        number = pair.round + 1 if counts else 0
        draft.pair = replace(pair, round=pair.round + counts, round_at=draft.now)
        for standing in _round(draft):
            _probe(draft, standing, number=number)
    elif pair.doubt is None and path is not None and draft.now >= _path_at(draft, path):
        _probe(draft, path)
    for standing in list(draft.usable) if draft.pair.doubt is None else ():
        if standing.alive_since is not None and draft.now >= standing.width.next:
            _measure_width(draft, standing)
    _call(draft)


def _path_at(draft: Draft, path: Standing) -> float:
    """Return when the path is to be asked."""
    every = PATH_EVERY * _pace(draft, path)
    if draft.leads:
        return path.asked + every
    return path.asked + (every / 2 if draft.asked else every + LATE)


def _pace(draft: Draft, path: Standing | None) -> float:
    """Return how many times more seldom than usual both ends ask: one of them has many to ask."""
    promise = path.health.promise if path is not None else 0.0
    return max(draft.every, promise if promise <= SELDOM else 0.0) / PATH_EVERY


def _round(draft: Draft) -> list[Standing]:
    """Return the links to ask in this round, the path first, and look for those that are lost."""
    path = _path(draft)
    settling = draft.pair.doubt is not None or draft.now < draft.pair.woken + SETTLING_FOR
    alive, lost = [], []
    for standing in choose.order(draft.others, draft.desired):
        if standing.alive_since is not None:
            alive.append(standing)
        elif draft.now >= standing.asked + SETTLING_EVERY * 0.9 and (
            settling or draft.now >= _look_at(standing)
        ):
            lost.append(standing)
    lost.sort(key=lambda standing: standing.asked)
    chosen = ([path] if path is not None else []) + alive + lost
    return [_look(draft, s) if s.alive_since is None else s for s in chosen[:MOST_ASKED]]


def _look(draft: Draft, standing: Standing) -> Standing:
    """Try the next place where the peer of a lost link may be, if it is time to."""
    if draft.now < _look_at(standing):
        return standing
    endpoints = standing.link.endpoints
    if endpoints:
        endpoint = endpoints[standing.tries % len(endpoints)]
        draft.actions.append(SetEndpoint(link=standing.link.id, endpoint=endpoint))
    standing = replace(standing, tries=standing.tries + 1, looked=draft.now)
    draft.put(standing)
    return standing


def _look_at(standing: Standing, longest: float = LONGEST_LOOK) -> float:
    if not standing.tries:
        return standing.looked + LOOK_EVERY
    return standing.looked + min(longest, LOOK_EVERY * 2.0 ** min(standing.tries - 1, 16))


def _slow(draft: Draft, *, slowed: bool) -> None:
    """Hold open what is to be held open; `slowed` tells the peer what it may expect from now on."""
    pair = draft.pair
    if pair.doubt is not None:
        if draft.now >= pair.round_at + _round_every(draft):
            draft.pair = replace(pair, round_at=draft.now)
            for standing in _round(draft):
                _probe(draft, standing)
        return
    for standing in _held(draft):
        if slowed or (holds_open(draft) and draft.now >= standing.asked + HOLD_EVERY):
            _probe(draft, standing)
    for standing in _sought(draft):
        if draft.now >= _look_at(standing, LONGEST_SEARCH):
            _probe(draft, _look(draft, standing))


def _sought(draft: Draft) -> list[Standing]:
    """Return the links straight to a peer that holds calls, while there is only a detour to it."""
    kept = draft.desired.peers[draft.name].kept
    if not kept or draft.pair.doubt is not None or not choose.is_detour(draft.usable):
        return []
    return [s for s in draft.others if s.link.slot.kind is Kind.INTERNET]


def _hold(draft: Draft) -> None:
    """Let WireGuard hold open what has to be: its packets are half the size, and wake nobody."""
    now_mode = draft.pair.mode
    held = {s.link.id for s in _held(draft)} if now_mode is not Mode.COLD else set()
    for standing in list(draft.links.values()):
        lifetime = standing.link.lifetime
        every = int(lifetime * HOLD_SHARE) if lifetime and standing.link.id in held else 0
        if every != standing.keepalive:
            draft.put(replace(standing, keepalive=every))
            draft.actions.append(SetKeepalive(link=standing.link.id, every=every))


def _held(draft: Draft) -> list[Standing]:
    held = choose.worth_holding(draft.pair.path, draft.usable, draft.desired)
    around = [choose.is_straight(standing) for standing in held] == [False, True]
    return held if around or draft.pair.mode is not Mode.KEPT else held[:1]


def _round_at(draft: Draft) -> float:
    """Return when a fast pair's links are to be asked together."""
    pair, every = draft.pair, _round_every(draft)
    due = pair.round_at + every
    if pair.doubt is None or draft.leads:
        return due
    led = pair.sought + every + LATE
    return min(max(due, led), pair.round_at + LED * every)


def _round_every(draft: Draft) -> float:
    pair, path = draft.pair, draft.path
    pace = _pace(draft, path)
    if pair.doubt is not None:
        bursts = BURSTS if pair.mode is Mode.FAST else SLOW_BURSTS
        every = next(every for age, every in bursts if draft.now - pair.doubt < age)
        return every * pace if pair.mode is Mode.FAST else every
    lossy = path is not None and path.health.loss > LOSSY
    settling = lossy or draft.now < pair.woken + SETTLING_FOR
    return pace * (SETTLING_EVERY if settling else ROUND_EVERY)


def _probe(draft: Draft, standing: Standing, *, number: int = 0, size: int = 0) -> None:
    pair = draft.pair
    draft.sequence = (draft.sequence + 1) % 2**32
    health = measure.send(
        standing.health, sequence=draft.sequence, now=draft.now, size=size, number=number
    )
    asked = standing.asked if size else draft.now
    draft.put(replace(standing, health=health, asked=asked))
    probe = Probe(
        sequence=draft.sequence,
        every=_promise(draft, standing),
        busy=draft.now < pair.traffic + FAST_FOR,
        choice=pair.choice,
    )
    draft.actions.append(Send(link=standing.link.id, message=probe, size=size))


def _promise(draft: Draft, standing: Standing) -> float:
    """Return the seconds until the next probe of a link, for the peer to rely on."""
    if standing.link.id != draft.pair.path:
        return 0.0
    if draft.pair.mode is Mode.FAST:
        return draft.every
    return HOLD_EVERY if holds_open(draft) else 0.0


def _measure_width(draft: Draft, standing: Standing) -> None:
    size = width.size(standing.width, draft.now)
    asked = width.asked(standing.width, size, draft.now, path=standing.link.id == draft.pair.path)
    _probe(draft, replace(standing, width=asked), size=size)


def _call(draft: Draft) -> None:
    """Call a peer that is wanted by another way, if it is heard nowhere, or over a detour alone."""
    pair = draft.pair
    if pair.traffic + CALL_EVERY * 2 < draft.now:
        return
    if pair.doubt is not None:
        if any(s.health.heard > pair.doubt for s in draft.links.values()):
            return
        due, calls = max(pair.doubt + CALL_AFTER, pair.called + CALL_EVERY), 0
    elif choose.is_detour(draft.usable):
        due = pair.called + min(LONGEST_CALL, CALL_EVERY * 2.0 ** min(pair.calls, 16))
        calls = pair.calls + 1
    else:
        return
    if draft.now >= due:
        draft.pair = replace(pair, called=draft.now, calls=calls)
        draft.actions.append(Call(peer=draft.name))


def _tell(draft: Draft) -> None:
    """Tell the peer how this end sees its links, when that changed and from time to time."""
    if draft.news:
        draft.pair = replace(draft.pair, told=-math.inf)
    path = draft.path
    if draft.now < draft.pair.told + SUMMARY_EVERY or path is None:
        return
    if path.alive_since is None or draft.pair.doubt is not None:
        return
    usable = {s.link.id for s in draft.usable_here}
    said = tuple(
        About(
            own=s.link.id.own,
            their=s.link.id.their,
            penalty=choose.penalty(s, draft.desired),
            usable=s.link.id in usable,
        )
        for s in list(draft.links.values())[:MOST_LINKS]
    )
    draft.pair = replace(draft.pair, told=draft.now)
    draft.actions.append(Send(link=path.link.id, message=Summary(links=said)))


def _wake(draft: Draft, until: float) -> float:
    """Return when the pair has to be looked at again though nothing happens."""
    pair = draft.pair
    if pair.mode is Mode.COLD:
        return until
    times = [until, doubtful_at(draft) if pair.doubt is None else math.inf]
    if pair.beaten is not None:
        times.append(pair.beaten + choose.SETTLE)
    if pair.mode is Mode.FAST:
        times.append(_round_at(draft))
        if pair.doubt is None:
            path = _path(draft)
            if path is not None:
                times.append(_path_at(draft, path))
            times += [s.width.next for s in draft.usable if s.alive_since is not None]
    elif pair.doubt is not None:
        times.append(pair.round_at + _round_every(draft))
    elif holds_open(draft):
        times += [s.asked + HOLD_EVERY for s in _held(draft)]
        times += [_look_at(s, LONGEST_SEARCH) for s in _sought(draft)]
    return max(min(times), draft.now + LEAST_REST)


def _path(draft: Draft) -> Standing | None:
    """Return the path if its uplink works."""
    path = draft.path
    if path is None or not choose.usable(path, draft.desired, draft.down):
        return None
    return path
