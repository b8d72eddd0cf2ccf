"""A way as an IPv6 address: the members that a datagram has still to go to, one after the other.

Each member of the clan has a label of 16 bits. An address of ways is a /48 of the clan's own and up
to five labels, then zeros. As a destination it says which hop is next, which after that, and last
the receiver; as a source it says where the datagram has been, the last hop first. So a machine in
the middle takes its label from the front of the one and puts it in front of the other, and the
receiver finds the way back in the source. Both are sums of the same 16-bit words: the checksum of
UDP stays right.

A datagram ends where its labels end. It cannot go round for ever, whatever anybody says.
"""

from __future__ import annotations

import functools
import hashlib
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence

MOST = 5
"""Labels of an address: four machines in the middle, and the receiver."""
HIGHEST = 0xFFFF
BITS = 48
"""Of the prefix."""
_BEFORE = BITS // 8


def prefix(clan: IPv6Network) -> IPv6Network:
    """Return where a clan's ways lie: `fd`, and 40 bits of the hash of its own prefix."""
    drawn = _hash("ways", clan.network_address.packed[:_BEFORE])[: _BEFORE - 1]
    return IPv6Network((b"\xfd" + drawn + bytes(16 - _BEFORE), BITS))


def may_be(identities: Collection[bytes]) -> bool:
    """Say whether there are so many members that two can have a third between them."""
    return len(identities) > 2  # noqa: PLR2004


def labels(identities: Iterable[bytes]) -> Mapping[bytes, int]:
    """Return each member's label, from 1 to 65535.

    It begins at a hash, and is the next one that is free: so another member that comes or goes
    hardly ever changes it. Two machines with different maps may disagree: what goes astray then
    meets no key that opens it.
    """
    return _labels(frozenset(identities))


@functools.lru_cache(maxsize=8)
def _labels(identities: frozenset[bytes]) -> Mapping[bytes, int]:
    found: dict[bytes, int] = {}
    taken: set[int] = set()
    for identity in sorted(identities, key=lambda each: _hash("label", each)):
        label = int.from_bytes(_hash("label", identity)[:8], "big") % HIGHEST
        while label + 1 in taken:
            label = (label + 1) % HIGHEST
        found[identity] = label + 1
        taken.add(label + 1)
    return found


def network(ways: IPv6Network, label: int) -> IPv6Network:
    """Return all addresses of which a member is the first hop, or the last that passed it on."""
    return IPv6Network((address(ways, [label]), 64))


def address(ways: IPv6Network, hops: Sequence[int]) -> IPv6Address:
    """Return the address of a way, by labels in the order in which it goes to them.

    Raises ValueError for none, too many, or one that there cannot be.
    """
    if not 1 <= len(hops) <= MOST or not all(1 <= each <= HIGHEST for each in hops):
        raise ValueError(f"{len(hops)} labels are no way, or one of them is none")
    words = b"".join(each.to_bytes(2, "big") for each in hops)
    return IPv6Address(ways.network_address.packed[:_BEFORE] + words.ljust(16 - _BEFORE, b"\0"))


def read(ways: IPv6Network, address: IPv6Address) -> tuple[int, ...]:
    """Return the labels of an address of ways; none if it is not one."""
    if address not in ways:
        return ()
    words = address.packed[_BEFORE:]
    found = tuple(int.from_bytes(words[at : at + 2], "big") for at in range(0, len(words), 2))
    end = found.index(0) if 0 in found else len(found)
    return () if any(found[end:]) else found[:end]


def _hash(purpose: str, data: bytes) -> bytes:
    return hashlib.sha256(f"clan mesh {purpose} 1\0".encode("ascii") + data).digest()
