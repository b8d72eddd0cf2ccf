"""Update a machine: push a generation, have it activated, and confirm it by a fresh login.

What is decided here is only what the machine cannot know: whether it can still be reached. All
that can fail there is undone there, with or without us.

An update is one login, which first says what the machine has and then waits for what it is to have,
and a fresh one to confirm. That the first came through is proof for its network; a machine that is
on one network only is not looked at besides.
"""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

from clan.deploy.bundle import bundle
from clan.deploy.remote import DETACHED, PROGRAM, PYTHON, answer
from clan.deploy.supply import supplied
from clan.errors import ClanError, UnreachableError
from clan.networks.observe import observe

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Container, Sequence

    from clan.deploy.lease import Leases
    from clan.deploy.remote import Remote
    from clan.deploy.supply import Supply
    from clan.networks.connect import Reached
    from clan.plan.render import Generation

HASHES = "cat /var/lib/clan/current/hash /var/lib/clan/confirmed/hash 2>/dev/null || true"
NOT_INSTALLED = "not-installed"
ASK = (
    f"test -e {PROGRAM} || {{ echo {NOT_INSTALLED}; exit 0; }}; "
    f"echo $({HASHES}); read -r go || exit 0; set -e; "
)
"""Says what the machine has, in one line, and goes on when it gets one."""
GO = b"go\n"
RECEIVE = (
    # Kept until it has run: it reads its data from itself. In memory, for root alone.
    "umask 077; mkdir -p /run/clan; f=$(mktemp /run/clan/sent.XXXXXX); "
    'trap \'rm -f "$f"\' EXIT; cat >"$f"; '
)
"""Puts what is sent at `$f`."""
RETRY = 1.0
"""Seconds between two tries to log in to a machine that changes its networks."""
SPARE = 30.0
"""Seconds that a rollback is waited for after its timer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How an update of one machine ended.

    `state`: unchanged, updated, rolled back (the machine is as it was), failed (nothing was
    switched), offline (no network leads there), or unknown (it was switched, and cannot be asked).
    `former` is whether the last login went by what was replaced, such as an old onion name.
    """

    machine: str
    state: str
    number: int | None = None
    reason: str | None = None
    former: bool = False

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

    A network that answered before must answer after, but for those in `accept_loss`. The login that
    confirms has to be shown `host_key`, where the machine is to show a new one.
    """

    limit: float
    accept_loss: frozenset[str] = frozenset()
    host_key: str | None = None


async def update(
    remote: Remote,
    generation: Generation,
    terms: Terms,
    say: Callable[[str], None],
    *,
    leases: Leases,
) -> Outcome:
    """Bring a machine to a generation. Nothing is raised: what fails is the outcome."""
    machine = remote.found.machine
    switch = Switch(remote=remote, terms=terms, say=say)
    with leases.lease(machine, switch.token) as lease:

        async def ask(supply: Supply) -> Any:
            def data(has: list[str]) -> bytes | None:
                if has in ([NOT_INSTALLED], [generation.hash] * 2):
                    return None
                return bundle(
                    generation, token=switch.token, former=lease.former, static=supply.static
                )

            words = ('"$f"', "update", *supply.words)
            return await switch.ask(RECEIVE, words, data, supply.options)

        outcome = await switch.make(partial(supplied, machine, ask, say))
        if switch.has == [NOT_INSTALLED]:
            reason = f"it is not installed yet: `clan machines install {machine}`"
            outcome = switch.ended("failed", None, reason)
        lease.over = outcome.state != "unknown"
        return outcome


async def go_back(
    remote: Remote, number: int, terms: Terms, say: Callable[[str], None], *, leases: Leases
) -> Outcome:
    """Switch a machine to a generation that it has, under the same conditions as an update."""
    switch = Switch(remote=remote, terms=terms, say=say)
    with leases.lease(remote.found.machine, switch.token) as lease:
        tokens = f"{switch.token}\n{lease.former}\n".encode("ascii")
        words = (PROGRAM, "switch", str(number))
        outcome = await switch.make(partial(switch.ask, "", words, lambda _: tokens))
        lease.over = outcome.state != "unknown"
        return outcome


@dataclass(slots=True, kw_only=True)
class Switch:
    """One switch of one machine.

    `token` is what confirms it, `has` what the machine said that it has, `before` are the networks
    over which it answered; `begun` is whether it may have begun to switch, `former` whether the
    last login went by what was replaced.
    """

    remote: Remote
    terms: Terms
    say: Callable[[str], None]
    token: str = field(default_factory=lambda: secrets.token_hex(16))
    begun: bool = False
    has: list[str] = field(default_factory=list)
    before: set[str] = field(default_factory=set)
    former: bool = False

    def __post_init__(self) -> None:
        """Hear of every login."""
        self.remote = replace(self.remote, told=self.told_of)

    def told_of(self, by: Reached) -> None:
        """Hear how the machine was reached."""
        self.former = by.connection.former

    async def make(self, begin: Callable[[], Awaitable[Any]]) -> Outcome:
        """Have the machine switch, and confirm it by a fresh login, or see it undone."""
        try:
            said = await begin()
        except ClanError as fault:
            if not self.begun:
                state = "offline" if isinstance(fault, UnreachableError) else "failed"
                return self.ended(state, None, fault.message)
            # Cut off, perhaps by the new generation itself: a fresh login tells.
            said = await self.ask_again(fault)
        return await self.follow(said) if self.begun else self.ended("unchanged", None, None)

    async def ask(
        self,
        receive: str,
        words: Sequence[str],
        data: Callable[[list[str]], bytes | None],
        options: tuple[str, ...] = (),
    ) -> Any:
        """Log in, hear what the machine has, and have it switch; return its answer.

        `words` are its program and what that is to do; it reads what `data` gives for the hashes
        of what the machine has, None where that is all it is to have. Raises ClanError.
        """
        unit = f"clan-activate-{secrets.token_hex(4)}.service"
        program, command, *arguments = words
        line = " ".join([PYTHON, program, command, unit, *arguments, f"{self.terms.limit:g}"])
        self.begun = False

        async def begin(network: str, has: bytes) -> bytes:
            self.has = has.decode("ascii", "replace").split()
            given = data(self.has)
            if given is None:
                return b""
            await self.look(network)
            self.say("activating")
            self.begun = True
            return GO + given

        return answer(
            await self.remote.run(
                f"{ASK}{receive}{DETACHED}{unit} {line}", stdin=begin, options=options
            )
        )

    async def look(self, network: str) -> None:
        """Note the networks over which the machine answers; this login came by `network`."""
        self.before = {network}
        others = {route.network.name for route in self.remote.found.routes} - self.before
        if others:
            self.say("looking at its networks")
            self.before |= await reachable(self.remote, others)

    async def follow(self, answer: dict[str, Any] | None) -> Outcome:
        """See a switch to its end, from what the machine said when it was made."""
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
        remote = self.remote
        if self.terms.host_key is not None:
            remote = replace(remote, host_key=self.terms.host_key)
        while True:
            try:
                await remote.program("confirm", str(number), stdin=self.token.encode())
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
        return Outcome(
            machine=machine, state=state, number=number, reason=reason, former=self.former
        )

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
        every = {route.network.name for route in self.remote.found.routes}
        if len(every) == 1:
            return every  # or the fresh login that confirms does not come through
        clock = asyncio.get_running_loop().time
        end = clock() + self.terms.limit / 2
        answering: set[str] = set()
        while True:
            answering |= await reachable(self.remote, self.before)
            if self.before <= answering or clock() > end:
                return answering
            await asyncio.sleep(RETRY)


async def reachable(remote: Remote, networks: Container[str]) -> set[str]:
    """Return those of some networks over which the machine answers now."""
    seen = await observe(
        [route for route in remote.found.routes if route.network.name in networks],
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
    leases: Leases,
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
            tell = partial(say, machine)
            outcome = await update(remote, generation, on, tell, leases=leases)
            done(outcome)
            return outcome

    wanted = list(zip(remotes, generations, terms, strict=True))
    outcomes: list[Outcome] = []
    for group in (wanted[:canary], wanted[canary:]):
        if any(not outcome.good for outcome in outcomes):
            break
        outcomes += await asyncio.gather(*(one(*each) for each in group))
    return outcomes
