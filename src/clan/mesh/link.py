"""What the parts of the mesh call the same thing: uplinks, slots, interfaces and links.

Frozen values alone. Nothing here measures, decides or reads.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

OVERHEAD = {4: 60, 6: 80}
"""Bytes that WireGuard, UDP and IP put around a packet, by the version of IP outside."""


class Kind(enum.StrEnum):
    """What a link runs over."""

    LAN = "lan"
    """The same local network: no router in between."""
    INTERNET = "internet"
    """Whatever is between two public or translated addresses."""
    OVERLAY = "overlay"
    """Another network that both are on, such as Yggdrasil."""
    RELAY = "relay"
    """A third machine that passes sealed datagrams on."""
    TLS = "tls"
    """A stream on port 443 by way of a relay."""
    HOPS = "hops"
    """Other members that pass sealed datagrams on, each inside its own links."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Uplink:
    """One attachment of a machine to a network."""

    name: str
    """The interface's name, such as `wlan0`."""
    index: int
    """The kernel's number of that interface."""
    metered: bool = False
    """Whether bytes cost money there."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What can fail on its own, and therefore has an interface of its own."""

    uplink: str
    """The name of the uplink."""
    family: int
    """4 or 6: of the packets outside."""
    kind: Kind
    network: str = ""
    """For an overlay, this machine's address there; for a relay, which of a pair's two."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """A WireGuard interface of this machine: it carries all peers of one slot."""

    id: str
    """Eight hexadecimal digits, as in the map's records."""
    slot: Slot


@dataclass(frozen=True, slots=True, kw_only=True)
class Endpoint:
    """Where datagrams are sent."""

    host: str
    """A numeric address."""
    port: int


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class LinkId:
    """Names a link: a peer, an interface of this machine and one of the peer's."""

    peer: str
    """The peer's name."""
    own: str
    """The id of the interface here."""
    their: str
    """The id of the interface there."""

    def __str__(self) -> str:
        """Return it as the journal and `clan mesh` print it."""
        return f"{self.peer}/{self.own}-{self.their}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A link as the map and this machine's uplinks make it possible; nothing measured."""

    id: LinkId
    slot: Slot
    """Of this machine."""
    their_uplink: str = ""
    """What the peer's record calls its uplink; empty if it does not say."""
    endpoints: tuple[Endpoint, ...] = ()
    """Where the peer may be found on it, the likeliest first."""
    lifetime: float | None = None
    """Seconds that a translation or a firewall's state between the two outlives its last packet;
    None where nothing has to be held open."""
    leaving: bool = False
    """Whether one of its ends has another interface in its place already."""
    cut: bool = False
    """Whether its largest packets are sent in pieces, as the uplink takes no larger ones."""
