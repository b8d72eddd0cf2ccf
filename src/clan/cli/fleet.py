"""What the commands that change machines share: which machines, how they are reached, progress."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clan.cli.context import load_clan
from clan.cli.output import note, warn
from clan.cli.reach import Reach, straight_to
from clan.errors import ClanError, UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

    from clan.deploy.remote import Remote
    from clan.deploy.renewal import Renewed
    from clan.model.clan import Clan
    from clan.model.exports import Var
    from clan.model.plan import MachinePlan
    from clan.networks.technology import Context
    from clan.plan.render import Generation
    from clan.vars.former import Overlap
    from clan.vars.names import GeneratorId


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """A clan with the means to reach its machines."""

    clan: Clan
    reach: Reach
    context: Context

    @classmethod
    def of(cls, option: str | None) -> Fleet:
        """Load the clan."""
        from clan.networks.connect import MOVE_POLL
        from clan.system.underlay import lately

        reach = Reach.of(option)
        context = reach.context(interactive=False)
        # Each login looks at it; they are many, and all of them are here.
        here = lately(context.locate, MOVE_POLL)
        return cls(clan=load_clan(option), reach=reach, context=replace(context, locate=here))

    def chosen(self, names: Sequence[str], tags: Sequence[str]) -> list[str]:
        """Return the machines that are meant: those named or tagged; all when neither is given.

        Raises UsageError with the nearest name for one that is not there.
        """
        from clan.networks.routes import named, near

        found: dict[str, None] = {}
        for name in names:
            machine = named(self.clan, name)
            if machine is None:
                raise UsageError(f"the clan has no machine {name!r}", hint=near(self.clan, name))
            found[machine] = None
        for tag in tags:
            if tag not in self.clan.tags:
                nearest = did_you_mean(tag, self.clan.tags)
                raise UsageError(f"no machine has the tag {tag!r}", hint=nearest)
            found |= dict.fromkeys(self.clan.tags[tag])
        return list(found if names or tags else self.clan.machines)

    def has_networks(self, names: Iterable[str]) -> None:
        """Raise UsageError, with the nearest name, for what is no network of the clan."""
        there = [name for name, found in self.clan.exports.items() if found.networking]
        for name in names:
            if name not in there:
                nearest = did_you_mean(name, there)
                raise UsageError(f"the clan has no network {name!r}", hint=nearest)

    def remote(
        self, machine: str, *, target_host: str | None = None, policy: str = "strict"
    ) -> Remote:
        """Return a machine to run commands on."""
        from clan.deploy.remote import Remote
        from clan.networks.hostkeys import FirstContact
        from clan.networks.routes import destination

        found = destination(self.clan, machine)
        return Remote(
            found=straight_to(found, target_host) if target_host else found,
            context=self.context,
            memories=self.reach.memories,
            host_key=self.reach.host_key(machine),
            policy=FirstContact(policy),
            warn=warn,
            record=lambda key: self.reach.record_host_key(machine, key),
        )

    async def ensure(self, chosen: Collection[str], target_hosts: Mapping[str, str]) -> None:
        """Make the values that are missing; what machines make is asked of those that are there.

        Keys that are due on the chosen machines are made anew. Nobody is asked: what follows such
        a key and asks for something is left due. Raises ClanError for what is missing and asks.
        """
        from datetime import UTC, datetime

        from clan.deploy.birthplace import Machines
        from clan.vars.generate import Making, generate
        from clan.vars.graph import graph
        from clan.vars.need import Request
        from clan.vars.rotation import generators_due

        making = Making(
            ask=None,
            now=lambda: datetime.now(UTC),
            birthplace=Machines(
                remote=lambda name: self.remote(name, target_host=target_hosts.get(name)),
                say=Progress(list(target_hosts) or list(self.clan.machines), quiet=False),
            ),
        )
        declared, store = graph(self.clan), self.reach.store
        due = {id_ for machine in chosen for id_ in generators_due(store, machine, declared)}
        request = Request(due=frozenset(due))
        for outcome in await generate(store, declared, making, request):
            if not outcome.made:
                note(f"{outcome.id}: {outcome.why}")

    async def renew(
        self, chosen: Collection[str], target_hosts: Mapping[str, str], *, at_once: int
    ) -> dict[str, str]:
        """Have the chosen machines make anew what is due of their own: identity and host key.

        Returns machine -> host key that it is to show next. One that does not do it stays due.
        """
        from clan.deploy.renewal import renew
        from clan.vars.renewal import known_of_due

        store = self.reach.store
        gate = asyncio.Semaphore(at_once)

        async def one(machine: str, identity: str | None, host_key: str | None) -> Any:
            async with gate:
                remote = self.remote(machine, target_host=target_hosts.get(machine))
                try:
                    return await renew(remote, identity=identity, host_key=host_key)
                except ClanError as fault:
                    return fault

        known = {machine: known_of_due(store, machine) for machine in chosen}
        due = {machine: keys for machine, keys in known.items() if any(keys)}
        answers = await asyncio.gather(*(one(machine, *keys) for machine, keys in due.items()))
        found: dict[str, str] = {}
        for machine, answer in zip(due, answers, strict=True):
            if isinstance(answer, ClanError):
                note(f"{machine}: its own keys stay due: {answer.message}")
            elif new := self._keep(machine, answer):
                found[machine] = new
        return found

    def _keep(self, machine: str, made: Renewed) -> str | None:
        """Keep what a machine made; return the host key that it is to show, if it does not yet."""
        from clan.vars.graph import graph
        from clan.vars.renewal import expect_host_key, keep_host_key, keep_identity

        store = self.reach.store
        if made.identity is not None:
            keep_identity(store, graph(self.clan), machine, made.identity)
            note(f"{machine}: made a new identity; its secrets are encrypted to that one")
        if made.host_key is None:
            return None
        if made.shown:
            keep_host_key(store, machine, made.host_key)
            return None
        expect_host_key(store, machine, made.host_key)
        return made.host_key

    def showed(self, machine: str, host_key: str) -> None:
        """Have the new host key that a machine was seen to show be the only one that will do."""
        from clan.vars.renewal import keep_host_key

        keep_host_key(self.reach.store, machine, host_key)

    def overlaps(self) -> dict[GeneratorId, Overlap]:
        """Return the values that count beside what they replaced."""
        from clan.vars.former import waiting
        from clan.vars.graph import graph

        return waiting(self.reach.store, graph(self.clan))

    def moved(self, machine: str, begun: Mapping[GeneratorId, Overlap]) -> list[GeneratorId]:
        """Note that a machine has what `begun` says and was reached by it; return what is over."""
        from clan.vars.former import moved
        from clan.vars.graph import graph

        return moved(self.reach.store, graph(self.clan), machine, begun)

    def due(self, machines: Iterable[str]) -> dict[str, list[str]]:
        """List what each machine is still to make anew, or to be reached by, in words."""
        from clan.vars.former import waiting
        from clan.vars.graph import graph
        from clan.vars.rotation import outstanding

        store, declared = self.reach.store, graph(self.clan)
        overlaps = waiting(store, declared).items()
        return {
            machine: [each.called for each in outstanding(store, machine, declared)]
            + [f"a login by its new {id_.name}" for id_, o in overlaps if machine in o.machines]
            for machine in machines
        }

    async def followers(self, chosen: Sequence[str], *, at_once: int) -> list[str]:
        """Return the other machines that only have to learn new public keys of these.

        They are updated in the same window: until they are, they do not know the chosen ones.
        """
        from clan.plan.diff import differ_in_keys_only

        beside = {
            machine: None
            for instance in self.clan.instances.values()
            for members in [dict.fromkeys(m for role in instance.members.values() for m in role)]
            if any(machine in members for machine in chosen)
            for machine in members
            if machine not in chosen
        }
        others = [name for name in self.clan.machines if name in beside]
        remotes = [self.remote(name) for name in others]
        running = await each(remotes, "cat /var/lib/clan/current/manifest.json", at_once=at_once)
        return [
            name
            for name, answer in zip(others, running, strict=True)
            if isinstance(answer, bytes)
            and differ_in_keys_only(json.loads(answer or b"{}"), self.generation(name).manifest)
        ]

    def admit(self, machine: str, *, identity: str, host_key: str) -> None:
        """Keep what a machine was born with, and let it read the secrets that are its own."""
        from clan.vars.graph import graph
        from clan.vars.readers import admit

        admit(self.reach.store, graph(self.clan), machine, identity)
        if self.reach.host_key(machine) is None:
            self.reach.record_host_key(machine, " ".join(host_key.split()[:2]))

    def generation(self, machine: str, *, host_key: str | None = None) -> Generation:
        """Work out what a machine must have, as it would be sent.

        `host_key` is one that it is to show instead of the one that it shows.
        """
        from clan.plan.render import render

        store = self.reach.store
        shown = next(iter(store.host_keys(machine)), None)
        return render(
            self._plan(machine),
            self._sealed,
            identity=store.machine_identity(machine),
            host_key=host_key or shown,
        )

    def outlook(self, machine: str) -> tuple[Generation, dict[str, str]]:
        """Work out what a machine must have before all of it is there.

        Returns the generation, in which secrets that are not there are empty, and the id of each
        var that it lacks -> why. It is for showing and comparing, not for sending.
        """
        from clan.plan.build import due
        from clan.plan.render import render
        from clan.vars.names import var_id

        store, planned = self.reach.store, self._plan(machine)
        lacks = {var_id(each.var): each.why for each in due(planned)}

        def sealed(var: Var) -> bytes:
            data = store.sealed(var)
            if data is None:
                lacks[var_id(var)] = "`clan vars generate` makes it"
            return data or b""

        shown = next(iter(store.host_keys(machine)), None)
        identity = store.machine_identity(machine)
        return render(planned, sealed, identity=identity, host_key=shown), lacks

    def _plan(self, machine: str) -> MachinePlan:
        from clan.plan.build import plan
        from clan.vars.admins import login_keys

        store = self.reach.store
        return plan(self.clan, machine, store, login_keys(store.folder))

    def _sealed(self, var: Var) -> bytes:
        from clan.vars.names import var_id

        sealed = self.reach.store.sealed(var)
        if sealed is None:
            raise ClanError(
                f"the var {var_id(var)} is not there yet", hint="`clan vars generate` makes it"
            )
        return sealed


class Progress:
    """One line a machine and step, on standard error."""

    def __init__(self, machines: Sequence[str], *, quiet: bool) -> None:
        self.width = 0
        self.quiet = quiet
        self.join(machines)

    def join(self, machines: Iterable[str]) -> None:
        """Make room for these machines' names too."""
        self.width = max(self.width, *map(len, machines), 0)

    def __call__(self, machine: str, text: str) -> None:
        """Say what is done on a machine now."""
        if not self.quiet:
            note(f"{machine:<{self.width}}  {text}")


async def each(remotes: Sequence[Remote], command: str, *, at_once: int) -> list[bytes | ClanError]:
    """Run one command on many machines; a fault of one is its answer."""
    gate = asyncio.Semaphore(at_once)

    async def one(remote: Remote) -> bytes | ClanError:
        async with gate:
            try:
                return await remote.run(command)
            except ClanError as fault:
                return fault

    return list(await asyncio.gather(*map(one, remotes)))
