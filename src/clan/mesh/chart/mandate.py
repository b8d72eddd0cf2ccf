"""Who may sign maps: the root, its epochs, and the admins that it or they list. A chain of proof.

    epoch 1 ◀── epoch 2 ◀── epoch 3          begun by the root of the epoch before
                               ◀── admins 1 ◀── admins 2    listed by an admin of the list before

Each link is signed; the first by the clan's first root, which is all that a machine has to know. A
map carries its chain, so a machine that slept for a year verifies it as any other does, whoever
became an admin meanwhile. A new epoch forgets the lists before it, so the chain stays short.

The root need not sign maps: it begins epochs, each a few hundred bytes, and stays offline.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.mesh.chart import signed
from clan.mesh.chart.canonical import base64_of, bytes_of, check, decode, encode, row
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE, Key, is_signed

if TYPE_CHECKING:
    from collections.abc import Sequence

PURPOSE = "mandate"
LARGEST = 8192
"""Bytes of a mandate's body."""
MOST_ADMINS = 32
MOST_EPOCHS = 256
MOST_LISTS = 256
"""How often the admins can change within an epoch."""
HIGHEST_EPOCH = (1 << 32) - 1
_NONE = bytes(32)
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._@+-]{0,62}[A-Za-z0-9])?")


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Admin:
    """Somebody who may sign maps: what people call them, and their Ed25519 key."""

    name: str
    key: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Mandate:
    """One link of the chain: from here on these may sign."""

    epoch: int
    number: int
    """0 begins an epoch; each list of admins after it is one more."""
    root: bytes
    admins: tuple[Admin, ...]
    """By name."""
    before: bytes
    """Hash of the mandate that this one follows in the chain; zeros for the first."""
    consent: bytes = b""
    """A new root's signature of its own appointment; empty where the root stays."""
    proof: signed.Signed

    @property
    def hash(self) -> bytes:
        """What names it."""
        return self.proof.hash

    @property
    def signers(self) -> frozenset[bytes]:
        """Keys that may sign maps, and the next list."""
        return frozenset({self.root, *(admin.key for admin in self.admins)})


@dataclass(frozen=True, slots=True)
class Chain:
    """A verified chain: the beginning of each epoch, then the lists of the last one."""

    mandates: tuple[Mandate, ...]

    @property
    def last(self) -> Mandate:
        """What holds at its end."""
        return self.mandates[-1]

    @property
    def first_root(self) -> bytes:
        """The key that the clan's prefix comes from."""
        return self.mandates[0].root

    @property
    def epoch(self) -> int:
        """The epoch that it leads to."""
        return self.last.epoch

    @property
    def of_epoch(self) -> tuple[Mandate, ...]:
        """The mandates of that epoch."""
        return tuple(each for each in self.mandates if each.epoch == self.epoch)

    @property
    def removed(self) -> frozenset[bytes]:
        """Keys of those who were admins in this epoch, and are none at its end."""
        listed = {admin.key for each in self.of_epoch for admin in each.admins}
        return frozenset(listed - self.last.signers)

    def extends(self, other: Chain) -> bool:
        """Say whether the other one is this one's beginning, or all of it."""
        return self.mandates[: len(other.mandates)] == other.mandates

    def signers_since(self, other: Chain) -> frozenset[bytes]:
        """Return who signed this chain's mandates that the other has not."""
        known = {each.hash for each in other.mandates}
        return frozenset(each.proof.signer for each in self.mandates if each.hash not in known)

    def name(self, key: bytes) -> str:
        """Return what people call a signer."""
        if key in {each.root for each in self.mandates}:
            return "the root"
        for each in reversed(self.mandates):
            for admin in each.admins:
                if admin.key == key:
                    return admin.name
        return f"the key {base64_of(key)}"

    @property
    def raw(self) -> bytes:
        """The chain as bytes: how many, in two bytes, and each."""
        count = len(self.mandates).to_bytes(2, "big")
        return count + b"".join(each.proof.raw for each in self.mandates)


def found(root: Key, admins: Sequence[Admin]) -> Chain:
    """Begin a clan's first epoch with its first root. Raises MeshError for faulty admins."""
    return _after(
        None, _draft(epoch=1, number=0, root=root.public, admins=admins, before=_NONE), root
    )


def begin_epoch(
    chain: Chain, root: Key, admins: Sequence[Admin], new_root: Key | None = None
) -> Chain:
    """Begin the next epoch, as only the root can; the clan keeps its prefix under a new root too.

    Raises MeshError if `root` is not the chain's, or the admins are faulty.
    """
    start = chain.of_epoch[0]
    epoch = start.epoch + 1
    consent = b""
    if new_root is not None:
        consent = new_root.sign(_appointment(epoch, start.hash, new_root.public))
    draft = _draft(
        epoch=epoch,
        number=0,
        root=(new_root or root).public,
        admins=admins,
        before=start.hash,
        consent=consent,
    )
    epochs = tuple(each for each in chain.mandates if each.number == 0)
    return _after(Chain(epochs), draft, root)


def list_admins(chain: Chain, admins: Sequence[Admin], by: Key) -> Chain:
    """List the admins anew, as an admin or the root. Raises MeshError if `by` is neither."""
    last = chain.last
    draft = _draft(
        epoch=last.epoch,
        number=last.number + 1,
        root=last.root,
        admins=admins,
        before=last.hash,
    )
    return _after(chain, draft, by)


def read(data: bytes, first_root: bytes, known: Chain | None = None) -> tuple[Chain, bytes]:
    """Read and verify a chain from the first root; return it and the bytes after it.

    What begins as `known` does is not verified again. Raises MeshError.
    """
    count, rest = int.from_bytes(data[:2], "big"), data[2:]
    if not 1 <= count <= MOST_EPOCHS + MOST_LISTS:
        raise MeshError("a map's chain of mandates has none, or too many")
    mandates: tuple[Mandate, ...] = ()
    remembered = known.mandates if known and known.first_root == first_root else ()
    for index in range(count):
        proof, rest = signed.split(rest, PURPOSE, LARGEST, "a mandate")
        if index < len(remembered) and remembered[index].proof == proof:
            mandates = remembered[: index + 1]
        else:
            remembered = ()
            mandates = (*mandates, _follow(mandates, proof, first_root))
    return Chain(mandates), rest


def _draft(**fields: Any) -> Mandate:
    fields["admins"] = tuple(sorted(fields["admins"]))
    return Mandate(**fields, proof=signed.Signed(PURPOSE, b"", b"", b""))


def _after(chain: Chain | None, draft: Mandate, key: Key) -> Chain:
    """Sign a mandate and read it as every machine will."""
    before = chain.mandates if chain else ()
    proof = signed.sign(PURPOSE, encode(_value(draft)), key)
    first_root = before[0].root if before else draft.root
    return Chain((*before, _follow(before, proof, first_root)))


def _follow(before: tuple[Mandate, ...], proof: signed.Signed, first_root: bytes) -> Mandate:
    """Verify a mandate as the next of a chain."""
    what = f"mandate {len(before) + 1} of the chain"
    last = before[-1] if before else None
    proof.check(last.signers if last else {first_root}, what)
    mandate = _read(proof, what)
    if last is None:
        fits = (mandate.epoch, mandate.number, mandate.before) == (1, 0, _NONE)
        fits = fits and mandate.root == first_root
    elif mandate.number == 0:
        fits = (
            last.number == 0
            and mandate.epoch > last.epoch
            and proof.signer == last.root
            and mandate.before == last.hash
        )
    else:
        fits = (
            mandate.epoch == last.epoch
            and mandate.number == last.number + 1
            and mandate.root == last.root
            and mandate.before == last.hash
        )
    if not fits:
        raise MeshError(f"{what} does not follow from the one before")
    _check_consent(mandate, last, what)
    epochs = sum(each.number == 0 for each in before)
    if mandate.number > MOST_LISTS or (mandate.number == 0 and epochs >= MOST_EPOCHS):
        raise MeshError("the chain of mandates is full; only the root's next epoch goes on from it")
    return mandate


def _check_consent(mandate: Mandate, last: Mandate | None, what: str) -> None:
    """Refuse a new root that nobody holds: it signs that it takes over. Raises MeshError."""
    stays = last is None or mandate.root == last.root
    appointment = _appointment(mandate.epoch, mandate.before, mandate.root)
    if stays != (not mandate.consent) or not (
        stays or is_signed(mandate.root, mandate.consent, appointment)
    ):
        raise MeshError(f"{what} names a new root that has not signed")


def _appointment(epoch: int, before: bytes, root: bytes) -> bytes:
    return b"clan mesh root 1\0" + epoch.to_bytes(4, "big") + before + root


def _read(proof: signed.Signed, what: str) -> Mandate:
    fields = decode(proof.body, what)
    admins = []
    for value in fields.several("admins", MOST_ADMINS):
        name, key = row(value, (str, str), what)
        admins.append(Admin(name=name, key=bytes_of(key, SIZE, SIZE, what)))
    mandate = Mandate(
        epoch=fields.number("epoch", 1, HIGHEST_EPOCH),
        number=fields.number("number", 0, MOST_LISTS),
        root=fields.data("root", SIZE, SIZE),
        admins=tuple(admins),
        before=fields.data("before", SIZE, SIZE),
        consent=fields.data("consent", 0, 64),
        proof=proof,
    )
    fields.end()
    check(proof.body, _value(mandate), what)
    names = [admin.name for admin in admins]
    keys = [admin.key for admin in admins]
    if names != sorted(set(names)) or len(keys) != len(set(keys)) or mandate.root in keys:
        raise MeshError(f"{what}: an admin is there twice, or not in order, or is the root")
    for name in names:
        if not _NAME.fullmatch(name):
            raise MeshError(f"{what}: {name[:80]!r} is no name of an admin")
    return mandate


def _value(mandate: Mandate) -> dict[str, Any]:
    return {
        "epoch": mandate.epoch,
        "number": mandate.number,
        "root": base64_of(mandate.root),
        "admins": [[admin.name, base64_of(admin.key)] for admin in mandate.admins],
        "before": base64_of(mandate.before),
        "consent": base64_of(mandate.consent),
    }
