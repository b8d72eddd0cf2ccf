"""Update a machine: push a generation, have it activated, and confirm it by a fresh login.

What is decided here is only what the machine cannot know: whether it can still be reached. All
that can fail there is undone there, with or without us.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from clan.deploy.bundle import bundle
from clan.deploy.remote import PROGRAM
from clan.deploy.supply import supplied
from clan.errors import ClanError, UnreachableError
from clan.networks.observe import observe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from clan.deploy.remote import Remote
    from clan.deploy.supply import Supply
    from clan.plan.render import Generation

HASHES = "cat /var/lib/clan/current/hash /var/lib/clan/confirmed/hash 2>/dev/null || true"
NOT_INSTALLED = "not-installed"
INSTALLED = f"test -e {PROGRAM} || {{ echo {NOT_INSTALLED}; exit 0; }}; "
RETRY = 1.0
"""Seconds between two tries to log in to a machine that changes its networks."""
SPARE = 30.0
"""Seconds that a rollback is waited for after its timer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an update of one machine ended.

    `state`: unchanged, updated, rolled back (the machine is as it was), failed (nothing was
    switched), offline (no network leads there), or unknown (it was switched, and cannot be asked).
    """

    machine: str
    state: str
    number: int | None = None
    reason: str | None = None

    @property
    def good(self) -> bool:
        """Whether the machine is as it should be."""
        return self.state in {"unchanged", "updated"}

    def to_json(self) -> dict[str, Any]:
        """Return the outcome as JSON values."""
        return {
            "machine": self.machine,
            "state": self.state,
            "generation": self.number,
            "reason": self.reason,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What is asked of an update: `limit` in seconds for the confirmation.

    A network that answered before must answer after, but for those in `accept_loss`.
    """

    limit: float
    accept_loss: frozenset[str] = frozenset()


async def update(
    remote: Remote, generation: Generation, terms: Terms, say: Callable[[str], None]
) -> Outcome:
    """Bring a machine to a generation. Nothing is raised: what fails is the outcome."""
    machine = remote.found.machine
    try:
        hashes = (await remote.run(f"{INSTALLED}{HASHES}")).decode("ascii", "replace").split()
        if hashes == [NOT_INSTALLED]:
            reason = f"it is not installed yet: `clan machines install {machine}`"
            return Outcome(machine=machine, state="failed", reason=reason)
        if hashes == [generation.hash] * 2:
            return Outcome(machine=machine, state="unchanged")
        say("looking at its networks")
        before = await reachable_networks(remote)
    except UnreachableError as fault:
        return Outcome(machine=machine, state="offline", reason=fault.message)
    except ClanError as fault:
        return Outcome(machine=machine, state="failed", reason=fault.message)
    token = secrets.token_hex(16)
    say("sending")

    async def send(supply: Supply) -> Any:
        archive = bundle(generation, token=token, static=supply.static)
        words = ("update", f"{terms.limit:g}", *supply.words)
        return await remote.send(archive, *words, options=supply.options)

    begun = partial(supplied, machine, send, say)
    return await Switch(remote=remote, token=token, before=before, terms=terms, say=say).make(begun)


async def go_back(remote: Remote, number: int, terms: Terms, say: Callable[[str], None]) -> Outcome:
    """Switch a machine to a generation that it has, under the same conditions as an update."""
    token = secrets.token_hex(16)
    try:
        before = await reachable_networks(remote)
    except ClanError as fault:
        return Outcome(machine=remote.found.machine, state="offline", reason=fault.message)
    words = ("switch", str(number), f"{terms.limit:g}")
    begun = partial(remote.program, *words, stdin=token.encode())
    return await Switch(remote=remote, token=token, before=before, terms=terms, say=say).make(begun)


@dataclass(frozen=True, slots=True, kw_only=True)
class Switch:
    """One switch of one machine: `before` are the networks over which it answered."""

    remote: Remote
    token: str
    before: set[str]
    terms: Terms
    say: Callable[[str], None]

    async def make(self, begin: Callable[[], Awaitable[Any]]) -> Outcome:
        """Have it begun, and confirm it by a fresh login, or see it undone."""
        self.say("activating")
        try:
            answer = await begin()
        except ClanError as fault:
            # Cut off, perhaps by the new generation itself: a fresh login tells.
            answer = await self.ask_again(fault)
        if answer is None:
            return self.ended("unknown", None, "it has not answered since")
        if answer["stage"] != "waiting":
            return self.ended(answer["stage"], answer["number"], answer["reason"])
        number = answer["number"]
        self.say("confirming by a fresh login")
        lost = self.before - self.terms.accept_loss - await self.settled()
        if not lost:
            return await self.confirm(number)
        reason = f"no answer any more over {', '.join(sorted(lost))}"
        try:
            await self.remote.program("rollback", str(number), reason)
        except ClanError as fault:
            return await self.undone(number, fault)
        return self.ended("rolled back", number, reason)

    async def confirm(self, number: int) -> Outcome:
        """Confirm by a fresh login, as often as it takes: the machine's timer ends it."""
        while True:
            try:
                await self.remote.program("confirm", str(number), stdin=self.token.encode())
            except ClanError as fault:
                after = await self.ask_again(fault)
                if after is not None and after["stage"] == "waiting":
                    await asyncio.sleep(RETRY)
                    continue
                return self.told(number, after, fault)
            return self.ended("updated", number, None)

    async def undone(self, number: int, fault: ClanError) -> Outcome:
        """See how a switch ended that was to be undone."""
        after = await self.ask_again(fault)
        while after is not None and after["stage"] == "waiting":
            await asyncio.sleep(RETRY)
            after = await self.ask_again(fault)
        return self.told(number, after, fault)

    def told(self, number: int, after: dict[str, Any] | None, fault: ClanError) -> Outcome:
        """Say how it ended, as the machine said after a fault of ours."""
        if after is None:
            return self.ended("unknown", number, f"{fault}; it goes back by itself")
        if after["stage"] == "confirmed":
            return self.ended("updated", number, after["reason"])
        return self.ended(after["stage"], number, after["reason"] or str(fault))

    def ended(self, state: str, number: int | None, reason: str | None) -> Outcome:
        """Say how it ended."""
        machine = self.remote.found.machine
        return Outcome(machine=machine, state=state, number=number, reason=reason)

    async def ask_again(self, said: ClanError) -> dict[str, Any] | None:
        """Log in anew until the machine says how our activation stands; None when it never does."""
        clock = asyncio.get_running_loop().time
        end = clock() + self.terms.limit + SPARE
        while clock() < end:
            try:
                answer = await self.remote.program("status", stdin=self.token.encode())
            except ClanError:
                await asyncio.sleep(RETRY)
                continue
            now: dict[str, Any] | None = answer["activation"]
            if now is None or not now["ours"]:
                return {"number": None, "stage": "failed", "reason": str(said)}
            if now["stage"] not in {"preparing", "switching"}:
                return now
            await asyncio.sleep(RETRY)
        return None

    async def settled(self) -> set[str]:
        """Return the networks that answer, waiting for those that did before for half the time."""
        clock = asyncio.get_running_loop().time
        end = clock() + self.terms.limit / 2
        answering: set[str] = set()
        while True:
            answering |= await reachable_networks(self.remote)
            if self.before <= answering or clock() > end:
                return answering
            await asyncio.sleep(RETRY)


async def reachable_networks(remote: Remote) -> set[str]:
    """Return the networks over which the machine answers now."""
    seen = await observe(
        remote.found.routes,
        host_key=lambda _: remote.host_key,
        context=remote.context,
        memories=remote.memories,
    )
    return {observation.network for observation in seen if observation.reachable}


async def update_all(
    remotes: Sequence[Remote],
    generations: Sequence[Generation],
    terms: Sequence[Terms],
    *,
    canary: int,
    at_once: int,
    say: Callable[[str, str], None],
    done: Callable[[Outcome], None],
) -> list[Outcome]:
    """Update many, `at_once` at a time, the first `canary` before the rest.

    When one of those does not end well, the rest is left alone.
    """
    gate = asyncio.Semaphore(at_once)

    async def one(remote: Remote, generation: Generation, on: Terms) -> Outcome:
        async with gate:
            machine = remote.found.machine
            outcome = await update(remote, generation, on, lambda text: say(machine, text))
            done(outcome)
            return outcome

    wanted = list(zip(remotes, generations, terms, strict=True))
    outcomes: list[Outcome] = []
    for group in (wanted[:canary], wanted[canary:]):
        if any(not outcome.good for outcome in outcomes):
            break
        outcomes += await asyncio.gather(*(one(*each) for each in group))
    return outcomes
