"""Connect to a machine: rank its routes, race them, remember how it went, keep what won.

This is the one place where a connection is made; `clan ssh` and `clan connect` both use it.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError, HostKeyError, UnreachableError
from clan.networks.attempt import Attempt, remembered
from clan.networks.choose import Action, Ranked, Ranking, rank
from clan.networks.race import Race, race
from clan.networks.registry import technology
from clan.networks.technology import (
    USUAL_PATIENCE,
    Aim,
    Connection,
    Context,
    NetworkTechnology,
    SetAsideError,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence

    from clan.model.route import Route
    from clan.networks.memory import Memories, Memory
    from clan.system.underlay import Underlay


MOVE_POLL = 0.1
"""Seconds between two looks at whether this computer is still where the race began."""
MOST_MOVES = 20
"""Races that one command begins anew because this computer moved."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A connection to the machine, the route that gave it, and all that was tried."""

    connection: Connection
    route: Route
    by_multicast: bool
    underlay: Underlay
    """Where this computer was when the connection was made."""
    attempts: tuple[Attempt, ...]
    excluded: tuple[Ranked, ...]
    keeps: bool
    """Whether leaving the context of `reach` ends the connection, even one handed to another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """A connection with the session that it was dialled in."""

    connection: Connection
    keeps: bool
    session: contextlib.AsyncExitStack

    async def close(self) -> None:
        """Give the connection up, and stop what was started for it."""
        self.connection.sock.close()
        await self.session.aclose()


@dataclass(frozen=True, slots=True)
class _Dialler:
    """Opens a session of a route's technology and dials in it."""

    context: Context
    loaded: Mapping[str, NetworkTechnology]
    memory: Memory
    underlay: str
    port: int | None
    avoid: frozenset[str]

    async def __call__(self, route: Route) -> Dialled:
        aim = Aim(
            port=self.port,
            avoid=self.avoid,
            known=self.memory.mark(route.network.name, self.underlay).address,
        )
        async with contextlib.AsyncExitStack() as stack:
            opened = self.loaded[route.network.technology].session(route.network, self.context)
            session = await stack.enter_async_context(opened)
            connection = await session.dial(route, aim)
            if connection.address in self.avoid:
                # A technology of others that has no other address and does not look.
                connection.sock.close()
                raise SetAsideError(connection.address)
            return Dialled(connection=connection, keeps=session.keeps, session=stack.pop_all())


def has_moved(context: Context, before: Underlay) -> bool:
    """Say whether this computer is on other networks than before.

    The routers' hardware addresses do not count: they are learned and forgotten in one place.
    """
    here = context.locate()
    return (here.sources, here.links) != (before.sources, before.links)


def has_left(context: Context, before: Underlay) -> bool:
    """Say whether this computer has lost a network that it was on.

    What is connected outlives a network that is gained, as IPv6 is a moment after IPv4.
    """
    here = context.locate()
    return not (set(before.sources) <= set(here.sources) and set(before.links) <= set(here.links))


async def _unless_moved(
    running: Coroutine[Any, Any, Race[Dialled]], context: Context, underlay: Underlay
) -> Race[Dialled] | None:
    """Run a race to its end, or stop it when this computer is on other networks: None then.

    What was sent from an address that is gone is never answered, and would be waited for in vain.
    """
    task = asyncio.ensure_future(running)
    try:
        while True:
            await asyncio.wait([task], timeout=MOVE_POLL)
            if task.done():
                return task.result()
            if has_moved(context, underlay):
                return None
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait([task])


def order(
    routes: Sequence[Route], *, action: Action, memory: Memory, underlay: str, now: float
) -> tuple[Ranking, dict[str, NetworkTechnology]]:
    """Rank the routes, and load their technologies (by reference).

    A technology that cannot be loaded rules its routes out, and the others go on.
    """
    loaded: dict[str, NetworkTechnology] = {}
    broken: dict[str, str] = {}
    for reference in dict.fromkeys(route.network.technology for route in routes):
        try:
            loaded[reference] = technology(reference)
        except ClanError as fault:
            broken[reference] = fault.message
    ranking = rank(
        [route for route in routes if route.network.technology in loaded],
        traits={reference: known.traits for reference, known in loaded.items()},
        action=action,
        memory=memory,
        underlay=underlay,
        now=now,
    )
    unloaded = [
        Ranked(route=route, why=broken[route.network.technology])
        for route in routes
        if route.network.technology in broken
    ]
    return Ranking(allowed=ranking.allowed, excluded=(*ranking.excluded, *unloaded)), loaded


def _patience(known: NetworkTechnology, route: Route) -> float:
    try:
        return known.patience(route)
    except Exception:  # noqa: BLE001 (code of others; the connection is there or not without it)
        return USUAL_PATIENCE


@contextlib.asynccontextmanager
async def reach(
    machine: str,
    routes: Sequence[Route],
    *,
    host_key: str | None,
    context: Context,
    memories: Memories,
    avoid: frozenset[str] = frozenset(),
    action: Action = Action.INTERACTIVE,
    port: int | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Reached]:
    """Connect to `machine` by the best route that works now; `port` None is its ssh port.

    Passed over are the addresses in `avoid`, and those that lately showed another key than
    `host_key`, the machine's.
    What the connection needs runs until the context is left; the socket is the caller's to close.
    Raises UnreachableError when no route leads there now, HostKeyError when all that is left are
    addresses that showed another key.
    """
    for _ in range(MOST_MOVES):
        underlay = context.locate()
        memory = memories.read(machine)
        now = clock()
        ranking, loaded = order(
            routes, action=action, memory=memory, underlay=underlay.key, now=now
        )
        bad = avoid | memory.bad_addresses(now, host_key)
        dial = _Dialler(context, loaded, memory, underlay.key, port, bad)
        running = race(
            [partial(dial, ranked.route) for ranked in ranking.allowed], discard=Dialled.close
        )
        outcome = await _unless_moved(running, context, underlay)
        if outcome is not None:
            break
    else:
        raise UnreachableError(f"this computer changes networks too often to reach {machine}")
    # Known only now that packets were sent: the key holds the router's hardware address.
    underlay = context.locate()
    attempts = tuple(
        Attempt(
            route=ranked.route,
            why=ranked.why,
            lap=lap,
            patience=_patience(loaded[ranked.route.network.technology], ranked.route),
            connection=outcome.value.connection
            if outcome.value is not None and index == outcome.winner
            else None,
        )
        for index, (ranked, lap) in enumerate(zip(ranking.allowed, outcome.laps, strict=True))
    )
    memories.update(
        machine,
        partial(
            remembered,
            attempts=attempts,
            seconds=outcome.seconds,
            underlay=underlay.key,
            now=clock(),
        ),
    )
    if outcome.value is None or outcome.winner is None:
        raise _unreachable(machine, attempts, ranking.excluded)
    route = ranking.allowed[outcome.winner].route
    async with outcome.value.session:
        yield Reached(
            connection=outcome.value.connection,
            route=route,
            by_multicast=loaded[route.network.technology].traits.asks_by_multicast,
            underlay=underlay,
            attempts=attempts,
            excluded=ranking.excluded,
            keeps=outcome.value.keeps,
        )


def _unreachable(
    machine: str, attempts: Sequence[Attempt], excluded: Sequence[Ranked]
) -> ClanError:
    """Say of each network why it does not lead to the machine, and what to do next."""
    rows = [(attempt.route.network.name, str(attempt.lap.error)) for attempt in attempts]
    rows += [(ranked.route.network.name, f"not tried: {ranked.why}") for ranked in excluded]
    width = max((len(network) for network, _ in rows), default=0)
    table = "".join(f"\n  {network:<{width}}  {reason}" for network, reason in rows)
    if any(isinstance(attempt.lap.fault, SetAsideError) for attempt in attempts):
        return HostKeyError(
            f"what answers for {machine} now is not {machine}{table}",
            hint=f"if {machine} was installed anew, delete its recorded key, "
            f"vars/per-machine/{machine}/openssh, and connect again",
        )
    if not rows:
        return UnreachableError(
            f"no network of the clan has {machine} as a peer",
            hint=f"set machines.{machine}.deploy.targetHost, or give {machine} a role on a network",
        )
    return UnreachableError(
        f"no network leads to {machine} from here now{table}",
        hint=f"is {machine} on? `clan network ping {machine}` tries again; "
        "--target-host HOST goes around all networks",
    )
