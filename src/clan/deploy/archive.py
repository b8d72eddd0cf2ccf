"""A way to package archives for a machine that reaches none: a proxy on this computer.

It listens on a socket that only this user may use; ssh leads it to the machine for as long as a
task there takes. It leads to the hosts and ports of that machine's archives and nowhere else. What
is signed is checked by the machine.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import tempfile
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter
    from collections.abc import AsyncIterator, Collection

Site = tuple[str, int]
"""Host and port of an archive."""

PATIENCE = 10.0
"""Seconds that an archive has to take a connection, and a machine to say what it wants."""
CHUNK = 65536
HTTP = 80

_CONNECT = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[^:]+):(\d+)")
_OURS = frozenset({"connection", "proxy-authorization", "proxy-connection", "keep-alive"})
"""Fields of a request that are for the proxy (RFC 9110, 7.6.1)."""


async def reachable(sites: Collection[Site]) -> bool:
    """Whether any of the archives takes a connection from this computer."""

    async def answers(site: Site) -> bool:
        try:
            _, writer = await _opened(site)
        except OSError:
            return False
        writer.close()
        return True

    for found in asyncio.as_completed([asyncio.ensure_future(answers(site)) for site in sites]):
        if await found:
            return True
    return False


@contextlib.asynccontextmanager
async def proxy(sites: Collection[Site]) -> AsyncIterator[Path]:
    """Yield the socket of a proxy that leads to these archives alone, until the context ends."""
    allowed = frozenset(sites)

    async def serve(reader: StreamReader, writer: StreamWriter) -> None:
        try:
            # The machine may be gone, the archive too: each is the other's business to notice.
            with contextlib.suppress(OSError, asyncio.IncompleteReadError):
                await _serve(reader, writer, allowed)
        finally:
            writer.close()

    with tempfile.TemporaryDirectory(prefix="clan-archive-") as folder:
        place = Path(folder) / "socket"
        server = await asyncio.start_unix_server(serve, place, limit=CHUNK)
        try:
            yield place
        finally:
            server.close()


async def _serve(reader: StreamReader, writer: StreamWriter, allowed: frozenset[Site]) -> None:
    """Answer one request; a connection carries no second one, so each is looked at."""
    try:
        async with asyncio.timeout(PATIENCE):
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        request, *fields = head.rstrip("\r\n").split("\r\n")
        method, target, _ = request.split(" ")
        site, path = _wanted(method, target)
    except (TimeoutError, ValueError, asyncio.LimitOverrunError):
        return await _refuse(writer, "400 Bad Request")
    if site not in allowed:
        return await _refuse(writer, "403 Not an archive of this machine's apt")
    try:
        from_site, to_site = await _opened(site)
    except OSError:
        return await _refuse(writer, "502 The admin's computer does not reach it")
    try:
        if path is None:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        else:
            kept = [f for f in fields if f.partition(":")[0].strip().lower() not in _OURS]
            lines = [f"{method} {path} HTTP/1.1", *kept, "Connection: close"]
            to_site.write("\r\n".join([*lines, "", ""]).encode("latin-1"))
        asking = asyncio.ensure_future(_copy(reader, to_site))
        await _copy(from_site, writer)
        asking.cancel()
    finally:
        to_site.close()
    return None


async def _opened(site: Site) -> tuple[StreamReader, StreamWriter]:
    """Connect to an archive. Raises OSError, also for what is this computer itself.

    A machine says by itself what its archives are; services that this computer has for its own
    users are none of them.
    """
    async with asyncio.timeout(PATIENCE):
        reader, writer = await asyncio.open_connection(*site)
    address = ip_address(writer.get_extra_info("peername")[0])
    if address.is_loopback or address.is_link_local:
        writer.close()
        raise OSError(f"{site[0]} is this computer")
    return reader, writer


def _wanted(method: str, target: str) -> tuple[Site, str | None]:
    """Return where a request leads, and the path there; None for a tunnel. Raises ValueError."""
    if method == "CONNECT":
        found = _CONNECT.fullmatch(target)
        if found is None:
            raise ValueError(target)
        return (found[1].strip("[]").lower(), int(found[2])), None
    url = urlsplit(target)
    if method not in {"GET", "HEAD"} or url.scheme != "http" or not url.hostname:
        raise ValueError(target)
    path = target.split("://", 1)[1].partition("/")
    return (url.hostname, url.port or HTTP), f"/{path[2]}"


async def _refuse(writer: StreamWriter, status: str) -> None:
    text = f"HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    writer.write(text.encode("ascii"))
    await writer.drain()


async def _copy(reader: StreamReader, writer: StreamWriter) -> None:
    while data := await reader.read(CHUNK):
        writer.write(data)
        await writer.drain()
    with contextlib.suppress(OSError):
        writer.write_eof()
