"""What a lab is to be, as values: sites and their routers, machines and their places.

`clan.lab.schema` reads these from lab.toml and `clan.lab.topology` makes a network of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address, IPv4Network, IPv6Address

ADMIN = "admin"
"""The admin's own computer: a place like a machine's, so no machine may have this name."""


class Nat(StrEnum):
    """What a router does to the source address of what leaves its site."""

    NONE = "none"
    """Nothing: the site's addresses are public."""
    FULL_CONE = "full-cone"
    """One public port for a port inside, and anyone may send to it."""
    MASQUERADE = "masquerade"
    """One public port for a port inside; only who was sent something may answer."""
    SYMMETRIC = "symmetric"
    """Another public port for every destination."""
    CGNAT = "cgnat"
    """Masquerade twice: the home router's, and the provider's."""


class LetsOut(StrEnum):
    """What a router passes from its site to the internet. Answers always come back."""

    ALL = "all"
    NO_UDP = "no-udp"
    TCP_443 = "tcp-443"


class Families(StrEnum):
    """The versions of IP that a site has."""

    V4 = "4"
    V6 = "6"
    BOTH = "both"


class Mdns(StrEnum):
    """What answers for NAME.local on a machine."""

    AVAHI = "avahi"
    RESOLVED = "resolved"
    OFF = "off"


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward:
    """A port of a router that leads to a machine behind it: `tcp 2222 nas 22` in lab.toml."""

    protocol: str
    port: int
    machine: str
    to_port: int

    def __str__(self) -> str:
        return f"{self.protocol} {self.port} {self.machine} {self.to_port}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Router:
    """The way from a site to the internet.

    `delay` is in seconds and `loss` a share of packets, both each way; `rate` is in bits per
    second each way, None for as fast as the computer is.
    """

    nat: Nat = Nat.MASQUERADE
    lets_out: LetsOut = LetsOut.ALL
    delay: float = 0.0
    loss: float = 0.0
    rate: int | None = None
    forward: tuple[Forward, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A LAN behind a router. `lan` None lets the lab choose the range."""

    router: Router = field(default_factory=Router)
    ip: Families = Families.BOTH
    lan: IPv4Network | None = None

    @property
    def has_v4(self) -> bool:
        """Whether the site speaks IPv4."""
        return self.ip is not Families.V6

    @property
    def has_v6(self) -> bool:
        """Whether the site speaks IPv6."""
        return self.ip is not Families.V4


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine's place. `clan` puts the computer's own `clan` on it; `address` fixes its IPv4.

    `debian` is the release of the system that it runs.
    """

    site: str
    mdns: Mdns = Mdns.AVAHI
    clan: bool = False
    address: IPv4Address | None = None
    debian: int = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class LabConfig:
    """A lab as its file describes it, every name in it known to exist."""

    sites: Mapping[str, Site]
    machines: Mapping[str, Machine]
    admin: str
    """The site at which the admin's computer is."""
    names: Mapping[str, str | IPv4Address | IPv6Address] = field(default_factory=dict)
    """Name in the lab's DNS -> machine, or a literal address."""
    tor: bool = False
    """Whether its internet has a Tor network."""


def host_name(machine: str) -> str:
    """Return the name a machine calls itself: DNS labels hold no underscore."""
    return machine.replace("_", "-").lower()
