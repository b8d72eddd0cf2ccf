"""Onion services' keys, names and files, as Tor reads them.

Formulas and formats are those of Tor's specifications: rend-spec-v3 (sections "Encoding onion
addresses", "Client authorization" and "Appendix F: hidden service directory format") and RFC 8032
for Ed25519. This file makes keys and text; it reads no file and starts no Tor.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

_SECRET_TAG = b"== ed25519v1-secret: type0 ==".ljust(32, b"\0")
_PUBLIC_TAG = b"== ed25519v1-public: type0 ==".ljust(32, b"\0")
_VERSION = b"\x03"
_NAME = re.compile(r"[a-z2-7]{56}\.onion")


@dataclass(frozen=True, slots=True, kw_only=True)
class Service:
    """An onion service: its name, and the two files of its folder that hold its key."""

    hostname: str
    secret_key: bytes
    public_key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientKey:
    """A key pair that opens services to clients: X25519, in base32 in capitals without padding."""

    private: str
    public: str


def service(seed: bytes) -> Service:
    """Return the onion service of a 32-byte Ed25519 seed (RFC 8032, section 5.1.5).

    Tor keeps the seed's expanded form: the SHA-512 of it, its first half clamped.
    """
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    public = Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()
    expanded = bytearray(hashlib.sha512(seed).digest())
    expanded[0] &= 248
    expanded[31] &= 63
    expanded[31] |= 64
    return Service(
        hostname=address(public),
        secret_key=_SECRET_TAG + bytes(expanded),
        public_key=_PUBLIC_TAG + public,
    )


def address(public_key: bytes) -> str:
    """Return the name of the service with a 32-byte Ed25519 public key.

    `base32(PUBKEY | CHECKSUM | VERSION) + ".onion"`, where CHECKSUM is the first two bytes of
    `SHA3-256(".onion checksum" | PUBKEY | VERSION)` and VERSION is 3.
    """
    checksum = hashlib.sha3_256(b".onion checksum" + public_key + _VERSION).digest()[:2]
    return base64.b32encode(public_key + checksum + _VERSION).decode().lower() + ".onion"


def is_address(name: str) -> bool:
    """Say whether a name is that of an onion service, its checksum and version right."""
    if not _NAME.fullmatch(name):
        return False
    return address(base64.b32decode(name[:56].upper())[:32]) == name


def client_key(private: bytes) -> ClientKey:
    """Return the key pair of a 32-byte X25519 private key."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    public = X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()
    return ClientKey(private=_base32(private), public=_base32(public))


def service_auth(public: str) -> str:
    """Return the text of a service's `authorized_clients/NAME.auth` that lets a client in."""
    return f"descriptor:x25519:{public}\n"


def client_auth(hostname: str, private: str) -> str:
    """Return the text of a client's `NAME.auth_private` for one service (ClientOnionAuthDir)."""
    return f"{hostname.removesuffix('.onion')}:descriptor:x25519:{private}\n"


def as_base64(private: str) -> str:
    """Write a client's private key for Tor's control port, which takes base64 (control-spec)."""
    return base64.b64encode(base64.b32decode(private + "=" * (-len(private) % 8))).decode()


def _base32(key: bytes) -> str:
    return base64.b32encode(key).decode().rstrip("=")
