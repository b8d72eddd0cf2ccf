"""What `step` is told and what it asks for: the one seam between the decisions and the world.

The agent on a machine stands on the other side of it, and in the tests a simulated network. Times
are seconds of one monotonic clock. Whoever stands there owes this much:

- every packet that has arrived is told before `now` is: silence is only what is left then;
- `Traffic` is told for a peer's first packet after five seconds without one, in either direction,
  and at most every five seconds while packets go on (an nftables set whose entries live so long);
- the actions of a step are carried out in their order.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.mesh.link import Endpoint, Link, LinkId, Uplink
    from clan.mesh.wire import Message

TRAFFIC_EVERY = 5.0
"""Seconds in which a peer's traffic is told of once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """Another machine and every link to it."""

    links: tuple[Link, ...]
    kept: bool = False
    """Whether one link to it stays open when nothing is said: a relay that holds calls for us."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Desired:
    """What the map, the settings and this machine's uplinks ask for."""

    name: str
    """This machine's."""
    peers: Mapping[str, Peer] = field(default_factory=dict)
    uplinks: Mapping[str, Uplink] = field(default_factory=dict)
    """Those that exist, by name."""
    avoid: frozenset[str] = frozenset()
    """Uplinks to be left while there is another way, such as one that is about to go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Received:
    """A message came by a link, so it was authenticated."""

    link: LinkId
    message: Message
    at: float
    size: int = 0
    """Bytes of the packet inside the link, with its IPv6 header."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Counters:
    """What WireGuard counts of a link: the answer to `ReadCounters`, or unasked."""

    link: LinkId
    received: int
    """Authenticated bytes so far."""
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UplinkChanged:
    """An uplink lost what it needs (carrier, address, default route), or has it, or has another."""

    uplink: str
    up: bool
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """A packet from or to a peer's stable address passed."""

    peer: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Called:
    """A peer asks, by whatever way, to open holes towards it: it wants to talk."""

    peer: str
    at: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed:
    """The machine slept: the clock that counts sleep jumped against the one that does not."""

    at: float


Event = Received | Counters | UplinkChanged | Traffic | Called | Resumed


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send a message inside a link."""

    link: LinkId
    message: Message
    size: int = 0
    """Bytes that the packet inside the link is to have, with its IPv6 header; 0 for no padding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetRoute:
    """Let a peer's one route point to a link, in place of the one before, atomically."""

    peer: str
    link: LinkId
    mtu: int
    """Bytes of the largest packet that the route takes; the interface itself may take more."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetEndpoint:
    """Look for the peer of a link there: open holes, and begin a handshake at once."""

    link: LinkId
    endpoint: Endpoint


@dataclass(frozen=True, slots=True, kw_only=True)
class SetKeepalive:
    """Let WireGuard itself hold a link open: an empty packet where nothing was sent for so long."""

    link: LinkId
    every: int
    """Seconds; 0 is never."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadCounters:
    """Tell what WireGuard counts of a link, now."""

    link: LinkId


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """Ask a peer, by any way that is not one of its links, to open holes towards this machine."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What was decided about a peer, and why: to be written to the journal, for people."""

    at: float
    peer: str
    what: str
    why: str


Action = Send | SetRoute | SetEndpoint | SetKeepalive | ReadCounters | Call | Decision
