"""What a machine puts into the DHT: under keys that only the clan can work out, and sealed. Pure.

An item's key is an Ed25519 pair of HKDF-SHA256 of the clan's discovery secret, for one machine and
one day. So nobody outside can tell that two items are of one machine, or of one clan, and after a
removal who was removed cannot either. The value is a signal of the machine's to itself, signed by
it, in an announcement. All of the clan can replace it, and then it is known to be false.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from clan.mesh import seal, signal
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE, Key
from clan.mesh.signal import Signal

if TYPE_CHECKING:
    from clan.mesh.chart.content import Secret
    from clan.mesh.signal import Place

DAY = 86400
LATE, EARLY = 7200, 600
"""Seconds after midnight UTC in which yesterday's items still are looked at, and before, in which
tomorrow's already are: what was put lasts for two hours, and clocks differ."""
LONGEST = 936
"""Bytes of a value: BEP 44 has 1000, and announcements go up by 128."""
_PLAIN = LONGEST - seal.SALT - seal.TAG - 2


def item(secret: bytes, identity: bytes, day: int) -> Key:
    """Return the pair under which a machine's item is, on a day counted from 1970."""
    salt = identity + day.to_bytes(4, "big")
    return Key.of_seed(
        HKDF(algorithm=SHA256(), length=SIZE, salt=salt, info=b"clan mesh dht 1").derive(secret)
    )


def days(now: float) -> tuple[int, ...]:
    """Return the days whose items are looked at now, in seconds of 1970."""
    return tuple(sorted({int(at // DAY) for at in (now - LATE, now, now + EARLY)}))


def write(secret: bytes, key: Key, number: int, places: tuple[Place, ...]) -> bytes:
    """Say where a machine may be found; places that do not go in are left out."""
    said = Signal(sender=key.public, to=key.public, number=number, answers=True, places=places)
    return seal.announce(secret, signal.write(said, key, longest=_PLAIN))


def read(secret: Secret, identity: bytes, value: bytes, now: float) -> Signal:
    """Read what a machine says; `now` is in seconds of 1970. Raises MeshError."""
    opened = seal.recognise((secret,), value, now)
    said = None if opened is None else signal.read(opened.payload)
    if said is None or (said.sender, said.to) != (identity, identity):
        raise MeshError("an item of the DHT is not what its machine put there")
    return said
