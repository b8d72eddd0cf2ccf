"""Asking Tor for a stream: SOCKS 5 by RFC 1928 and 1929, with Tor's own codes.

Each stream asked for has credentials of its own, so that Tor gives it circuits of its own
(torrc(5), IsolateSOCKSAuth): one that hangs holds no other up.
"""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING

from clan.networks.stream import closing_on_failure, reason
from clan.networks.technology import DialError

if TYPE_CHECKING:
    from clan.modules.tor.ports import Address

REPLIES = {
    1: "Tor failed",
    2: "Tor's rules do not allow it",
    3: "the network is unreachable",
    4: "the onion service cannot be reached",
    5: "the onion service refused: does sshd run there?",
    6: "no circuit was built in time",
    0xF0: "the onion service was not found: is the machine on?",
    0xF1: "what was found of the onion service cannot be read",
    0xF2: "the onion service could not be asked for a meeting point",
    0xF3: "the onion service did not come to the meeting point",
    0xF4: "the onion service asks for a key that this Tor does not have",
    0xF5: "the onion service does not take this clan's key: update the machine",
    0xF6: "that is no name of an onion service",
    0xF7: "the onion service did not answer in time",
}
"""RFC 1928, section 6; from 0xF0 Tor's, sent where SocksPort says ExtendedErrors (proposal 304)."""
FINAL = {2, 5, 0xF0, 0xF4, 0xF5, 0xF6}
"""What asking again would not change."""

_VERSION = 5
_PASSWORD = 2
_DOMAIN = 3


class FinalError(DialError):
    """A refusal that asking again would not change."""


async def stream(tor: Address, host: str, port: int) -> socket.socket:
    """Open a stream through Tor. Raises DialError; cancelling leaves nothing open."""
    loop = asyncio.get_running_loop()
    family = socket.AF_UNIX if isinstance(tor, str) else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    with closing_on_failure(sock):
        sock.setblocking(False)
        try:
            await loop.sock_connect(sock, tor)
            await _ask(sock, host, port)
        except OSError as fault:
            raise DialError(f"Tor: {reason(fault)}") from None
        return sock


async def _ask(sock: socket.socket, host: str, port: int) -> None:
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(sock, bytes([_VERSION, 1, _PASSWORD]))
    if await _exactly(sock, 2) != bytes([_VERSION, _PASSWORD]):
        raise DialError("what listens on Tor's port is not Tor")
    user = os.urandom(16).hex().encode()
    await loop.sock_sendall(sock, b"\x01" + _counted(user) + _counted(b"clan"))
    await _exactly(sock, 2)
    where = _counted(host.encode("ascii")) + port.to_bytes(2, "big")
    await loop.sock_sendall(sock, bytes([_VERSION, 1, 0, _DOMAIN]) + where)
    version, code, _, kind = await _exactly(sock, 4)
    if version != _VERSION or code != 0:
        error = FinalError if code in FINAL else DialError
        raise error(REPLIES.get(code, f"Tor answered with code {code}"))
    length = {1: 4, 4: 16}.get(kind)
    if length is None:
        length = (await _exactly(sock, 1))[0]
    await _exactly(sock, length + 2)


def _counted(text: bytes) -> bytes:
    return bytes([len(text)]) + text


async def _exactly(sock: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = await asyncio.get_running_loop().sock_recv(sock, count - len(data))
        if not more:
            raise DialError("Tor closed the connection")
        data += more
    return data
