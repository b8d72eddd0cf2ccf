"""A body, the key that signed it and the signature; the body is not looked at before those are.

    4 bytes   length of the body, big-endian
    32 bytes  the signer's public key
    64 bytes  Ed25519 signature of `clan mesh PURPOSE 1`, a zero byte, and the body
    …         the body

The purpose keeps what was signed as one thing from being shown as another.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.identity import Key, is_signed

if TYPE_CHECKING:
    from collections.abc import Container

HEAD = 4 + 32 + 64


@dataclass(frozen=True, slots=True)
class Signed:
    """What was signed, for what and by whom. It is not known yet whether the signature is right."""

    purpose: str
    signer: bytes
    signature: bytes
    body: bytes

    @property
    def raw(self) -> bytes:
        """All of it as bytes."""
        return len(self.body).to_bytes(4, "big") + self.signer + self.signature + self.body

    @property
    def hash(self) -> bytes:
        """What names it: SHA-256 of what was signed."""
        return hashlib.sha256(_context(self.purpose) + self.body).digest()

    def check(self, allowed: Container[bytes], what: str) -> bytes:
        """Return the body if one of those allowed signed it. Raises MeshError."""
        if self.signer not in allowed:
            raise MeshError(f"{what} is signed by somebody who may not sign it")
        if not is_signed(self.signer, self.signature, _context(self.purpose) + self.body):
            raise MeshError(f"{what} is not signed by whom it names: it was changed or damaged")
        return self.body


def named(data: bytes) -> bytes:
    """Return the key that signed bytes name; nothing of them is verified."""
    return data[4:36]


def sign(purpose: str, body: bytes, key: Key) -> Signed:
    """Sign a body."""
    return Signed(purpose, key.public, key.sign(_context(purpose) + body), body)


def split(data: bytes, purpose: str, largest: int, what: str) -> tuple[Signed, bytes]:
    """Return the first signed body and the bytes after it. Raises MeshError if it is not whole."""
    size = int.from_bytes(data[:4], "big")
    if len(data) < HEAD or size > largest or len(data) < HEAD + size:
        raise MeshError(f"{what} is not whole, or larger than {largest} bytes")
    end = HEAD + size
    return Signed(purpose, named(data), data[36:HEAD], data[HEAD:end]), data[end:]


def only(data: bytes, purpose: str, largest: int, what: str) -> Signed:
    """Return the signed body that the data are, with nothing after it. Raises MeshError."""
    signed, rest = split(data, purpose, largest, what)
    if rest:
        raise MeshError(f"{what} has something after its end")
    return signed


def _context(purpose: str) -> bytes:
    return f"clan mesh {purpose} 1\0".encode("ascii")
