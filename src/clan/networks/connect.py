"""Connect to a machine: rank its routes, race them, remember how it went, keep what won.

This is the one place where a connection is made; `clan ssh` and `clan connect` both use it.
"""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from clan.errors import ClanError, HostKeyError, UnreachableError
from clan.networks.attempt import Attempt, remembered
from clan.networks.choose import Action, Ranked, Ranking, rank
from clan.networks.race import race
from clan.networks.registry import technology
from clan.networks.technology import Aim, Connection, Context, NetworkTechnology, SetAsideError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from clan.model.route import Route
    from clan.networks.memory import Memories, Memory


@dataclass(frozen=True, slots=True, kw_only=True)
class Reached:
    """A connection to the machine, the route that gave it, and all that was tried."""

    connection: Connection
    route: Route
    by_multicast: bool
    attempts: tuple[Attempt, ...]
    excluded: tuple[Ranked, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialled:
    """A connection with the session that it was dialled in."""

    connection: Connection
    session: contextlib.AsyncExitStack

    async def close(self) -> None:
        """Give the connection up, and stop what was started for it."""
        self.connection.sock.close()
        await self.session.aclose()


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


@contextlib.asynccontextmanager
async def reach(
    machine: str,
    routes: Sequence[Route],
    *,
    context: Context,
    memories: Memories,
    action: Action = Action.INTERACTIVE,
    port: int | None = None,
    clock: Callable[[], float] = time.time,
) -> AsyncIterator[Reached]:
    """Connect to `machine` by the best route that works now; `port` None is its ssh port.

    What the connection needs runs until the context is left; the socket is the caller's to close.
    Raises UnreachableError when no route leads there now, HostKeyError when all that is left are
    addresses that showed another key.
    """
    memory = memories.read(machine)
    now = clock()
    underlay = context.underlay.key
    ranking, loaded = order(routes, action=action, memory=memory, underlay=underlay, now=now)
    avoid = memory.bad_addresses(now)

    async def dial(route: Route) -> Dialled:
        known = memory.mark(route.network.name, underlay).address
        async with contextlib.AsyncExitStack() as stack:
            opened = loaded[route.network.technology].session(route.network, context)
            session = await stack.enter_async_context(opened)
            connection = await session.dial(route, Aim(port=port, avoid=avoid, known=known))
            return Dialled(connection=connection, session=stack.pop_all())

    outcome = await race(
        [partial(dial, ranked.route) for ranked in ranking.allowed], discard=Dialled.close
    )
    attempts = tuple(
        Attempt(
            route=ranked.route,
            why=ranked.why,
            lap=lap,
            connection=outcome.value.connection
            if outcome.value is not None and index == outcome.winner
            else None,
        )
        for index, (ranked, lap) in enumerate(zip(ranking.allowed, outcome.laps, strict=True))
    )
    memories.update(
        machine,
        lambda known: remembered(
            known, attempts, seconds=outcome.seconds, underlay=underlay, now=clock()
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
            attempts=attempts,
            excluded=ranking.excluded,
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
