"""Encryption with age (https://age-encryption.org/v1): the only file that knows pyrage.

Recipients are `age1…` (X25519) or `ssh-ed25519 …`; identities their private halves. Ciphertext is
armoured, so that what lies in git says of itself what it is. Debian's `age` decrypts it.
"""

from __future__ import annotations

import base64
import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError

if TYPE_CHECKING:
    from collections.abc import Sequence

_SECRET = "AGE-SECRET-KEY-1"  # noqa: S105 - what each begins with
_OPENSSH = b"-----BEGIN OPENSSH PRIVATE KEY-----"
_SSH_TYPE = "ssh-ed25519"


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Private keys from one file: `publics` are their recipients."""

    path: Path
    publics: tuple[str, ...]
    keys: tuple[Any, ...] = field(repr=False)


def recipient(text: str) -> str:
    """Return a recipient as it is kept, without a comment. Raises ClanError for what is none."""
    _recipient(text)
    return " ".join(text.split()[:2]) if text.startswith(_SSH_TYPE) else text.strip()


def _recipient(text: str) -> Any:
    import pyrage

    kind = pyrage.ssh if text.startswith(_SSH_TYPE) else pyrage.x25519
    try:
        return kind.Recipient.from_str(text.strip())
    except pyrage.RecipientError as fault:
        raise ClanError(
            f"{text[:80]!r} is no key to encrypt to: {fault}",
            hint="it is `age1…`, or an SSH public key of type ssh-ed25519",
        ) from None


def encrypt(data: bytes, recipients: Sequence[str]) -> bytes:
    """Return the data as only the recipients can read it. Raises ClanError without any."""
    import pyrage

    if not recipients:
        raise ClanError("there is nobody to encrypt to")
    sealed = pyrage.encrypt(data, [_recipient(each) for each in recipients], armored=True)
    return bytes(sealed)


def decrypt(data: bytes, identity: Identity) -> bytes:
    """Return what was encrypted. Raises ClanError when it is not for this identity, or damaged."""
    import pyrage

    try:
        return bytes(pyrage.decrypt(data, list(identity.keys)))
    except pyrage.DecryptError as fault:
        raise ClanError(
            f"{identity.path} does not decrypt it: {fault}",
            hint="`clan vars keys list` shows whose keys do",
        ) from None


def new_key() -> tuple[str, str]:
    """Make an identity: return its secret line and its recipient."""
    import pyrage

    made = pyrage.x25519.Identity.generate()
    return str(made), str(made.to_public())


def read_identity(path: Path) -> Identity:
    """Read an age key file, or an ssh-ed25519 private key without passphrase.

    Raises ClanError for what is neither, or is readable by others; FileNotFoundError.
    """
    with path.open("rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        data = file.read()
    if mode & 0o077:
        raise ClanError(
            "this private key can be read by others",
            where=str(path),
            hint=f"chmod 600 {path}",
        )
    if data.startswith(_OPENSSH):
        return _read_ssh(path, data)
    return _read_age(path, data)


def identity_of(text: str) -> Identity:
    """Return the identity that a person typed. Raises ClanError for what is none."""
    return _read_age(Path("what was typed"), text.encode())


def _read_age(path: Path, data: bytes) -> Identity:
    import pyrage

    lines = [line.strip() for line in data.decode("utf-8", "replace").splitlines()]
    written = [line for line in lines if line.startswith(_SECRET)]
    try:
        keys = tuple(pyrage.x25519.Identity.from_str(line) for line in written)
    except pyrage.IdentityError:
        keys = ()
    if not keys:
        raise ClanError(
            "there is no age identity and no ssh-ed25519 private key in this file", where=str(path)
        )
    return Identity(path=path, publics=tuple(str(key.to_public()) for key in keys), keys=keys)


def _read_ssh(path: Path, data: bytes) -> Identity:
    import pyrage

    try:
        key = pyrage.ssh.Identity.from_buffer(data)
        public = _public_of(data)
    except (pyrage.IdentityError, ValueError) as fault:
        raise ClanError(
            f"this SSH key cannot be used: {fault}",
            where=str(path),
            hint="it must be of type ssh-ed25519 and have no passphrase; "
            "`clan vars keys generate` makes an age key instead",
        ) from None
    return Identity(path=path, publics=(public,), keys=(key,))


def _public_of(data: bytes) -> str:
    """Return `ssh-ed25519 AAAA…` of an OpenSSH private key, which has its public half in the clear.

    Format: openssh-portable, PROTOCOL.key: `openssh-key-v1`, a zero byte, then strings (length in
    four bytes, big-endian) ciphername, kdfname, kdfoptions; the number of keys; the public key.
    Raises ValueError for another type.
    """
    blob = base64.b64decode(b"".join(data.strip().splitlines()[1:-1]))
    rest = blob.removeprefix(b"openssh-key-v1\0")
    for _ in range(3):
        rest = rest[4 + int.from_bytes(rest[:4], "big") :]
    rest = rest[4:]
    public = rest[4 : 4 + int.from_bytes(rest[:4], "big")]
    kind = public[4 : 4 + int.from_bytes(public[:4], "big")].decode("ascii", "replace")
    if kind != _SSH_TYPE:
        raise ValueError(f"it is of type {kind}")
    return f"{kind} {base64.b64encode(public).decode()}"
