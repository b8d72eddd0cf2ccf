"""What Tor is told: the lines of a torrc that hold for a network, and where a daemon of ours is.

The options are those of torrc(5). The same lines go to machines and to a Tor that is started for
one connection. With authorities of one's own, Tor meets no public server.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

KEYS = ("hs_ed25519_secret_key", "hs_ed25519_public_key")
"""The files of a service's folder that hold its key, as Tor calls them."""
AUTH_PRIVATE = "client_key"
AUTH_PUBLIC = "client_key.pub"
"""The files of the shared generator: X25519, in base32."""

_TESTING = (
    "TestingTorNetwork 1",
    # Of a handful of relays, one that is gone is more than Tor thinks a network can lose.
    "PathsNeededToBuildCircuits 0.67",
    "TestingClientDownloadInitialDelay 0",
    "TestingServerDownloadInitialDelay 0",
    "TestingClientConsensusDownloadInitialDelay 0",
    "TestingServerConsensusDownloadInitialDelay 0",
)


def network_lines(authorities: Sequence[str], *, testing: bool) -> tuple[str, ...]:
    """Return the lines that say which Tor network it is; none for the public one."""
    lines = tuple(f"DirAuthority {authority}" for authority in authorities)
    return (*(_TESTING if testing else ()), *lines)


def lines_of(settings: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the lines that a network's settings ask for."""
    return network_lines(settings.get("authorities", ()), testing=settings.get("testing", False))


def digest(lines: Sequence[str]) -> str:
    """Return a name for the network that the lines describe: what is kept of one is of no other."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def client_name(instance: str) -> str:
    """Name the unit, and the folder in /run, of an instance's daemon for clients."""
    return f"clan-tor-{instance}.client"


def server_name(instance: str) -> str:
    """Name the unit, and the folders in /run and /var/lib, of an instance's onion service."""
    return f"clan-tor-{instance}"


def generator(instance: str) -> str:
    """Name the generator of a server's onion service."""
    return f"tor_{instance}"


def auth_generator(instance: str) -> str:
    """Name the shared generator of the key that opens an instance's services to clients."""
    return f"tor_{instance}_auth"
