"""What members send where anybody listens: announcements, and asking for the map.

Both look like noise to whoever has no discovery secret, and are recognised by trial alone: a name
or a key in the clear would tell in every café who is there.

    announcement   24 bytes of salt, then the payload, padded and sealed (ChaCha20-Poly1305)
                   under HKDF-SHA256(the discovery secret, salt)
    request        an announcement whose payload is a new X25519 key and what map the asker
                   has, signed by the asker's identity
    answer         an X25519 key of the answerer's, then the map, sealed under
                   HKDF-SHA256(what the two keys agree on, the request's hash)

An Ed25519 identity signs but does not decrypt, so the asker signs a key that lives for one
question. Only a machine that the answerer's map lists gets an answer, and only it can read it. The
answer is not signed: the map in it is accepted for its own signature, whoever gave it.

A removed machine knows earlier secrets. So what comes under one is good for exchanging maps alone.
An announcement can be replayed, too: what it says is a candidate, never a fact.
"""

from __future__ import annotations

import secrets as random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.ciphers.aead import ChaCha20Poly1305
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from clan.mesh.chart import signed
from clan.mesh.chart.canonical import base64_of, check, decode, encode
from clan.mesh.chart.chart import HIGHEST, LARGEST, current
from clan.mesh.chart.mandate import HIGHEST_EPOCH
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE

if TYPE_CHECKING:
    from collections.abc import Container, Iterable

    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.content import Secret
    from clan.mesh.identity import Key

SALT = 24
TAG = 16
BLOCK = 128
"""Announcements are padded to multiples of it: a length can be a name, too."""
LONGEST = 8192
"""Bytes of an announcement's payload."""
PURPOSE = "request"
_REQUEST = b"\x01"
_PAYLOAD = b"\x00"


@dataclass(frozen=True, slots=True, kw_only=True)
class Heard:
    """An announcement that was recognised."""

    payload: bytes
    """Empty when it is a request for the map."""
    request: bytes
    """Empty when it is none: see `answer`."""
    is_current: bool
    """False: sealed under an earlier secret, so it counts for getting a map alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """A request for the map whose signature is right."""

    identity: bytes
    key: bytes
    """The X25519 key to seal the answer to."""
    has: tuple[int, int, bytes]
    """The order of the asker's own map (`Chart.order`); zeros and no bytes for none."""
    hash: bytes


@dataclass(frozen=True, slots=True)
class Question:
    """What an asker keeps until it is answered; nothing of it goes to a disk."""

    private: X25519PrivateKey = field(repr=False)
    hash: bytes


def announce(secret: bytes, payload: bytes) -> bytes:
    """Seal a payload under the discovery secret. Raises ValueError for too long a one."""
    return _seal(secret, _PAYLOAD + payload)


def recognise(secrets: Iterable[Secret], data: bytes, now: float) -> Heard | None:
    """Return what an announcement says; None if none of the secrets that still count opens it.

    `secrets` are a map's, the newest first; `now` is in seconds of 1970.
    """
    if not SALT + TAG + BLOCK <= len(data) <= SALT + TAG + LONGEST + BLOCK:
        return None
    for index, secret in enumerate(current(secrets, now)):
        opened = _open(secret.key, data)
        if opened is None:
            continue
        kind, rest = opened[:1], opened[1:]
        if kind not in {_PAYLOAD, _REQUEST}:
            return None
        return Heard(
            payload=rest if kind == _PAYLOAD else b"",
            request=rest if kind == _REQUEST else b"",
            is_current=index == 0,
        )
    return None


def ask(identity: Key, secret: bytes, has: Chart | None) -> tuple[Question, bytes]:
    """Ask for the map; return what to keep, and what to send to anyone who may be a member."""
    private = X25519PrivateKey.generate()
    order = has.order if has else (0, 0, b"")
    made = signed.sign(PURPOSE, encode(_value(identity.public, _public(private), order)), identity)
    return Question(private, made.hash), _seal(secret, _REQUEST + made.raw)


def read_request(request: bytes) -> Request:
    """Read a request that was recognised, and verify it. Raises MeshError."""
    what = "the request for the map"
    proof = signed.only(request, PURPOSE, 1024, what)
    body = proof.check((proof.signer,), what)
    fields = decode(body, what)
    made = Request(
        identity=fields.data("identity", SIZE, SIZE),
        key=fields.data("key", SIZE, SIZE),
        has=(
            fields.number("epoch", 0, HIGHEST_EPOCH),
            fields.number("serial", 0, HIGHEST),
            fields.data("hash", 0, SIZE),
        ),
        hash=proof.hash,
    )
    fields.end()
    check(body, _value(made.identity, made.key, made.has), what)
    if made.identity != proof.signer:
        raise MeshError(f"{what} is signed by another identity than it names")
    return made


def answer(request: Request, members: Container[bytes], chart: bytes) -> bytes | None:
    """Seal a map to whoever asked for it; None, if the answerer's map does not list them."""
    if request.identity not in members:
        return None
    private = X25519PrivateKey.generate()
    key = _agreed(private, request.key, request.hash)
    if key is None:
        return None
    # The key is for this one message, so the nonce can be the same.
    return _public(private) + ChaCha20Poly1305(key).encrypt(bytes(12), chart, None)


def open_answer(question: Question, data: bytes) -> bytes:
    """Return the map that an answer holds, not verified yet. Raises MeshError if it is none."""
    if SIZE + TAG <= len(data) <= 2 * LARGEST:
        key = _agreed(question.private, data[:SIZE], question.hash)
        if key is not None:
            try:
                return ChaCha20Poly1305(key).decrypt(bytes(12), data[SIZE:], None)
            except InvalidTag:
                pass
    raise MeshError("this is no answer to what was asked, or it was damaged")


def _value(identity: bytes, key: bytes, has: tuple[int, int, bytes]) -> dict[str, object]:
    return {
        "identity": base64_of(identity),
        "key": base64_of(key),
        "epoch": has[0],
        "serial": has[1],
        "hash": base64_of(has[2]),
    }


def _public(private: X25519PrivateKey) -> bytes:
    return private.public_key().public_bytes(Encoding.Raw, PublicFormat.Raw)


def _agreed(private: X25519PrivateKey, public: bytes, request: bytes) -> bytes | None:
    """Return the key of an answer; None for a public key that is chosen to give a known result."""
    try:
        shared = private.exchange(X25519PublicKey.from_public_bytes(public))
    except ValueError:
        return None
    return _derived(shared, request, b"clan mesh answer 1", 32)


def _derived(secret: bytes, salt: bytes, purpose: bytes, size: int) -> bytes:
    return HKDF(algorithm=SHA256(), length=size, salt=salt, info=purpose).derive(secret)


def _seal(secret: bytes, plain: bytes) -> bytes:
    if len(plain) > LONGEST:
        raise ValueError(f"an announcement of {len(plain)} bytes is too long")
    padded = plain + b"\x80" + bytes(-(len(plain) + 1) % BLOCK)
    salt = random.token_bytes(SALT)
    key, nonce = _key(secret, salt)
    return salt + ChaCha20Poly1305(key).encrypt(nonce, padded, None)


def _open(secret: bytes, data: bytes) -> bytes | None:
    key, nonce = _key(secret, data[:SALT])
    try:
        padded = ChaCha20Poly1305(key).decrypt(nonce, data[SALT:], None)
    except InvalidTag:
        return None
    plain, mark, zeros = padded.rpartition(b"\x80")
    return plain if mark and not zeros.strip(b"\0") else None


def _key(secret: bytes, salt: bytes) -> tuple[bytes, bytes]:
    derived = _derived(secret, salt, b"clan mesh announcement 1", 44)
    return derived[:32], derived[32:]
