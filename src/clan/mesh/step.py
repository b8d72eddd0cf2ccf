"""One step of the mesh: from what is wanted and what was observed to what is to be done.

`step` is pure: the same state, wishes and events give the same result, so a journal of them can be
replayed. It owns no timer either: the new state says when it wants to be called again though
nothing happens (`State.wake`), and until then a machine without traffic sleeps.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from operator import attrgetter
from typing import TYPE_CHECKING

from clan.mesh.ask import ask
from clan.mesh.draft import Draft
from clan.mesh.exchange import Counters, Desired, Received, Resumed, UplinkChanged
from clan.mesh.hear import hear, uplink_returned
from clan.mesh.judge import judge
from clan.mesh.pair import Mode, Pair, Standing, path_every

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from clan.mesh.exchange import Action, Event
    from clan.mesh.link import Link

STALLED = 0.15
"""Seconds late after which silence says more of this machine than of its links."""
FORGIVEN_FOR = 5.0
"""Seconds after that in which it is late as often as it likes: who always is has nothing better to
go by, and would never leave a dead path."""
FROZEN = 5.0
"""Seconds late after which this machine has been away, and looks for everything anew."""
_WAKE = attrgetter("wake")


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """All that is remembered between two steps."""

    pairs: Mapping[str, Pair] = field(default_factory=dict)
    down: frozenset[str] = frozenset()
    """Uplinks that lack a carrier, an address or a route."""
    desired: Desired = field(default_factory=lambda: Desired(name=""))
    """What was wanted last."""
    wake: float = math.inf
    """When to call `step` again though nothing happens; infinity is never."""


def step(
    state: State, desired: Desired, observed: Sequence[Event], now: float
) -> tuple[State, tuple[Action, ...]]:
    """Return the next state and what is to be done, in that order.

    `observed` is everything since the last step, in the order in which it happened; `now` is not
    before any of it. To be called when something happened, when `desired` changed and at
    `state.wake`.
    """
    work = _Work(state, desired, now)
    work.wake_late()
    for event in observed:
        work.take(event)
    if now >= state.wake:
        for name in [n for n, pair in work.pairs.items() if pair.wake <= now]:
            work.draft(name)
    work.finish()
    pairs = work.pairs
    wake = min(map(_WAKE, pairs.values()), default=math.inf)
    after = State(pairs=pairs, down=work.down, desired=desired, wake=wake)
    return after, tuple(work.actions)


class _Work:
    """The drafts of one step: a pair that nothing concerns is not touched."""

    def __init__(self, state: State, desired: Desired, now: float) -> None:
        self.before = state
        self.desired = desired
        self.now = now
        self.down = state.down
        self.every = path_every(sum(pair.mode is Mode.FAST for pair in state.pairs.values()))
        self.pairs = dict(state.pairs)
        self.drafts: dict[str, Draft] = {}
        self.actions: list[Action] = []
        if desired is not state.desired and desired != state.desired:
            self._reconcile()

    def draft(self, name: str) -> Draft | None:
        if name not in self.drafts:
            pair = self.pairs.get(name)
            if pair is None:
                return None
            self._begin(name, pair)
        return self.drafts[name]

    def _begin(self, name: str, pair: Pair) -> Draft:
        self.drafts[name] = made = Draft(
            name, pair, desired=self.desired, down=self.down, every=self.every, now=self.now
        )
        return made

    def wake_late(self) -> None:
        """Forgive silence that this machine slept through."""
        late = self.now - self.before.wake
        if late > FROZEN:
            self.take(Resumed(at=self.now))
        elif late > STALLED:
            for name, pair in self.before.pairs.items():
                again = pair.doubt is not None or self.now - pair.floor < FORGIVEN_FOR
                if not again and pair.mode is not Mode.COLD and (draft := self.draft(name)):
                    draft.pair = replace(draft.pair, floor=self.now, beaten=None)

    def take(self, event: Event) -> None:
        match event:
            case UplinkChanged():
                self._uplink(event)
            case Resumed():
                self._each(self.pairs, event)
            case Received() | Counters():
                self._each([event.link.peer], event)
            case _:
                self._each([event.peer], event)

    def finish(self) -> None:
        """Judge every pair that was touched, and those that a lost path casts doubt on."""
        judged: set[str] = set()
        while waiting := [name for name in self.drafts if name not in judged]:
            for name in waiting:
                judged.add(name)
                draft = self.drafts[name]
                judge(draft)
                for uplink in draft.lost_uplinks:
                    self._doubt_others(uplink)
        for name, draft in self.drafts.items():
            ask(draft)
            self.pairs[name] = draft.close()
            self.actions += draft.actions

    def _each(self, names: Iterable[str], event: Event) -> None:
        for name in names:
            draft = self.draft(name)
            if draft is not None:
                hear(draft, event)

    def _uplink(self, event: UplinkChanged) -> None:
        self.down = self.down - {event.uplink} if event.up else self.down | {event.uplink}
        for draft in self.drafts.values():
            draft.lose(self.down)
        for name, pair in self.pairs.items():
            if any(s.link.slot.uplink == event.uplink for s in pair.links.values()):
                touched = self.draft(name)
                if touched is None:
                    continue
                touched.news = True
                if event.up:
                    uplink_returned(touched, event.uplink)

    def _doubt_others(self, uplink: str) -> None:
        """Ask at once where other paths go over an uplink on which one was lost."""
        for name, pair in self.pairs.items():
            draft = self.drafts.get(name)
            current, links = (draft.pair, draft.links) if draft else (pair, pair.links)
            path = links.get(current.path) if current.path else None
            shared = path is not None and path.link.slot.uplink == uplink
            if shared and current.mode is Mode.FAST and current.doubt is None:
                touched = self.draft(name)
                if touched is not None:
                    touched.pair = replace(touched.pair, doubt=self.now)

    def _reconcile(self) -> None:
        """Bring the pairs in line with what is wanted now."""
        for name in [n for n in self.pairs if n not in self.desired.peers]:
            del self.pairs[name]
        for name, peer in self.desired.peers.items():
            known = self.pairs.get(name, Pair())
            links = {link.id: _standing(known.links.get(link.id), link) for link in peer.links}
            self.pairs[name] = replace(known, links=links)
            draft = self._begin(name, self.pairs[name])
            draft.news = True
            if known.path in links or not links:
                draft.pair = replace(draft.pair, path=known.path if links else None)
            elif known.path is None:
                draft.guess("the likeliest, before anything is measured")
            else:
                draft.replace_path(f"link {known.path} is no more")


def _standing(known: Standing | None, link: Link) -> Standing:
    if known is None:
        return Standing(link=link)
    if known.link == link:
        return known
    if known.alive_since is not None:
        return replace(known, link=link)
    # Where it may be found is new: look there at once.
    looked = known.looked if known.link.endpoints == link.endpoints else -math.inf
    return replace(known, link=link, tries=0, looked=looked)
