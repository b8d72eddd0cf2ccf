"""Answers on a lab machine, for what `ask.py` asks: with the standard library alone.

UDP 7000 and 7001: each datagram is answered with the address it came from, as seen here; `poke` is
answered from a third port too, as a stranger would. TCP 443 and 8080: `give N` gets N bytes,
`take` counts what comes until the other end is done.
"""

from __future__ import annotations

import asyncio
import json
import socket
from typing import cast


class Mirror(asyncio.DatagramProtocol):
    """Tells each sender its address."""

    def __init__(self, stranger: socket.socket) -> None:
        self.stranger = stranger

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.DatagramTransport", transport)

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        self.transport.sendto(json.dumps([data.decode(), *addr[:2]]).encode(), addr)
        if data == b"poke":
            self.stranger.sendto(b"stranger", addr)


async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Give or take bytes, as the first line says."""
    verb, _, count = (await reader.readline()).decode().strip().partition(" ")
    if verb == "give":
        writer.write(bytes(int(count)))
    else:
        writer.write(str(len(await reader.read())).encode())
    await writer.drain()
    writer.close()


async def main() -> None:
    """Answer until killed."""
    loop = asyncio.get_running_loop()
    stranger = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    stranger.bind(("::", 7999))
    for port in (7000, 7001):
        both = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        both.bind(("::", port))
        await loop.create_datagram_endpoint(lambda: Mirror(stranger), sock=both)
    for port in (443, 8080):
        await asyncio.start_server(serve, None, port)
    await asyncio.Event().wait()


asyncio.run(main())
