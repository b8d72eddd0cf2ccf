"""Reaching machines by addresses someone configured: names, numbers, and jump hosts."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from clan.networks.technology import (
    Aim,
    Connection,
    Context,
    DialError,
    NetworkTechnology,
    Session,
    Throughput,
    Traits,
)
from clan.system.names import ResolveError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clan.model.route import Network, Route
    from clan.system.names import SocketAddress

JUMP_PATIENCE = 5.0
"""Seconds a login at a jump host may take."""
NAME_LIMIT = 5.0
"""Seconds a name server may take."""


class Internet(NetworkTechnology):
    """Plain TCP to configured addresses."""

    traits: ClassVar[Traits] = Traits(throughput=Throughput.HIGH)

    def running(self, network: Network, context: Context) -> bool:
        """Whether any route leads out of this computer."""
        del network
        return bool(context.locate().sources)

    def patience(self, route: Route) -> float:
        """Return the seconds it may take: each jump host is a login of its own."""
        return JUMP_PATIENCE * len(route.jumps) or super().patience(route)

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        """Nothing has to be started."""
        del network
        yield InternetSession(context)


class InternetSession(Session):
    """Dials configured addresses."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Connect to the first of the route's hosts that answers, or to it through jump hosts."""
        from clan.networks.stream import open_any, open_jump

        port = aim.port or route.port
        hosts = [
            host if isinstance(host, str) else self.context.reveal(host) for host in route.hosts
        ]
        if route.jumps:
            # A name is for the last jump host to resolve: it may only mean something there.
            return await open_jump(hosts[0], port, route.jumps, aim, self.context)
        addresses: list[SocketAddress] = []
        faults = []
        for host in hosts:
            try:
                addresses += await self.context.resolver.resolve(host, port, limit=NAME_LIMIT)
            except ResolveError as fault:
                faults.append(str(fault))
        if not addresses:
            raise DialError("; ".join(faults))
        return await open_any(addresses, aim)
