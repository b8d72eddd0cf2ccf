"""A mesh's maps when machines are there: what they have is heard, and what is new handed out."""

from __future__ import annotations

import asyncio
import os
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.cli.mesh_desk import meshes
from clan.cli.output import note, warn
from clan.deploy import maps
from clan.errors import ClanError
from clan.mesh.chart.carry import Told
from clan.modules.mesh.desk import Desk, own_key

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping

    from clan.cli.fleet import Fleet
    from clan.deploy.remote import Remote
    from clan.model.clan import Instance

AT_ONCE = 16
"""Machines that are logged in to at once."""


@dataclass(slots=True)
class Round:
    """One mesh's maps while they are asked for and handed out; `told` is by machine."""

    fleet: Fleet
    instance: Instance
    targets: Mapping[str, str] = field(default_factory=dict)
    """Where machines are reached instead of by their networks."""
    told: dict[str, Told] = field(default_factory=dict)
    known: tuple[str, ...] = ()
    desk: Desk | None = None

    async def collect(self, machines: Iterable[str]) -> None:
        """Ask machines what they have; who does not answer is left out. Raises ClanError."""
        begun = Desk.begin(self.instance, self.fleet.clan, self.fleet.reach.store)
        self.known = tuple(each.hash.hex() for each in begun.held.maps)
        members = [name for name in machines if name in self.instance.members["member"]]
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            async with gate:
                try:
                    said = await maps.tell(self._remote(name), self.instance.name, self.known)
                except ClanError:
                    # It is offline, or not installed yet: what follows says so.
                    return
                self.told[name] = said

        await asyncio.gather(*map(one, members))

    def _remote(self, machine: str) -> Remote:
        return self.fleet.remote(machine, target_host=self.targets.get(machine))

    @contextmanager
    def locked(self) -> Iterator[Desk]:
        """Give the maps of the folder and of the machines that told, and keep what comes of it."""
        with self.fleet.reach.store.locked():
            desk = Desk.begin(self.instance, self.fleet.clan, self.fleet.reach.store)
            for machine, told in self.told.items():
                for line in desk.hear(told):
                    warn(f"{machine}: {line}")
            self.desk = desk
            try:
                yield desk
            finally:
                desk.keep()

    async def hand_out(self, machines: Iterable[str]) -> dict[str, str]:
        """Give machines the maps in force that they have not; return what became of the top one.

        One that does not take it is warned of: it hears of it from the others.
        """
        if self.desk is None:
            return {}
        wanted = {each.hash.hex(): each.raw for each in self.desk.held.maps}
        found: dict[str, str] = {}
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> None:
            has = self.told.get(name, Told()).held
            lacking = [raw for hash_, raw in wanted.items() if hash_ not in has]
            if not lacking:
                found[name] = "same"
                return
            async with gate:
                try:
                    said = await maps.take(self._remote(name), self.instance.name, lacking)
                except ClanError as fault:
                    warn(f"{name}: it did not get the map: {fault.message}")
                    found[name] = "failed"
                    return
            for each in said:
                if each["outcome"] == "refused":
                    warn(f"{name}: {each['reason']}")
            found[name] = said[0]["outcome"]

        members = [name for name in machines if name in self.instance.members["member"]]
        await asyncio.gather(*map(one, members))
        return found


@dataclass(slots=True)
class Maps:
    """The maps of all meshes, in an update of machines."""

    fleet: Fleet
    targets: Mapping[str, str]
    rounds: list[Round] = field(default_factory=list)
    given: dict[str, dict[str, str]] = field(default_factory=dict)
    """Machine -> mesh -> what became of the map there."""

    async def before(self, machines: Collection[str]) -> None:
        """Hear what machines have, and sign what is new; that it cannot be is warned of."""
        self.rounds.clear()
        for instance in meshes(self.fleet.clan).values():
            if not set(machines) & set(instance.members["member"]):
                continue
            begun = Round(fleet=self.fleet, instance=instance, targets=self.targets)
            try:
                await begun.collect(machines)
                self.rounds.append(begun)
                with begun.locked() as desk:
                    made = desk.update(own_key(os.environ))
            except ClanError as fault:
                warn(fault.message)
                if fault.hint:
                    note(f"  {fault.hint}")
                continue
            if made is not None:
                note(f"{instance.name}: signed {made}")

    async def after(self, machines: Collection[str]) -> None:
        """Hand the maps out."""
        for each in self.rounds:
            for machine, outcome in (await each.hand_out(machines)).items():
                self.given.setdefault(machine, {})[each.instance.name] = outcome
