"""Name resolution that can be waited for, with a limit, without holding up the program's end."""

from __future__ import annotations

import ipaddress
import socket
import threading
from typing import Protocol

SocketAddress = tuple[int, tuple[str, int] | tuple[str, int, int, int]]
"""Address family and the tuple that `socket.connect` takes."""


class ResolveError(Exception):
    """A name could not be turned into addresses; the message says why."""


class Resolver(Protocol):
    """Turns a host into socket addresses; `SystemResolver` is the real one."""

    async def resolve(self, host: str, port: int, *, limit: float) -> list[SocketAddress]:
        """Return the addresses in the order to try; raise ResolveError after `limit` seconds."""


def literal(host: str, port: int) -> SocketAddress | None:
    """Return the socket address of a numeric host (IPv6 zones included), else None."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    if address.version == 4:  # noqa: PLR2004 (the versions of IP)
        return socket.AF_INET, (host, port)
    bare, _, zone = host.partition("%")
    if not zone:
        return socket.AF_INET6, (bare, port, 0, 0)
    try:
        scope = int(zone) if zone.isdigit() else socket.if_nametoindex(zone)
    except OSError:
        return None
    return socket.AF_INET6, (bare, port, 0, scope)


class SystemResolver:
    """The system's resolver: what every other program on this computer would find."""

    async def resolve(self, host: str, port: int, *, limit: float) -> list[SocketAddress]:
        """Return the addresses of `host` as `getaddrinfo` orders them (RFC 6724)."""
        if (numeric := literal(host, port)) is not None:
            return [numeric]
        import asyncio

        loop = asyncio.get_running_loop()
        answer: asyncio.Future[list[SocketAddress]] = loop.create_future()

        def deliver(
            found: list[SocketAddress] | None, fault: OSError | UnicodeError | None
        ) -> None:
            if answer.done():
                return
            if fault is not None or not found:
                reason = getattr(fault, "strerror", None) or str(fault or "no addresses")
                answer.set_exception(ResolveError(f"{host} does not resolve: {reason}"))
            else:
                answer.set_result(found)

        def look_up() -> None:
            found: list[SocketAddress] | None = None
            fault: OSError | UnicodeError | None = None
            try:
                rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
                found = [(row[0], row[4]) for row in rows]  # type: ignore[misc]
            except (OSError, UnicodeError) as error:
                fault = error
            # The loop may be gone: the command ended while the name server was silent.
            if not loop.is_closed():
                loop.call_soon_threadsafe(deliver, found, fault)

        # A daemon thread, not the loop's executor: leaving the program waits for an executor's
        # threads, and a name server that never answers holds one for half a minute.
        threading.Thread(target=look_up, name=f"resolve {host}", daemon=True).start()
        try:
            async with asyncio.timeout(limit):
                return await answer
        except TimeoutError:
            raise ResolveError(f"no name server answered for {host} in {limit:g} s") from None
