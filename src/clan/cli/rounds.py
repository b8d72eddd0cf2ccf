"""The rounds of one `clan machines update`: mostly one, up to three where host keys change.

Who logs in to a machine by name hears of its new host key, then the machine shows it, then the old
one is forgotten. In the second and third round machines that have everything already cost a login.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.deploy.renewal import later, named_by_others
from clan.deploy.update import Terms, update_all
from clan.networks.registry import technology

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clan.cli.fleet import Fleet, Progress
    from clan.cli.mesh_round import Maps
    from clan.deploy.remote import Remote
    from clan.deploy.update import Outcome
    from clan.vars.former import Overlap
    from clan.vars.names import GeneratorId

SPARE = 30.0
"""Seconds that a confirmation has beyond what the slowest network needs to return."""
PAUSE = 10.0
"""Seconds between two tries to reach a machine that is waited for."""


@dataclass(slots=True, kw_only=True)
class Rounds:
    """How machines are updated: `limit` in seconds, None for what each one's networks need.

    `showing` has the host keys that machines are to show in this round. `returned` are machines
    that were offline at first, and were waited for. `overlaps` is what went by two values at once
    when the window began. `maps` are those of meshes, where there are any.
    """

    fleet: Fleet
    targets: Mapping[str, str]
    limit: float | None
    accept_loss: frozenset[str]
    wait: bool
    at_once: int
    progress: Progress
    maps: Maps | None = None
    showing: dict[str, str] = field(default_factory=dict)
    returned: set[str] = field(default_factory=set)
    overlaps: dict[GeneratorId, Overlap] = field(default_factory=dict)

    async def update(self, chosen: Sequence[str], canary: int) -> dict[str, Outcome | None]:
        """Update machines, and others that only have to learn their new keys.

        Returns machine -> outcome, None for those that a failed canary kept from it.
        Raises ClanError when a value is missing that cannot be made.
        """
        found = await self.window(chosen, canary)
        # What is due on machines that were away can only be asked of them now.
        due = self.fleet.due(self.returned)
        if back := [name for name in found if due.get(name)]:
            for name, outcome in (await self.window(back, 0)).items():
                before = found.get(name)
                found[name] = later(before, outcome) if before and outcome else outcome
        return found

    async def window(self, chosen: Sequence[str], canary: int) -> dict[str, Outcome | None]:
        """Have machines make what is due, and update all whom that concerns."""
        await self.fleet.ensure(chosen, self.targets)
        self.overlaps = self.fleet.overlaps()
        renewed = await self.fleet.renew(chosen, self.targets, at_once=self.at_once)
        every = [*chosen, *await self.fleet.followers(chosen, at_once=self.at_once)]
        self.progress.join(every)
        if self.maps is not None:
            await self.maps.before(every)
        outcomes = {each.machine: each for each in await self.all(every, renewed, canary)}
        if self.maps is not None:
            await self.maps.after([name for name, each in outcomes.items() if each.good])
        return {name: outcomes.get(name) for name in every}

    async def all(
        self, chosen: Sequence[str], renewed: Mapping[str, str], canary: int
    ) -> list[Outcome]:
        """Update machines; those in `renewed` get that host key. One outcome for each.

        Those that a failed canary kept from it have none.
        """
        if not named_by_others(map(self.fleet.generation, chosen), renewed.values()):
            self.showing = dict(renewed)
            return list((await self.round(chosen, canary)).values())
        found = await self.round(chosen, canary)
        ready = [name for name in renewed if name in found and found[name].good]
        self.showing = {name: renewed[name] for name in ready}
        second = await self.round(ready, canary)
        self.showing = {}
        found |= {name: later(found[name], outcome) for name, outcome in second.items()}
        good = [name for name, outcome in found.items() if outcome.good]
        third = await self.round(good, 0) if second else {}
        return list((found | {n: later(found[n], each) for n, each in third.items()}).values())

    async def round(self, names: Sequence[str], canary: int) -> dict[str, Outcome]:
        """Bring machines to what they must have, waiting for those that are offline if asked."""
        found = {each.machine: each for each in await self.once(names, canary)}
        while self.wait:
            away = [name for name, outcome in found.items() if outcome.state == "offline"]
            if not away:
                break
            await asyncio.sleep(PAUSE)
            now = await self.once(away, 0)
            self.returned |= {each.machine for each in now if each.state != "offline"}
            found |= {each.machine: each for each in now}
        return found

    async def once(self, names: Sequence[str], canary: int) -> list[Outcome]:
        """Bring machines to what they must have now."""
        remotes = [self.fleet.remote(name, target_host=self.targets.get(name)) for name in names]
        return await update_all(
            remotes,
            [self.fleet.generation(name, host_key=self.showing.get(name)) for name in names],
            [
                Terms(
                    limit=self.limit or limit_of(remote),
                    accept_loss=self.accept_loss,
                    host_key=self.showing.get(remote.found.machine),
                )
                for remote in remotes
            ],
            leases=self.fleet.reach.leases,
            canary=canary,
            at_once=self.at_once,
            say=self.progress,
            done=self.done,
        )

    def done(self, outcome: Outcome) -> None:
        """Tell of an outcome; a host key that a machine was seen to show counts alone from now."""
        number = f" (generation {outcome.number})" if outcome.number else ""
        reason = f": {outcome.reason}" if outcome.reason else ""
        shown = self.showing.get(outcome.machine) if outcome.good else None
        if shown is not None:
            self.fleet.showed(outcome.machine, shown)
        more = ", with its new host key" if shown is not None else ""
        if self.overlaps and outcome.good and not outcome.former:
            for id_ in self.fleet.moved(outcome.machine, self.overlaps):
                more += f"; its next update ends the former {id_.name}"
        self.progress(outcome.machine, f"{outcome.state}{number}{more}{reason}")


def limit_of(remote: Remote) -> float:
    """Return for how long a confirmation is waited for: as the machine's networks need."""
    needs = [technology(route.network.technology).returns_within for route in remote.found.routes]
    return max(needs, default=0.0) + SPARE
