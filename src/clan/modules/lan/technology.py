"""Finding machines on the LAN by multicast DNS (RFC 6762), as avahi and systemd-resolved answer.

Anyone on a LAN can answer for a name, so an address found here proves nothing: the machine's host
key does.
"""

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
from clan.system.names import literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from zeroconf.asyncio import AsyncZeroconf

    from clan.model.route import Network, Route
    from clan.system.names import SocketAddress

ASK_LIMIT = 3.0
"""Seconds to wait for an answer; RFC 6762 lets a responder take 0.5 s at most."""


class Lan(NetworkTechnology):
    """TCP to addresses that a machine announces on this LAN."""

    traits: ClassVar[Traits] = Traits(throughput=Throughput.HIGH, asks_by_multicast=True)

    def running(self, network: Network, context: Context) -> bool:
        """Whether this computer is on any network."""
        del network
        here = context.locate()
        return bool(here.sources or here.links)

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        """Join the multicast groups when the first question is asked; leave them at the end."""
        del network, context
        session = LanSession()
        try:
            yield session
        finally:
            await session.close()


class LanSession(Session):
    """Asks for names, once each, and dials what is answered."""

    def __init__(self) -> None:
        self.zeroconf: AsyncZeroconf | None = None

    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Connect to what answers for the route's name, or to where it was found before."""
        from clan.networks.race import race
        from clan.networks.stream import close, open_any

        name = str(route.hosts[0])
        port = aim.port or route.port

        async def ask() -> Connection:
            return await open_any(await self.ask(name, port), aim)

        async def known() -> Connection:
            host, _, _ = (aim.known or "").rpartition(":")
            address = literal(host.strip("[]"), port)
            if address is None:
                raise DialError("not found here before")
            return await open_any([address], aim)

        # Only sshd proves who it is; for other ports an old address may be another machine's now.
        if aim.known is None or aim.port is not None:
            return await ask()
        outcome = await race([known, ask], discard=close, stagger=0.05, grace=0.0)
        if outcome.value is None:
            raise DialError(str(outcome.laps[1].error))
        return outcome.value

    async def ask(self, name: str, port: int) -> list[SocketAddress]:
        """Ask everyone on the LAN for the addresses of `name`. Raises DialError."""
        import asyncio

        from zeroconf import (  # type: ignore[attr-defined]  # public, but not in its __all__
            AddressResolver,
            BadTypeInNameException,
        )
        from zeroconf.asyncio import AsyncZeroconf

        try:
            if self.zeroconf is None:
                self.zeroconf = AsyncZeroconf()
                # Shielded: cancelled while it starts, zeroconf can no longer be closed.
                await asyncio.shield(self.zeroconf.zeroconf.async_wait_for_start())
            question = AddressResolver(f"{name}.")
            found = await question.async_request(self.zeroconf.zeroconf, ASK_LIMIT * 1000)
        except (OSError, BadTypeInNameException) as fault:
            raise DialError(f"{name} cannot be asked for on this LAN: {fault}") from None
        if not found:
            raise DialError(f"nothing on this LAN answers for {name}")
        addresses = [
            address
            for written in question.parsed_scoped_addresses()
            if (address := literal(written, port)) is not None
        ]
        # Link-local addresses work only on the link they are from: last.
        return sorted(addresses, key=lambda address: address[1][0].startswith("fe80"))

    async def close(self) -> None:
        """Leave the multicast groups."""
        if self.zeroconf is not None:
            await self.zeroconf.async_close()
