"""What a controller makes of what peers say that they lost: who is dead. Pure.

It is a board that peers write to and read: it judges nothing by itself. What any peer has lost is
told to all at once, as every peer must take a subnet's packets from the same controller. That it is
back is told when nothing crosses the controller for a moment, so that no packet is under way while
peers change over one after the other; but not later than `LONGEST`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clan.machine.wireguard.watch import REPEATS

if TYPE_CHECKING:
    from collections.abc import Mapping

LEASE = 20.0
"""Seconds for which a peer's word counts: it repeats it every five."""
LONGEST = 30.0
"""Seconds that a controller that is back waits for a quiet moment."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Word:
    """What a peer has lost, and when it said so."""

    lost: frozenset[str]
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """All that a controller was told; `dead` is what it tells."""

    words: Mapping[str, Word] = field(default_factory=dict)
    dead: frozenset[str] = frozenset()
    fewer_since: float | None = None
    tell_at: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was observed: peers' words, and whether nothing crossed since the last look."""

    now: float
    quiet: bool = False
    heard: tuple[tuple[str, frozenset[str]], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Acts:
    """What is to be done: tell all or only some, and lines for the journal."""

    tell_all: bool = False
    tell: tuple[str, ...] = ()
    lines: tuple[str, ...] = ()


def step(board: Board, look: Look) -> tuple[Board, Acts]:
    """Take in what was observed; return what is known then, and what is to be done."""
    words = {who: word for who, word in board.words.items() if look.now - word.at < LEASE}
    for who, lost in look.heard:
        words.pop(who, None)
        if lost:
            words[who] = Word(lost=lost, at=look.now)
    lost = frozenset[str]().union(*(word.lost for word in words.values()))
    since = board.fewer_since
    lines = []
    dead = board.dead | lost
    for name in sorted(dead - board.dead):
        who = ", ".join(who for who, word in words.items() if name in word.lost)
        lines.append(f"{name} is dead for {who}: all peers are told")
    if dead == lost:
        since = None
    else:
        since = look.now if since is None else since
        waited = look.now - since
        if look.quiet or waited >= LONGEST:
            when = "at a quiet moment" if look.quiet else "though it was never quiet"
            lines += [
                f"{name} is dead for nobody since {waited:.0f} s: all peers are told, {when}"
                for name in sorted(dead - lost)
            ]
            dead, since = lost, None
    tell_at = board.tell_at
    if dead != board.dead:
        tell_at = tuple(look.now + later for later in REPEATS)
    tell_all = bool(tell_at) and tell_at[0] <= look.now
    return (
        replace(
            board,
            words=words,
            dead=dead,
            fewer_since=since,
            tell_at=tuple(at for at in tell_at if at > look.now),
        ),
        Acts(
            tell_all=tell_all,
            tell=() if tell_all else tuple(dict.fromkeys(who for who, _ in look.heard)),
            lines=tuple(lines),
        ),
    )


def next_look(board: Board, now: float) -> float | None:
    """Return in how many seconds to look again though nobody says anything; None is never."""
    times = [*board.tell_at, *(word.at + LEASE for word in board.words.values())]
    if board.fewer_since is not None:
        times.append(now + 0.1)
    return max(0.0, min(times) - now) if times else None
