"""Ed25519 keys, and what follows from them: the clan's prefix, addresses for life, aliases.

Machines, admins and the root each have one pair. A private key is made where it is used and is kept
in a file of its own (0600) as one line of base64. The formulas are in docs/reference/mesh.md with
test vectors: an address that was once given out must come out the same for ever.

It makes no address that depends on a clock or a counter, and never replaces a key that is there.
"""

from __future__ import annotations

import base64
import binascii
import contextlib
import hashlib
import os
import secrets
import stat
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)

from clan.machine.layout import sync
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Collection
    from pathlib import Path

SIZE = 32
"""Bytes of a key, private or public."""
SUBNETS = 1 << 15
"""How many /64 the map can hand out."""
SMALLEST_RANGE = 29
"""The longest prefix that a range of aliases may have."""


@dataclass(frozen=True, slots=True)
class Key:
    """An Ed25519 pair (RFC 8032). What prints it shows the public half alone."""

    public: bytes
    private: Ed25519PrivateKey = field(repr=False, compare=False)

    @classmethod
    def new(cls) -> Key:
        """Make a pair."""
        return cls.of_seed(secrets.token_bytes(SIZE))

    @classmethod
    def of_seed(cls, seed: bytes) -> Key:
        """Return the pair of a private key's 32 bytes."""
        private = Ed25519PrivateKey.from_private_bytes(seed)
        return cls(private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw), private)

    @property
    def seed(self) -> bytes:
        """The private key's 32 bytes, for whoever stores them."""
        return self.private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())

    def sign(self, data: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self.private.sign(data)


def is_signed(public: bytes, signature: bytes, data: bytes) -> bool:
    """Say whether the holder of a key signed the data."""
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, data)
    except (InvalidSignature, ValueError):
        return False
    return True


def text(key: bytes) -> str:
    """Write a key as people and files do: in base64, as WireGuard's are."""
    return base64.b64encode(key).decode("ascii")


def of_text(written: str) -> bytes:
    """Read a key that `text` wrote. Raises MeshError for anything else."""
    with contextlib.suppress(binascii.Error, ValueError):
        key = base64.b64decode(written.strip(), validate=True)
        if len(key) == SIZE and text(key) == written.strip():
            return key
    raise MeshError("a key of the mesh is 32 bytes in base64, and this is not")


def born(path: Path) -> Key:
    """Return the key of a file; made, with the folder, if there is none.

    A key that is there is never replaced, also by another process that makes one now. Raises
    MeshError for a file that is no key: the address hangs on it, so that is for a person to mend.
    """
    with contextlib.suppress(FileNotFoundError):
        return read(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Key.new()
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(f"{text(made.seed)}\n".encode("ascii"))
            file.flush()
            os.fsync(file.fileno())
        # A link, not a rename: it fails where somebody was first.
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
    finally:
        draft.unlink(missing_ok=True)
    sync(path.parent)
    return read(path)


def read(path: Path) -> Key:
    """Read a key's file. Raises MeshError if others may read it or it is no key, FileNotFoundError.

    What is wrong is said without a byte of what the file holds.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        data = file.read(4096)
    if mode & 0o077:
        raise MeshError(f"{path}: this private key can be read by others; chmod 600 {path}")
    try:
        return Key.of_seed(of_text(data.decode("ascii", "replace")))
    except MeshError:
        raise MeshError(
            f"{path}: this is no private key; put back the file from a backup, or remove it: "
            "then a new one is made, and whoever has it is somebody else to the clan"
        ) from None


def prefix(first_root: bytes) -> IPv6Network:
    """Return the clan's /48: `fd`, and 40 bits of the hash of its first root's public key.

    A unique local prefix (RFC 4193, section 3.1); 40 bits of a key's hash are as good as random.
    """
    return IPv6Network((b"\xfd" + _hash("prefix", first_root)[:5] + bytes(10), 48))


def address(clan: IPv6Network, identity: bytes) -> IPv6Address:
    """Return an identity's address for life: the prefix, a bit 0, 79 bits of the hash of both."""
    tail = _hash("address", clan.network_address.packed[:6], identity)[:10]
    return IPv6Address(
        clan.network_address.packed[:6] + bytes([tail[0] & 0x7F]) + tail[1:],
    )


def subnet(clan: IPv6Network, number: int) -> IPv6Network:
    """Return the /64 with a number from 0 to 32767: the prefix, a bit 1, the number."""
    if not 0 <= number < SUBNETS:
        raise ValueError(f"there is no /64 {number}")
    third = (0x8000 | number).to_bytes(2, "big")
    return IPv6Network((clan.network_address.packed[:6] + third + bytes(8), 64))


def free_subnet(identity: bytes, taken: Collection[int]) -> int:
    """Return the number of a /64 for a machine that is not taken. Raises MeshError if all are.

    It begins at a hash, so that two admins who do not know of each other choose differently for two
    machines, and the same for one.
    """
    begin = int.from_bytes(_hash("subnet", identity)[:8], "big")
    for step in range(SUBNETS):
        number = (begin + step) % SUBNETS
        if number not in taken:
            return number
    raise MeshError("all 32768 networks of the clan are taken")


def alias_range(clan: IPv6Network) -> IPv4Network:
    """Return where a clan's IPv4 aliases lie unless it says so: a /20 in 10.64.0.0 to 10.255.0.0.

    It follows from the prefix. The lower part of 10.0.0.0/8 is what home routers give out.
    """
    chosen = int.from_bytes(_hash("alias range", clan.network_address.packed[:6])[:4], "big")
    second, third = 64 + chosen % 192, chosen // 192 % 16 * 16
    return IPv4Network((bytes([10, second, third, 0]), 20))


def alias(within: IPv4Network, identity: bytes, taken: Collection[IPv4Address]) -> IPv4Address:
    """Return an identity's IPv4 alias that is not taken. Raises MeshError if all are.

    It begins at a hash, as `free_subnet`. The first and the last address are nobody's.
    """
    if within.prefixlen > SMALLEST_RANGE:
        raise MeshError(
            f"{within} is too small for aliases: it needs a /{SMALLEST_RANGE} or larger"
        )
    usable = within.num_addresses - 2
    begin = int.from_bytes(_hash("alias", identity)[:8], "big")
    for step in range(min(usable, len(taken) + 1)):
        found = within.network_address + 1 + (begin + step) % usable
        if found not in taken:
            return found
    raise MeshError(f"all {usable} aliases in {within} are taken; give the clan a larger range")


def _hash(purpose: str, *parts: bytes) -> bytes:
    """Return SHA-256 of `clan mesh PURPOSE 1`, a zero byte and the parts, all of fixed length."""
    return hashlib.sha256(f"clan mesh {purpose} 1\0".encode("ascii") + b"".join(parts)).digest()
