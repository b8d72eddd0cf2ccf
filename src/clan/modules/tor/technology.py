"""Reaching machines as onion services, through a Tor that runs on this computer."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, ClassVar

from clan.networks.technology import (
    Aim,
    Connection,
    Context,
    DialError,
    NetworkTechnology,
    Session,
    SetAsideError,
    Throughput,
    Traits,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clan.model.route import Network, Route

SOCKS = ("127.0.0.1", 9050)
"""Where Debian's tor listens (torrc(5), SocksPort)."""
CIRCUIT_LIMIT = 120.0
"""Seconds Tor may take to build a circuit to an onion service: SocksTimeout's default."""


class Tor(NetworkTechnology):
    """Streams to onion services, by SOCKS."""

    traits: ClassVar[Traits] = Traits(
        throughput=Throughput.LOW, hides_location=True, end_to_end=True, binds_address_to_key=True
    )

    def running(self, network: Network, context: Context) -> bool:
        """Whether a Tor listens here."""
        del network, context
        with socket.socket() as probe:
            probe.settimeout(0.5)
            return probe.connect_ex(SOCKS) == 0

    def patience(self, route: Route) -> float:
        """Return the seconds that a circuit to an onion service may take."""
        del route
        return CIRCUIT_LIMIT

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        """Use the Tor that runs here."""
        if not self.running(network, context):
            raise DialError("no Tor is running on this computer")
        yield TorSession(context)


class TorSession(Session):
    """Asks Tor for streams to onion services."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Open a stream to the machine's onion service."""
        import asyncio

        from clan.modules.tor.socks import ask
        from clan.networks.stream import (
            BANNER_LIMIT,
            closing_on_failure,
            host_port,
            reason,
            see_banner,
        )

        host = route.hosts[0]
        name = host if isinstance(host, str) else self.context.reveal(host)
        port = aim.port or route.port
        shown = host_port(name, port)
        if shown in aim.avoid:
            raise SetAsideError("the onion service")
        loop = asyncio.get_running_loop()
        sock = socket.socket()
        with closing_on_failure(sock):
            sock.setblocking(False)
            begin = loop.time()
            try:
                async with asyncio.timeout(CIRCUIT_LIMIT):
                    await loop.sock_connect(sock, SOCKS)
                    await ask(sock, name, port)
            except TimeoutError:
                raise DialError(f"Tor built no circuit in {CIRCUIT_LIMIT:g} s") from None
            except OSError as fault:
                raise DialError(f"Tor: {reason(fault)}") from None
            rtt = loop.time() - begin
            if aim.port is None:
                await see_banner(sock, shown, BANNER_LIMIT)
            return Connection(sock=sock, address=shown, rtt=rtt)
