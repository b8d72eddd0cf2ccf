"""What a machine does with a map that it is offered, whoever offers it. Pure.

Only maps that were read, and so verified, come here. An older one is never taken. The result
depends on which maps came, not on their order; except among more branches than `MOST_MAPS`, and
between two roots, of which the first one counts.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.chart.forks import Settled, State, View, needed, view, weigh

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.chart.chart import Chart

LEAP = 1_000_000
"""How much higher than the highest known one of its epoch a serial may be: for a machine that was
away, many steps at once; and yet no map takes the room above from those that follow it."""
MOST_MAPS = 16
"""Maps that are held at once. A signer of too many branches pushes out their own."""


class Outcome(enum.StrEnum):
    """What became of a map that was offered."""

    NEWER = "newer"
    """It is the map now."""
    FORK = "fork"
    """It counts, and so does another: both are held."""
    SAME = "same"
    """It counts already."""
    OLDER = "older"
    """It was replaced before."""
    REFUSED = "refused"
    """It is not to be had: the reason says why."""


@dataclass(frozen=True, slots=True)
class Held:
    """The maps that a machine holds."""

    maps: tuple[Chart, ...]
    """All: those that count, those that count for nothing, and what the latter replaced."""
    settled: Settled

    @classmethod
    def of(cls, maps: Iterable[Chart] = ()) -> Held:
        """Hold those of some maps that have to be kept. They are of one epoch."""
        kept = tuple(needed(maps))
        return cls(kept, weigh(kept))

    @property
    def heads(self) -> tuple[Chart, ...]:
        """The map that counts, or the branches of a fork, the highest first."""
        return self.settled.heads

    @property
    def top(self) -> Chart | None:
        """The highest one that counts."""
        return self.heads[0] if self.heads else None

    @property
    def view(self) -> View:
        """What holds."""
        return view(self.settled)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a map, why in words, and what is held now."""

    outcome: Outcome
    reason: str
    held: Held
    """The same object as before if it holds the same maps. Others may be kept, if not in force,
    also with a map that was older or refused."""


def accept(held: Held, offered: Chart) -> Verdict:
    """Say what to do with a map that is offered."""
    top = held.top
    known = top.serial if top and top.epoch == offered.epoch else 0
    if offered.serial > known + LEAP:
        why = f"{offered} is more than {LEAP} ahead of {known}: no honest signer counts so fast"
        return Verdict(outcome=Outcome.REFUSED, reason=why, held=held)
    if top is None:
        return _taken(offered, f"{offered} is the first")
    if any(each.hash == offered.hash for each in held.heads):
        return Verdict(outcome=Outcome.SAME, reason=f"{offered} is known", held=held)
    wrong = _impossible(offered, top)
    if wrong:
        return Verdict(outcome=Outcome.REFUSED, reason=f"{offered} {wrong}", held=held)
    if offered.epoch > top.epoch:
        return _taken(offered, f"the root has begun epoch {offered.epoch}")
    if offered.epoch < top.epoch:
        why = f"{offered} is older: the root has begun epoch {top.epoch}"
        return Verdict(outcome=Outcome.OLDER, reason=why, held=held)
    return _beside(held, offered)


def _taken(offered: Chart, reason: str) -> Verdict:
    return Verdict(outcome=Outcome.NEWER, reason=reason, held=Held.of([offered]))


def _impossible(offered: Chart, top: Chart) -> str | None:
    """Return what no map can be, whatever else is held."""
    if offered.chain.first_root != top.chain.first_root:
        return "is of another clan"
    if offered.epoch > top.epoch and not _continues(offered, top):
        return f"comes from a root that lost its right in epoch {top.epoch}"
    if offered.epoch == top.epoch and offered.chain.last.root != top.chain.last.root:
        return (
            f"has another root than epoch {top.epoch} has here: the root before appointed two, "
            "so it was stolen, and the one that was heard of first counts"
        )
    return None


def _continues(offered: Chart, top: Chart) -> bool:
    """Whether the root that this machine knows began the first epoch after its own."""
    first = next(each for each in offered.chain.mandates if each.epoch > top.epoch)
    return first.proof.signer == top.chain.last.root


def _beside(held: Held, offered: Chart) -> Verdict:
    """Weigh a map together with those of the same epoch."""
    now = Held.of([*held.maps, offered])
    if len(now.maps) > MOST_MAPS:
        now = Held.of(_thinned(now))
    if {each.hash for each in now.maps} == {each.hash for each in held.maps}:
        now = held
    hashes = [each.hash for each in now.heads]
    if offered.hash in hashes:
        if len(hashes) == 1:
            return Verdict(outcome=Outcome.NEWER, reason=_why_newer(held, now, offered), held=now)
        return Verdict(outcome=Outcome.FORK, reason=_why_fork(now, offered), held=now)
    void = {each.hash: why for each, why in now.settled.void}
    for each in now.heads:
        if each.succeeds(offered):
            why = f"{offered} is older: {each} has replaced it"
            return Verdict(outcome=Outcome.OLDER, reason=why, held=now)
    why = void.get(offered.hash, "there are too many branches of its signer, or in all")
    return Verdict(outcome=Outcome.REFUSED, reason=f"{offered}: {why}", held=now)


def _why_newer(held: Held, now: Held, offered: Chart) -> str:
    before = [str(each) for each in held.heads if each.hash != offered.hash]
    void = [f"; {why}" for _, why in now.settled.void]
    return f"{offered} replaces {', '.join(before)}{''.join(void)}"


def _why_fork(now: Held, offered: Chart) -> str:
    beside = " and ".join(str(each) for each in now.heads if each.hash != offered.hash)
    asked = "an admin has to merge them"
    if now.settled.state is State.DISPUTED:
        asked = "their signers remove each other, so only the root's next epoch decides"
    return f"{offered} does not follow {beside}: {asked}; what either removes is removed"


def _thinned(held: Held) -> list[Chart]:
    """Leave out the lowest branch of whoever has made the most; what counts goes last."""
    made = Counter(each.signer for each in held.maps)
    most = max(made.values())
    heads = {each.hash for each in held.heads}
    dropped = min(
        (each for each in held.maps if made[each.signer] == most),
        key=lambda each: (each.hash in heads, each.order),
    )
    return [each for each in held.maps if each is not dropped]
