"""How the two ends of a stream know each other, before anything else of it is read. Pure.

    relay    32 random bytes
    machine  its identity, its interface's id (4 bytes), 32 random bytes, its signature
    relay    its signature

Both sign the purpose, the binding, the relay's identity and all that was said before, each in fixed
lengths: nothing is parsed for a stranger. The machine's signature is good for this relay and this
stream alone: passed on to another relay it is of another relay's name, and of other random bytes.

The binding is the SHA-256 of the relay's certificate, which the machine has from a record that the
relay's identity signed. So who stands between with another certificate has nothing to pass on. The
better binding would be TLS's exporter (RFC 9266), but Python's `ssl` does not have it, and
`tls-unique`, which it has, is not defined for TLS 1.3. Behind a web server TLS ends there, and the
binding is zeros: then the signatures say who began the stream, and the web server is trusted with
it. It could cut it off, or put noise in; what WireGuard sealed it can neither read nor forge.

Each side is a generator: it takes what is its own from the front of a buffer, and yields bytes to
send, or none when more must come.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE, is_signed
from clan.mesh.tls.frames import Port

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    from clan.mesh.identity import Key

NONCE = 32
SIGNATURE = 64
ID = 4
UNBOUND = bytes(32)
"""The binding where TLS ends at a web server."""
_MACHINE = b"clan mesh tls machine 1\0"
_RELAY = b"clan mesh tls relay 1\0"


def of_relay(
    buffer: bytearray, key: Key, binding: bytes, is_member: Callable[[bytes], bool]
) -> Generator[bytes, None, Port]:
    """Greet who called; return which machine's interface it is.

    Raises MeshError for a stranger, who is told nothing.
    """
    ours = secrets.token_bytes(NONCE)
    yield ours
    while len(buffer) < SIZE + ID + NONCE + SIGNATURE:
        yield b""
    identity, id_, theirs = _take(buffer, SIZE), _take(buffer, ID), _take(buffer, NONCE)
    signature = _take(buffer, SIGNATURE)
    if not is_member(identity):
        raise MeshError("the map does not list who called")
    said = binding + key.public + ours + identity + id_ + theirs
    if not is_signed(identity, signature, _MACHINE + said):
        raise MeshError("who called is not who it says it is")
    yield key.sign(_RELAY + said)
    return Port(identity, id_.hex())


def of_machine(
    buffer: bytearray, key: Key, id_: str, relay: bytes, binding: bytes
) -> Generator[bytes, None, Port]:
    """Greet the relay that has this identity; return it. Raises MeshError if it is another."""
    while len(buffer) < NONCE:
        yield b""
    theirs, ours = _take(buffer, NONCE), secrets.token_bytes(NONCE)
    rest = key.public + bytes.fromhex(id_) + ours
    said = binding + relay + theirs + rest
    yield rest + key.sign(_MACHINE + said)
    while len(buffer) < SIGNATURE:
        yield b""
    if not is_signed(relay, _take(buffer, SIGNATURE), _RELAY + said):
        raise MeshError("what answers there is not the relay")
    return Port(relay, "")


def _take(buffer: bytearray, size: int) -> bytes:
    taken = bytes(buffer[:size])
    del buffer[:size]
    return taken
