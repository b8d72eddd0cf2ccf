"""What becomes of a pair's path now: doubted, left, moved, or left alone."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import choose, measure, width
from clan.mesh.exchange import ReadCounters, SetRoute
from clan.mesh.pair import Mode
from clan.mesh.wire import Reason

if TYPE_CHECKING:
    from clan.mesh.draft import Draft
    from clan.mesh.pair import Standing

SLOW_PATIENCE = 0.5
"""Seconds that a single answer may be late beyond its tolerance where probes are rare."""
LARGE_PATIENCE = 0.1
"""Seconds that the answer to a padded probe may be later than a small one's."""
STANDBY_SURE = 1e-4
"""How likely it may be that a standby is called lost by bad luck: that costs little."""
ALL_SILENT = 0.5
"""Seconds of doubt, at least, after which links that are not heard are looked for anew."""


def judge(draft: Draft) -> None:
    """Look at every link, and do what is to be done about the path."""
    _count(draft)
    path = draft.path
    if path is None:
        return
    if not choose.usable(path, draft.desired, draft.down):
        target = next(iter(choose.order(draft.others, draft.desired)), None)
        if target is not None:
            uplink = path.link.slot.uplink
            gone = uplink in draft.down or uplink not in draft.desired.uplinks
            why = f"uplink {uplink} is gone" if gone else "the peer says it cannot be used there"
            draft.leave(target, Reason.UPLINK, why)
        return
    if draft.pair.mode is Mode.COLD:
        return
    if path.link.slot.uplink in draft.desired.avoid and _move_away(draft, path):
        return
    _doubt(draft, path)
    if _leave(draft, path) or draft.pair.doubt is not None:
        return
    _standbys(draft)
    if draft.leads:
        _improve(draft)


def doubtful_at(draft: Draft) -> float:
    """Return when the path will be in doubt if nothing comes."""
    path = draft.path
    if path is None or draft.pair.mode is Mode.COLD:
        return math.inf
    if not choose.usable(path, draft.desired, draft.down):
        return math.inf
    due = measure.doubtful_at(path.health, floor=draft.pair.floor)
    if draft.pair.mode is not Mode.FAST:
        since = max(path.health.heard, draft.pair.floor)
        slack = measure.tolerance(path.health) + SLOW_PATIENCE
        late = [f.due + slack for f in path.health.flying if not f.size and f.due >= since]
        due = min([due, *late])
    return due


def _count(draft: Draft) -> None:
    """Settle what became of probes that are not answered any more."""
    for standing in [s for s in draft.links.values() if s.health.flying]:
        health, _ = measure.forget_overdue(standing.health, draft.now)
        changed = standing if health is standing.health else replace(standing, health=health)
        late = draft.now - measure.tolerance(health) - LARGE_PATIENCE
        for flight in health.flying:
            if flight.size and flight.due <= late and health.proof >= flight.sent:
                health = replace(health, flying=tuple(f for f in health.flying if f is not flight))
                changed = replace(
                    changed,
                    health=health,
                    width=width.vanished(
                        changed.width, flight.size, draft.now, needed=measure.needed(health)
                    ),
                )
        if changed is not standing:
            draft.put(changed)
        if changed.width.narrow and not standing.width.narrow:
            draft.decide(
                f"link {changed.link.id} is narrow",
                f"packets of {width.LADDER[0]} bytes vanish on it and small ones do not",
            )
    path = draft.path
    if path is not None and path.width.mtu != draft.pair.mtu:
        why = "a larger padded probe came back"
        if path.width.mtu < draft.pair.mtu:
            why = f"packets of {draft.pair.mtu} bytes vanish and small ones do not"
        draft.pair = replace(draft.pair, mtu=path.width.mtu)
        draft.actions.append(SetRoute(peer=draft.name, link=path.link.id, mtu=path.width.mtu))
        draft.decide(f"packets of {path.width.mtu} bytes on {path.link.id}", why)


def _move_away(draft: Draft, path: Standing) -> bool:
    """Leave an uplink that someone wants left, if there is another that lives."""
    alive = [
        s
        for s in draft.others
        if s.alive_since is not None and draft.now - s.alive_since >= choose.hold(s, draft.now)
    ]
    target = choose.refuge(path, alive, draft.desired)
    # The peer may want another uplink left: then no link is better, and one stays. Until its word
    # of that has come, the stable time keeps the two from moving each other to and fro.
    gain = choose.AVOID_COST / 2
    if target is None or choose.cost(path, draft.desired) - gain < choose.cost(
        target, draft.desired
    ):
        return False
    draft.leave(target, Reason.WANTED, f"uplink {path.link.slot.uplink} is to be left")
    return True


def _doubt(draft: Draft, path: Standing) -> None:
    pair = draft.pair
    if pair.doubt is None:
        if draft.now >= doubtful_at(draft):
            draft.pair = replace(pair, doubt=draft.now)
            draft.actions.append(ReadCounters(link=path.link.id))
        return
    if path.health.heard > pair.doubt:
        draft.pair = replace(pair, doubt=None, beaten=None)
        draft.put(replace(path, health=measure.release(path.health)))
        return
    patience = max(ALL_SILENT, 3 * (path.health.round_trip or 0.0) + measure.tolerance(path.health))
    age = draft.now - pair.doubt
    if age >= patience:
        # A peer whose agent is away still passes packets, and looking anew would cost some.
        if pair.doubt <= path.counted_at < pair.doubt + patience and age < 2 * patience:
            draft.actions.append(ReadCounters(link=path.link.id))
            return
        alive = [s for s in draft.links.values() if s.alive_since is not None]
        silent = [s for s in alive if s.health.heard < pair.doubt]
        for standing in silent:
            draft.put(replace(standing, alive_since=None, tries=0))
        if silent and silent == alive:
            draft.decide("no link lives", f"nothing was heard for {age:.1f} s")


def _leave(draft: Draft, path: Standing) -> bool:
    """Leave the path if another link shows that it is lost; say whether it was left."""
    pair = draft.pair
    if _guessed_wrong(draft, path):
        return True
    witnesses = []
    why = ""
    for other in draft.others:
        shown = choose.beats(path, other, floor=pair.floor, now=draft.now)
        if shown:
            witnesses.append(other)
            why = why or shown
    if not witnesses:
        if pair.beaten is not None:
            draft.pair = replace(pair, beaten=None)
        return False
    if pair.beaten is None:
        draft.pair = replace(pair, beaten=draft.now)
        draft.actions.append(ReadCounters(link=path.link.id))
        return False
    target = choose.refuge(path, witnesses, draft.desired)
    if target is None or draft.now < pair.beaten + choose.SETTLE:
        return False
    draft.leave(target, Reason.SILENT, why)
    return True


def _guessed_wrong(draft: Draft, path: Standing) -> bool:
    """Leave a path that never was heard while others live; say whether it was left.

    Nothing is known of what it loses, so that no number of missing probes would be proof.
    """
    doubt = draft.pair.doubt
    if doubt is None or draft.now < doubt + ALL_SILENT or path.health.heard > -math.inf:
        return False
    alive = [s for s in draft.others if s.alive_since is not None and s.health.heard >= doubt]
    target = choose.refuge(path, alive, draft.desired)
    if target is None:
        return False
    draft.leave(target, Reason.SILENT, "it lives, and the one before never was heard")
    return True


def _standbys(draft: Draft) -> None:
    """Note which standbys are lost: one does not go to them, and they are looked for less often."""
    for standing in draft.others:
        if standing.alive_since is None:
            continue
        missing = measure.unanswered(
            standing.health, floor=max(draft.pair.woken, draft.pair.floor), now=draft.now
        )
        in_a_row = standing.health.missed + len(missing)
        if in_a_row and in_a_row >= measure.needed(standing.health, STANDBY_SURE):
            draft.fail(standing)
            draft.decide(
                f"link {standing.link.id} is lost",
                f"{in_a_row} probes in a row are not answered while the path lives",
            )


def _improve(draft: Draft) -> None:
    """Make the moves that are not forced: to the first link that lives, or to a better one."""
    path = draft.path
    if path is None:
        return
    if not draft.pair.choice.number and path.alive_since is not None:
        draft.take(path, Reason.FIRST, "it lives")
    if not draft.compare:
        return
    for other in choose.order(draft.others, draft.desired):
        why = choose.better(path, other, draft.desired, draft.now)
        if why:
            draft.leave(other, Reason.BETTER, why)
            return
