"""A shell on a machine: connect, log in, and go on when that led nowhere.

When something else answered, the next address is tried; when this computer moved to other networks
before the session began, everything begins anew.

This is what `clan ssh` does. What it asks, says and records goes through functions it is given.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from clan.errors import ClanError, HostKeyError, UnreachableError
from clan.networks.choose import Action
from clan.networks.connect import has_left, reach
from clan.networks.hostkeys import FirstContact, Meeting, Verdict, mismatch, refusal, unproven
from clan.networks.login import Identity, foreground, login, to_stderr
from clan.networks.memory import Memory

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from clan.networks.connect import Reached
    from clan.networks.memory import Memories
    from clan.networks.routes import Destination
    from clan.networks.technology import Context

MOST_TRIES = 16
"""Logins that one command begins: addresses that showed a wrong key, and moves."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What is wanted of the shell. `user` None is the route's, `options` are `Key=Value`."""

    action: Action = Action.INTERACTIVE
    user: str | None = None
    policy: FirstContact = FirstContact.ASK
    options: tuple[str, ...] = ()
    command: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """The person's side: what is asked, said and recorded.

    `ask` is None where there is no terminal to ask at.
    """

    ask: Callable[[Meeting, str], Awaitable[bool]] | None
    tell: Callable[[Reached], None]
    warn: Callable[[str], None]
    record: Callable[[str], None]


async def shell(
    found: Destination,
    request: Request,
    *,
    host_key: str | None,
    context: Context,
    memories: Memories,
    desk: Desk,
    run: Callable[[list[str]], Awaitable[int]] = foreground,
    show: Callable[[bytes], object] = to_stderr,
) -> int:
    """Log in and return ssh's exit status; `run` runs ssh, `show` gets what ssh itself says.

    Raises UnreachableError when no network leads there, HostKeyError when nothing that answers
    may be taken for the machine.
    """

    def record(key: str) -> None:
        nonlocal host_key
        host_key = key
        desk.record(key)

    # Without a terminal nothing asks: not ssh either, by whatever window it might find.
    options = request.options if context.interactive else (*request.options, "BatchMode=yes")
    fault: ClanError = HostKeyError(
        f"{MOST_TRIES} addresses answered, and none of them is {found.machine}"
    )
    avoid: frozenset[str] = frozenset()
    for _ in range(MOST_TRIES):
        async with reach(
            found.machine,
            found.routes,
            host_key=host_key,
            context=context,
            memories=memories,
            avoid=avoid,
            action=request.action,
        ) as reached:
            desk.tell(reached)
            meeting = Meeting(
                machine=found.machine,
                network=reached.route.network.name,
                address=reached.connection.address,
                by_multicast=reached.by_multicast,
            )
            identity = Identity(
                full_name=found.full_name,
                expected=host_key,
                policy=request.policy,
                ask=None if desk.ask is None else partial(desk.ask, meeting),
                record=record,
            )
            outcome = await login(
                reached,
                identity,
                ssh=context.ssh(),
                user=request.user or reached.route.user or "root",
                options=options,
                command=request.command,
                moved=partial(has_left, context, reached.underlay),
                run=run,
                show=show,
            )
        if outcome.cut_off:
            fault = UnreachableError(
                f"this computer changes networks too often to log in to {found.machine}"
            )
            continue
        if outcome.unproven:
            # Perhaps another machine, perhaps a bad moment of ours: not held against it for long.
            desk.warn(unproven(meeting, outcome.unproven))
            avoid |= {meeting.address}
            failed = partial(
                Memory.failed,
                network=meeting.network,
                underlay=reached.underlay.key,
                error=outcome.unproven,
                now=time.time(),
            )
            memories.update(found.machine, failed)
            continue
        if outcome.refused is None:
            return outcome.status
        if outcome.refused is not Verdict.WRONG or host_key is None:
            message, hint = refusal(meeting, outcome.refused, outcome.key)
            raise HostKeyError(message, hint=hint)
        desk.warn(mismatch(meeting, outcome.key))
        aside = partial(
            Memory.set_aside,
            network=meeting.network,
            address=meeting.address,
            host_key=host_key,
            now=time.time(),
        )
        memories.update(found.machine, aside)
    raise fault
