"""What a WireGuard interface is, and what can be done with it, whoever makes it."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Address, IPv6Address

    from clan.mesh.agent.rtnetlink import IpNetwork


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a far end's datagrams come from and go to.

    `zone` is the index of the interface that a link-local address is on, else 0.
    """

    address: IPv4Address | IPv6Address
    port: int
    zone: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What a peer is to be told; None leaves what is set.

    `allowed` is all that it may send and be sent; without it, only a peer that is there is changed.
    `fresh` forgets the peer and its session first: it then shakes hands at the next packet,
    whenever it last tried. `keepalive` is in seconds, 0 for none.
    """

    key: bytes
    endpoint: Endpoint | None = None
    allowed: frozenset[IpNetwork] | None = None
    keepalive: int | None = None
    fresh: bool = False
    remove: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A peer as it is now; `received` and `sent` are bytes since it was made.

    `handshake` is when the last one was, in seconds of the real-time clock; 0 for never.
    """

    endpoint: Endpoint | None
    allowed: frozenset[IpNetwork]
    handshake: float
    received: int
    sent: int
    keepalive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """An interface as it is now; `key` is the fingerprint of its private key, empty without one."""

    key: str
    port: int
    mark: int
    peers: Mapping[bytes, Peer]


class Wireguard(ABC):
    """One WireGuard interface that is there."""

    def __init__(self, name: str) -> None:
        self.name = name

    @abstractmethod
    def read(self) -> Device:
        """Return how it is. Raises OSError."""

    def peer(self, key: bytes) -> Peer | None:
        """Return one of its peers as it is. Raises OSError."""
        return self.read().peers.get(key)

    @abstractmethod
    def configure(self, *, private: bytes, port: int, mark: int) -> None:
        """Set its key, UDP port and the mark of what it sends. Raises OSError.

        EADDRINUSE says that the port is taken.
        """

    @abstractmethod
    def change(self, changes: Iterable[Change]) -> None:
        """Change some peers, and touch no other. Raises OSError."""

    @abstractmethod
    def remove(self) -> None:
        """Take the interface away. Raises OSError or StepError."""


def fingerprint(private: bytes) -> str:
    """Return what tells private keys apart and gives none away: 16 hex digits.

    WireGuard fixes five bits of any key (RFC 7748, section 5), so they make no difference.
    """
    if not private:
        return ""
    fixed = bytes([private[0] & 248, *private[1:31], private[31] & 127 | 64])
    return hashlib.sha256(fixed).hexdigest()[:16]
