"""Look at peers: does each answer on each network, and how fast.

Looking is bounded a machine: sshd penalises those who connect and leave without logging in. Where
looking again would be rude, the last look is shown with its age.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.model.observation import Observation
from clan.networks.registry import technology
from clan.networks.technology import Aim, Context, DialError, Session, crashed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from clan.model.route import Network, Route
    from clan.networks.memory import Memories, Memory

AT_ONCE = 64
"""Looks under way at once, over all machines."""
AT_ONCE_A_MACHINE = 2
LOOK_LIMIT = 10.0
"""Seconds one look may take, where the technology does not ask for more patience."""


async def observe(
    routes: Sequence[Route],
    *,
    host_key: Callable[[str], str | None],
    context: Context,
    memories: Memories,
    clock: Callable[[], float] = time.time,
    seen: Callable[[Observation], None] = lambda _: None,
) -> list[Observation]:
    """Look along every route once, and remember what was seen; `seen` hears of each at once.

    `host_key` gives the key of a machine: addresses that lately answered without it are not seen.
    The result is in the order of `routes`. Nothing is raised: what fails is an observation.
    """
    everywhere = asyncio.Semaphore(AT_ONCE)
    here = {route.machine: asyncio.Semaphore(AT_ONCE_A_MACHINE) for route in routes}

    async with contextlib.AsyncExitStack() as stack:
        networks = {route.network.name: route.network for route in routes}
        sessions = await _sessions(networks.values(), context, stack)

        async def look(route: Route) -> Observation:
            session = sessions[route.network.name]
            if isinstance(session, str):
                observation = _failed(route, session)
            else:
                async with here[route.machine], everywhere:
                    observation = await _look(
                        route, session, context, memories, clock, host_key=host_key
                    )
            seen(observation)
            return observation

        return list(await asyncio.gather(*(look(route) for route in routes)))


async def _sessions(
    networks: Iterable[Network], context: Context, stack: contextlib.AsyncExitStack
) -> dict[str, Session | str]:
    """Open one session a network, by its name; a str is the reason why there is none."""
    sessions: dict[str, Session | str] = {}
    for network in networks:
        try:
            opened = technology(network.technology).session(network, context)
            sessions[network.name] = await stack.enter_async_context(opened)
        except (ClanError, DialError) as fault:
            sessions[network.name] = str(fault)
        except Exception as fault:  # noqa: BLE001 (code of others; the rest is still looked at)
            sessions[network.name] = crashed(fault)
    return sessions


async def _look(
    route: Route,
    session: Session,
    context: Context,
    memories: Memories,
    clock: Callable[[], float],
    *,
    host_key: Callable[[str], str | None],
) -> Observation:
    underlay = context.locate().key
    now = clock()
    allowed = False

    def take(known: Memory) -> Memory:
        nonlocal allowed
        after = known.take_probe(now)
        allowed = after is not None
        return after or known

    memory = memories.update(route.machine, take)
    mark = memory.mark(route.network.name, underlay)
    if not allowed:
        if mark.rtt is None and mark.error is None:
            return _failed(route, "looked at too often just now; try again in a few seconds")
        failed_last = mark.failures > 0
        return Observation(
            network=route.network.name,
            machine=route.machine,
            rtt=None if failed_last else mark.rtt,
            address=None if failed_last else mark.address,
            error=mark.error if failed_last else None,
            age=max(0.0, now - (mark.failed_at if failed_last else mark.measured_at)),
        )
    limit = LOOK_LIMIT
    try:
        avoid = memory.bad_addresses(now, host_key(route.machine))
        limit = max(limit, technology(route.network.technology).patience(route))
        async with asyncio.timeout(limit):
            connection = await session.dial(route, Aim(avoid=avoid, known=mark.address))
    except TimeoutError:
        observation = _failed(route, f"no answer in {limit:g} s")
    except (ClanError, DialError) as fault:
        observation = _failed(route, str(fault))
    except Exception as fault:  # noqa: BLE001 (code of others; the rest is still looked at)
        observation = _failed(route, crashed(fault))
    else:
        connection.sock.close()
        observation = Observation(
            network=route.network.name,
            machine=route.machine,
            rtt=connection.rtt,
            address=connection.address,
        )
    memories.update(route.machine, lambda known: _noted(known, observation, underlay, clock()))
    return observation


def _noted(memory: Memory, observation: Observation, underlay: str, now: float) -> Memory:
    network = observation.network
    if observation.rtt is not None and observation.address is not None:
        return memory.worked(
            network, underlay, rtt=observation.rtt, address=observation.address, now=now
        )
    return memory.failed(network, underlay, error=str(observation.error), now=now)


def _failed(route: Route, error: str) -> Observation:
    return Observation(network=route.network.name, machine=route.machine, error=error)
