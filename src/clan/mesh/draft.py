"""One pair while a step works on it: what changes, and what is to be done.

A step is pure, as it begins with a frozen pair and ends with another; in between there is this.
Here is also how a path is taken, announced and followed: a pair has one path at a time, and every
change of it goes through `_set`.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import choose
from clan.mesh.exchange import Action, Decision, Send, SetRoute
from clan.mesh.link import LinkId
from clan.mesh.pair import Mode
from clan.mesh.wire import Choice, Reason, Switch

if TYPE_CHECKING:
    from collections.abc import Collection

    from clan.mesh.exchange import Desired
    from clan.mesh.pair import Pair, Standing

FLAP = 60.0
"""Seconds on a path below which leaving it again for a better one is a flap."""
REPEAT_AFTER = 0.05
"""Seconds between two announcements to a peer that does not follow yet."""
MOST_ANNOUNCED = 3
"""Links beside the new path that a switch is announced on."""
SAID = {
    Reason.SILENT: "the peer found it silent",
    Reason.UPLINK: "the peer lost an uplink",
    Reason.BETTER: "the peer found another better",
    Reason.WANTED: "someone wants the peer's uplink left",
    Reason.FIRST: "the peer's first choice",
}


class Draft:
    """A pair at work. Everything is public: the functions of a step are one machine."""

    def __init__(
        self,
        name: str,
        pair: Pair,
        *,
        desired: Desired,
        down: Collection[str],
        every: float,
        now: float,
    ) -> None:
        self.name = name
        self.pair = pair
        self.links = dict(pair.links)
        self.sequence = pair.sequence
        """Of the last probe."""
        self.wake = pair.wake
        """When the pair has to be looked at again though nothing happens."""
        self.desired = desired
        self.down = down
        self.every = every
        """Seconds between two questions on a path: of this end, if the peer is not slower."""
        self.now = now
        self._usable: list[Standing] | None = None
        self.actions: list[Action] = []
        self.lost_uplinks: set[str] = set()
        """Uplinks of paths that were lost in silence: others on them are doubted as well."""
        self.news = False
        """Whether the peer may have to be told something else of the links."""
        self.compare = False
        """Whether a round ended that may show a better link."""
        self.asked = False
        """Whether the peer asks on the path."""

    @property
    def leads(self) -> bool:
        """Whether this end makes the moves that are not forced."""
        return self.desired.name < self.name

    @property
    def path(self) -> Standing | None:
        """The link in use."""
        return self.links.get(self.pair.path) if self.pair.path else None

    @property
    def others(self) -> list[Standing]:
        """The usable links that are not in use."""
        path = self.path
        return [s for s in self.usable if s is not path]

    @property
    def usable(self) -> list[Standing]:
        """The links whose uplinks work. Not to be changed."""
        if self._usable is None:
            there = self.links.values()
            self._usable = [s for s in there if choose.usable(s, self.desired, self.down)]
        return self._usable

    def put(self, standing: Standing) -> None:
        """Replace what is known of a link."""
        self.links[standing.link.id] = standing
        self._usable = None

    def lose(self, down: Collection[str]) -> None:
        """Note which uplinks lack what they need now."""
        self.down, self._usable = down, None

    def decide(self, what: str, why: str) -> None:
        """Write a decision down."""
        self.actions.append(Decision(at=self.now, peer=self.name, what=what, why=why))

    def close(self) -> Pair:
        """Return the pair as it is now."""
        return replace(self.pair, links=self.links, sequence=self.sequence, wake=self.wake)

    def fail(self, standing: Standing) -> None:
        """Note that a link was lost, once more; one that never lived was a wrong guess."""
        before = 0 if self.now - standing.failed_at > choose.FORGIVEN_AFTER else standing.failures
        lived = standing.alive_since is not None
        self.put(
            replace(
                standing,
                health=replace(standing.health, flying=(), missed=0),
                alive_since=None,
                failures=before + lived,
                failed_at=self.now if lived else standing.failed_at,
                tries=0,
                looked=self.now,
            )
        )

    def guess(self, why: str) -> None:
        """Take the likeliest link before anything is measured: the first packets need a way."""
        ranked = choose.order(self.usable or self.links.values(), self.desired)
        if ranked:
            self._set(ranked[0])
            self.decide(f"path {ranked[0].link.id}", why)

    def replace_path(self, why: str) -> None:
        """Take the best link there is in place of one that the map does not have any more."""
        ranked = choose.order(self.usable or self.links.values(), self.desired)
        self.take(ranked[0], Reason.UPLINK, why)

    def leave(self, target: Standing, reason: Reason, why: str) -> None:
        """Leave the path for another link, tell the peer, and remember what that says of it."""
        path = self.path
        if path is not None:
            self._remember(path, reason)
            if reason is Reason.SILENT:
                self.lost_uplinks.add(path.link.slot.uplink)
        self.take(target, reason, why)

    def take(self, target: Standing, reason: Reason, why: str) -> None:
        """Let a link be the path, by a choice of this end."""
        number = choose.next_number(self.pair.choice.number)
        self._set(target, number=number)
        self.decide(f"path {target.link.id}", why)
        self.announce(reason)

    def announce(self, reason: Reason) -> None:
        """Tell the peer of the choice, by the new path and by other links that live.

        It is also in every probe and answer, so one that is lost delays it and no more.
        """
        if not self.pair.choice.number or self.pair.mode is Mode.COLD:
            return
        message = Switch(choice=self.pair.choice, reason=reason)
        path = self.pair.path
        alive = [s.link.id for s in self.others if s.alive_since is not None]
        ways = [path, path, *alive[:MOST_ANNOUNCED]] if path else alive
        self.actions += [Send(link=way, message=message) for way in ways]
        self.pair = replace(self.pair, announced=self.now)

    def follow(self, choice: Choice, reason: Reason = Reason.OTHER) -> None:
        """Take the peer's choice if it is newer, or of the same age and the peer's leads."""
        mine = self.pair.choice
        if not choice.number:
            return
        link = LinkId(peer=self.name, own=choice.their, their=choice.own)
        same = choice.number == mine.number
        if same and (link.own, link.their) == (mine.own, mine.their):
            return
        if (same and self.leads) or (not same and not choose.newer(choice.number, mine.number)):
            if self.now - self.pair.announced >= REPEAT_AFTER:
                self.announce(Reason.OTHER)
            return
        there = self.links.get(link)
        if there is None or link not in {s.link.id for s in self.usable_here}:
            self._object(choice, link)
            return
        path = self.path
        if path is not None and path is not there:
            self._remember(path, reason)
        if there.about is not None and not there.about.usable:
            there = replace(there, about=replace(there.about, usable=True))
            self.put(there)
        moved = link != self.pair.path
        self._set(there, number=choice.number)
        if moved:
            self.decide(f"path {link}", f"followed: {SAID.get(reason, 'the peer says so')}")

    def _remember(self, path: Standing, reason: Reason) -> None:
        """Note what leaving a path says of it: it was lost, or left soon after it was taken."""
        if reason in {Reason.SILENT, Reason.UPLINK}:
            self.fail(path)
            return
        flaps = self.now - self.pair.chosen < FLAP and self.pair.choice.number > 0
        self.put(
            replace(
                path,
                alive_since=None if path.alive_since is None else self.now,
                failures=path.failures + flaps,
                failed_at=self.now if flaps else path.failed_at,
            )
        )

    def _object(self, choice: Choice, link: LinkId) -> None:
        """Answer a choice that this end cannot follow with one that it can."""
        ranked = choose.order(self.usable_here, self.desired)
        if ranked and self.now - self.pair.announced >= REPEAT_AFTER:
            self.pair = replace(self.pair, choice=replace(self.pair.choice, number=choice.number))
            self.take(ranked[0], Reason.UPLINK, f"the peer chose {link}, which is not to be had")

    @property
    def usable_here(self) -> list[Standing]:
        """The links whose uplinks work at this end, whatever the peer says."""
        return [
            s
            for s in self.links.values()
            if s.link.slot.uplink in self.desired.uplinks and s.link.slot.uplink not in self.down
        ]

    def _set(self, target: Standing, *, number: int = 0) -> None:
        link = target.link.id
        moved = link != self.pair.path
        self.pair = replace(
            self.pair,
            path=link,
            mtu=target.width.mtu,
            choice=Choice(number=number, own=link.own, their=link.their)
            if number
            else self.pair.choice,
        )
        if moved:
            self.pair = replace(self.pair, chosen=self.now, floor=self.now, doubt=None, beaten=None)
            # What it did not answer before was no reason not to take it.
            self.put(replace(target, health=replace(target.health, missed=0)))
            self.actions.append(SetRoute(peer=self.name, link=link, mtu=target.width.mtu))
