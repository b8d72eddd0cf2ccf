"""New keys for this machine's interfaces: one slot after the other, and nothing is lost by it.

A slot whose key has served its time gets another interface beside the one it has. That one stays
until every member is known to have heard of the other: who was away for long still finds this
machine by what it had. Members who were not met meanwhile are called, one now and then.
"""

from __future__ import annotations

import math
import random
from typing import TYPE_CHECKING

from clan.mesh import slots
from clan.mesh.exchange import Called
from clan.mesh.pair import Mode

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from clan.mesh.agent.gossip import Gossip
    from clan.mesh.agent.here import Here
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.desire import Wish
    from clan.mesh.pair import Pair
    from clan.mesh.slots import Own

LOOK_EVERY = 600.0
"""Seconds between two looks for a key that has served its time: the clock may be set meanwhile."""
GO_ON_EVERY = 10.0
"""The same for what is leaving: may it go?"""
CALL_EVERY, CALL_SELDOM = 60.0, 6 * 3600.0
"""Seconds between two calls of members who are not known to have heard: twice as long after each in
vain, as who is away for months is not to be called every minute."""


class Renewal:
    """This machine's."""

    def __init__(
        self, known: Knowledge, here: Here, gossip: Gossip, say: Callable[[str], None]
    ) -> None:
        self._known, self._here, self._gossip, self._say = known, here, gossip, say
        self._at = -math.inf
        self._call_at, self._pause = -math.inf, CALL_EVERY
        self._missed = -1
        """How many had not heard when somebody was called last."""
        self._since: dict[str, tuple[float, int]] = {}
        """By the id of what is leaving: when that was noticed, and the serial of the record that
        has what took its place."""

    def due(self) -> float:
        """Return when `turn` has something to do."""
        return self._at

    def turn(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> list[Called]:
        """Begin, go on with or end what is to be; return whom to call for it.

        `Here.outdated` says whether this has changed something.
        """
        if now < self._at:
            return []
        self._at = now + GO_ON_EVERY
        if wish.member is None:
            return []
        try:
            return list(self._go_on(wish, pairs, now))
        except OSError as fault:
            self._say(f"a key that has served its time stays: {fault}")
            self._at = now + LOOK_EVERY
            return []

    def _go_on(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> Iterator[Called]:
        there = {own.slot: own for own in self._here.slots if not own.leaving}
        leaving = [own for own in self._here.slots if own.leaving and own.slot in there]
        if not leaving:
            self._since.clear()
            self._at = now + min(LOOK_EVERY, max(GO_ON_EVERY, self._here.renew()))
            return
        for own in leaving:
            missing = self._missing(own, there[own.slot], wish, pairs, now)
            if missing is None:
                continue
            used = [name for name, pair in pairs.items() if _uses(pair, own)]
            if not missing and not used and now >= self._since[own.id][0] + slots.OVERLAP:
                self._here.forget(own)
            elif missing or used:
                yield from self._call([*missing, *used], now)

    def _call(self, names: list[str], now: float) -> Iterator[Called]:
        """Call one of those who are to hear of it, or whose packets are to go another way."""
        if len(names) != self._missed:
            self._missed, self._pause = len(names), CALL_EVERY
            self._call_at = min(self._call_at, now + CALL_EVERY)
        if now >= self._call_at:
            self._call_at = now + self._pause
            self._pause = min(2 * self._pause, CALL_SELDOM)
            name = random.choice(names)  # noqa: S311 (spreads, guards nothing)
            yield Called(peer=name, at=now)

    def _missing(
        self, own: Own, other: Own, wish: Wish, pairs: Mapping[str, Pair], now: float
    ) -> list[str] | None:
        """Return who is not known to have heard of the other one, by name; note who is.

        None while this machine has not told of it itself.
        """
        record = self._known.own_record
        if record is None or all(each.id != other.id for each in record.interfaces):
            return None
        _, serial = self._since.setdefault(own.id, (now, record.serial))
        told = {
            member.identity
            for name, member in wish.peers.items()
            if self._gossip.knows.get(member.identity, 0) >= serial
            or (name in pairs and _answers(pairs[name], other))
        }
        ever = self._here.note_told(own, told)
        return [name for name, each in wish.peers.items() if each.identity not in ever]


def _answers(pair: Pair, own: Own) -> bool:
    """Whether a peer has answered by an interface of this machine's."""
    return any(
        link.own == own.id and each.health.answered > -math.inf for link, each in pair.links.items()
    )


def _uses(pair: Pair, own: Own) -> bool:
    """Whether packets of a pair go by an interface, or will if there are some."""
    return pair.path is not None and pair.path.own == own.id and pair.mode is not Mode.COLD
