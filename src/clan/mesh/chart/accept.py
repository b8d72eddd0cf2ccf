"""What a machine does with a map that it is offered, whoever offers it. Pure.

Only maps that were read, and so verified, come here. An older one is never taken. The result
depends on which maps came, not on their order; except among more branches than `MOST_HEADS`, and
between two roots, of which the first one counts.
"""

from __future__ import annotations

import enum
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.chart.forks import State, View, settle, view

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.chart.chart import Chart

LEAP = 1_000_000
"""How much higher than the highest known one a serial may be: for a machine that was away, many
steps at once; and yet no map takes the room above from those that follow it."""
MOST_HEADS = 8
"""Branches of a fork that are held at once. A signer who makes more pushes out their own."""


class Outcome(enum.StrEnum):
    """What became of a map that was offered."""

    NEWER = "newer"
    """It is the map now."""
    FORK = "fork"
    """It counts, and so does another: both are held."""
    SAME = "same"
    """It is held already."""
    OLDER = "older"
    """It was replaced before."""
    REFUSED = "refused"
    """It is not to be had: the reason says why."""


@dataclass(frozen=True, slots=True)
class Held:
    """The maps that a machine holds."""

    heads: tuple[Chart, ...] = ()
    """The one that counts, or the branches of a fork, the highest first."""
    void: tuple[Chart, ...] = ()
    """Those that count for nothing but remove somebody: it matters if their remover is removed."""

    @property
    def maps(self) -> tuple[Chart, ...]:
        """All of them: what is stored, and offered to others."""
        return self.heads + self.void

    @property
    def top(self) -> Chart | None:
        """The highest one."""
        return self.heads[0] if self.heads else None

    @property
    def view(self) -> View:
        """What holds."""
        return view(self.heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What became of a map, why in words, and what is held now."""

    outcome: Outcome
    reason: str
    held: Held
    """The same object as before, if nothing has changed."""


def accept(held: Held, offered: Chart) -> Verdict:
    """Say what to do with a map that is offered."""
    top = held.top
    if top is None:
        return _taken(offered, f"{offered} is the first")
    if any(each.hash == offered.hash for each in held.maps):
        return Verdict(outcome=Outcome.SAME, reason=f"{offered} is known", held=held)
    wrong = _impossible(offered, top)
    if wrong:
        return Verdict(outcome=Outcome.REFUSED, reason=f"{offered} {wrong}", held=held)
    if offered.epoch > top.epoch:
        return _taken(offered, f"the root has begun epoch {offered.epoch}")
    by = [f"{each} has replaced it" for each in held.heads if each.succeeds(offered)]
    if offered.epoch < top.epoch:
        by = [f"the root has begun epoch {top.epoch}"]
    if by:
        return Verdict(outcome=Outcome.OLDER, reason=f"{offered} is older: {by[0]}", held=held)
    return _beside(held, offered)


def _taken(offered: Chart, reason: str) -> Verdict:
    return Verdict(outcome=Outcome.NEWER, reason=reason, held=Held((offered,)))


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
    if offered.epoch == top.epoch and offered.serial > top.serial + LEAP:
        return f"is more than {LEAP} ahead of {top}: no honest signer counts so fast"
    return None


def _continues(offered: Chart, top: Chart) -> bool:
    """Whether the root that this machine knows began the first epoch after its own."""
    first = next(each for each in offered.chain.mandates if each.epoch > top.epoch)
    return first.proof.signer == top.chain.last.root


def hold(maps: Iterable[Chart]) -> tuple[Held, dict[bytes, str]]:
    """Sort maps of one epoch, none of which another replaces; tell why some count for nothing."""
    settled = settle(maps)
    void = tuple(each for each, _ in settled.void if each.chain.removed)
    return Held(settled.heads, void), {each.hash: why for each, why in settled.void}


def _same(one: Held, other: Held) -> bool:
    return {each.hash for each in one.maps} == {each.hash for each in other.maps}


def _beside(held: Held, offered: Chart) -> Verdict:
    """Take a map of the same epoch that none has replaced."""
    now, void = hold([offered, *(each for each in held.maps if not offered.succeeds(each))])
    if offered.hash in void:
        # So it replaces nothing either.
        now, void = hold([offered, *held.maps])
    if len(now.maps) > MOST_HEADS:
        now, void = hold(_thinned(now, offered))
    hashes = [each.hash for each in now.heads]
    if offered.hash not in hashes:
        why = void.get(offered.hash, "it is one branch too many")
        kept = held if _same(now, held) else now
        return Verdict(outcome=Outcome.REFUSED, reason=f"{offered}: {why}", held=kept)
    if len(hashes) == 1:
        before = ", ".join(str(each) for each in held.heads)
        why = "".join(f"; {why}" for why in void.values())
        return Verdict(outcome=Outcome.NEWER, reason=f"{offered} replaces {before}{why}", held=now)
    beside = " and ".join(str(each) for each in now.heads if each is not offered)
    asked = "an admin has to merge them"
    if now.view.state is State.DISPUTED:
        asked = "their signers remove each other, so only the root's next epoch decides"
    return Verdict(
        outcome=Outcome.FORK,
        reason=f"{offered} does not follow {beside}: {asked}; what either removes is removed",
        held=now,
    )


def _thinned(held: Held, offered: Chart) -> list[Chart]:
    """Leave out the lowest branch of whoever has made the most; what counts goes last."""
    made = Counter(each.signer for each in held.maps)
    most = max(made.values())
    worst = [each for each in (*held.heads, *held.void) if made[each.signer] == most]
    dropped = worst[-1] if most > 1 or worst[-1] in held.void else offered
    return [each for each in held.maps if each is not dropped]
