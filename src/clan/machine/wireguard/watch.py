"""What a peer makes of its controllers' answers: which are dead. Pure: values in, values out.

Controllers are asked in rounds, all at the same moment. One is lost when others answered and it did
not: it missed `MISSES` rounds, and another answered one that was sent `LIMIT` seconds after the
first that was missed. So a bad uplink, which delays or drops all answers alike, moves nothing.

Rounds cost: there are none while nothing is sent and nothing is dead.

A peer tells the live controllers which it lost. They tell all peers, and each holds for dead what
any has lost: an address is taken from one far end alone, so both ends of a connection must agree.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

LIMIT = 0.8
"""Seconds after a missed round from which a round that another answered counts."""
MISSES = 4
BUSY = 0.4
"""Seconds between rounds while something is sent."""
FAST = 0.1
"""Seconds between rounds while one may be lost."""
SLOW = 5.0
"""Seconds between rounds while one is dead and nothing is sent."""
STEADY = 1.0
"""Seconds between rounds while one that was lost answers again."""
GAP = 1.5
"""Rounds further apart say nothing together."""
HURRY = 3.0
"""Seconds for which one that does not answer is asked fast: if others do not answer either, more
questions do not help."""
JITTER = 0.1
"""Seconds by which an answer may be later than the ones before without a word."""

PATIENCE = 10.0
"""Seconds that one has to answer before it is held for back; doubled whenever it is lost again."""
MOST_PATIENCE = 320.0
FORGIVEN = 600.0
"""Seconds after a loss when patience is as at the beginning."""

REPEATS = (0.0, 0.2, 1.0)
"""Seconds after a change at which it is told: a datagram may get lost."""
REPORT = 5.0
"""Seconds between tellings while one is dead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sight:
    """A controller as it is seen from here; times are seconds of the monotonic clock.

    `latest` is when the newest round that it answered was sent, `trip` its round trip. `back` is
    since when one that was lost answers again.
    """

    latest: float = float("-inf")
    trip: float = 0.0
    lost: bool = False
    since: float = 0.0
    back: float | None = None
    patience: float = PATIENCE / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was observed: `busy` whether others than the agent sent something lately.

    `answers` are (controller, round); `heard` (controller, the ones that it says are dead).
    """

    now: float
    busy: bool = False
    answers: tuple[tuple[str, int], ...] = ()
    heard: tuple[tuple[str, frozenset[str]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Watch:
    """All that a peer knows of its controllers; `rounds` are the latest, by when they were sent."""

    sights: Mapping[str, Sight]
    told: Mapping[str, frozenset[str]] = field(default_factory=dict)
    rounds: Mapping[int, float] = field(default_factory=dict)
    number: int = 0
    asked: float = float("-inf")
    tell_at: tuple[float, ...] = ()

    @property
    def lost(self) -> frozenset[str]:
        """Those that are dead as seen from here."""
        return frozenset(name for name, sight in self.sights.items() if sight.lost)

    @property
    def dead(self) -> frozenset[str]:
        """Those that are dead for anyone, as far as one hears from controllers that live."""
        lost = self.lost
        said = (what for who, what in self.told.items() if who not in lost)
        return lost.union(*said) & self.sights.keys()

    def missed(self, name: str) -> list[float]:
        """List when the rounds were sent that a controller has not answered."""
        latest = self.sights[name].latest
        return [sent for sent in self.rounds.values() if sent > latest]


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """What is to be done: a round to ask of all, whether to tell, and lines for the journal."""

    ask: int | None = None
    tell: bool = False
    lines: tuple[str, ...] = ()


def step(watch: Watch, look: Look) -> tuple[Watch, Acts]:
    """Take in what was observed; return what is known then, and what is to be done."""
    before = watch.dead
    watch = _heard(_answered(watch, look), look)
    lines = []
    for name in watch.sights:
        sight, line = _judged(watch, name, look.now)
        watch = replace(watch, sights={**watch.sights, name: sight})
        lines += [line] if line else []
    for name in sorted((watch.dead - before) - watch.lost):
        who = ", ".join(who for who, what in watch.told.items() if name in what)
        lines.append(f"{who} says that {name} is dead for others")
    for name in sorted(before - watch.dead):
        lines.append(f"{name} is dead for nobody any more")
    if lines:
        watch = replace(watch, tell_at=tuple(look.now + later for later in REPEATS))
    tell = bool(watch.tell_at) and watch.tell_at[0] <= look.now
    if tell:
        left = tuple(at for at in watch.tell_at if at > look.now)
        watch = replace(watch, tell_at=left or ((look.now + REPORT,) if watch.dead else ()))
    ask = None
    if look.now - watch.asked >= interval(watch, look):
        # Far apart, they are a series of its own.
        known = watch.rounds if look.now - watch.asked <= GAP else {}
        ask = watch.number + 1
        rounds = {n: at for n, at in known.items() if look.now - at < 2 * HURRY} | {ask: look.now}
        watch = replace(watch, rounds=rounds, number=ask, asked=look.now)
    return watch, Acts(ask=ask, tell=tell, lines=tuple(lines))


def interval(watch: Watch, look: Look) -> float:
    """Return the seconds between rounds now; infinite where there are to be none."""
    for name, sight in watch.sights.items():
        missed = watch.missed(name)
        if missed and not sight.lost:
            ago = look.now - min(missed)
            if JITTER + 2 * sight.trip < ago < HURRY:
                return FAST
    if look.busy:
        return BUSY
    if any(sight.back is not None for sight in watch.sights.values()):
        return STEADY
    return SLOW if watch.dead else float("inf")


def _answered(watch: Watch, look: Look) -> Watch:
    sights = dict(watch.sights)
    for name, number in look.answers:
        sent = watch.rounds.get(number)
        if sent is None or name not in sights:
            continue
        sight = sights[name]
        took = look.now - sent
        # A quick one is believed slowly: the next may be as late as the last was.
        trip = max(took, 0.9 * sight.trip + 0.1 * took)
        back = sent if sight.lost and sight.back is None else sight.back
        sights[name] = replace(sight, latest=max(sight.latest, sent), trip=trip, back=back)
    return replace(watch, sights=sights)


def _heard(watch: Watch, look: Look) -> Watch:
    told = dict(watch.told)
    for name, dead in look.heard:
        told[name] = dead - {name}
    return replace(watch, told=told)


def _judged(watch: Watch, name: str, now: float) -> tuple[Sight, str | None]:
    """Return a controller as it is seen now, and what changed, in words."""
    sight, missed = watch.sights[name], watch.missed(name)
    if sight.lost:
        if sight.back is not None and len(missed) > 1:
            return replace(sight, back=None), None
        if sight.back is None or sight.latest - sight.back < sight.patience:
            return sight, None
        return (
            replace(sight, lost=False, back=None),
            f"{name} is back: it answered for {sight.patience:g} s",
        )
    others = {
        other: seen.latest
        for other, seen in watch.sights.items()
        if other != name and not seen.lost and missed
        if seen.latest - min(missed) >= LIMIT + 2 * sight.trip
    }
    if len(missed) < MISSES or not others:
        return sight, None
    patience = 2 * sight.patience if now - sight.since < FORGIVEN or not sight.since else PATIENCE
    lost = replace(
        sight, lost=True, since=now, back=None, patience=min(patience, MOST_PATIENCE), trip=0.0
    )
    took = max(others.values()) - min(missed)
    who = ", ".join(others)
    line = f"{name} is dead: it missed {len(missed)} questions in {took:.1f} s that {who} answered"
    return lost, line
