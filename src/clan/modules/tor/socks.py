"""Asking Tor for streams to onion services, as RFC 1928 (SOCKS 5) has it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from clan.networks.technology import DialError

if TYPE_CHECKING:
    import socket

REPLIES = {
    1: "Tor failed",
    2: "Tor's rules do not allow it",
    3: "the network is unreachable",
    4: "the onion service cannot be reached",
    5: "the onion service refused",
    6: "no circuit was built in time",
    0xF0: "the onion service was not found: is the machine on?",
    0xF4: "the onion service asks for a key that this Tor does not have",
}
"""RFC 1928, section 6, and Tor's proposal 304 for codes from 0xF0."""


async def ask(sock: socket.socket, name: str, port: int) -> None:
    """Ask a SOCKS 5 proxy for a stream to a name (RFC 1928). Raises DialError."""
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, b"\x05\x01\x00")
    if await _exactly(sock, 2) != b"\x05\x00":
        raise DialError("what listens on Tor's port is not a SOCKS 5 proxy without a password")
    host = name.encode("idna")
    await loop.sock_sendall(
        sock, b"\x05\x01\x00\x03" + bytes([len(host)]) + host + port.to_bytes(2, "big")
    )
    version, reply, _, kind = await _exactly(sock, 4)
    if version != 5 or reply != 0:  # noqa: PLR2004 (RFC 1928: SOCKS version 5, 0 is success)
        raise DialError(REPLIES.get(reply, f"Tor answered with code {reply}"))
    length = {1: 4, 4: 16}.get(kind)
    if length is None:
        length = (await _exactly(sock, 1))[0]
    await _exactly(sock, length + 2)


async def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not more:
            raise DialError("Tor closed the connection")
        data += more
    return data
