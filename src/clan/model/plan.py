"""A machine's plan: all that it must have, as values that know no operating system.

Modules yield resources, `clan.plan` puts them together, and a renderer makes a generation of them.
Two plans of the same clan are equal, byte for byte. A value that does not exist yet is `Due`.
"""

from __future__ import annotations

import enum
from dataclasses import asdict, dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.exports import Var


@dataclass(frozen=True, slots=True, kw_only=True)
class Package:
    """A package of the system's own archive, by Debian's name."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StaticProgram:
    """A program that clan brings along (`clan.static`), where the machine has none as good."""

    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class File:
    """A file at an absolute path: `content` is bytes, or a secret decrypted on the machine.

    A secret lies in memory only; its path is a link to where it is.
    """

    path: str
    content: bytes | Var
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """A systemd unit by its file's name; `start` has it run, and again when `restart_on` change.

    `restart_on` are paths of files of this plan; a change of the unit itself restarts it too.
    """

    name: str
    text: str
    start: bool = True
    restart_on: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class User:
    """A system user with a group of the same name."""

    name: str
    home: str = "/nonexistent"
    groups: tuple[str, ...] = ()


class Protocol(enum.StrEnum):
    """What an opening is for."""

    TCP = "tcp"
    UDP = "udp"


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """A port that others may reach; `interface` None is any."""

    protocol: Protocol
    port: int
    interface: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarding:
    """Packets that come in by `interface` may leave by it: a router inside a network."""

    interface: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HostName:
    """Names for addresses in /etc/hosts; programs try the addresses in this order."""

    name: str
    addresses: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sysctl:
    """A kernel parameter, `net.ipv6.conf.all.forwarding`; they are set in the plan's order.

    `*` in the key stands for each interface that is there, and for `all` and `default`. With
    `instead_of` a parameter is set only where that is its value now.
    """

    key: str
    value: str
    instead_of: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardPeer:
    """The far end of a tunnel; `endpoint` (`host:port`) None is one that calls us."""

    name: str
    public_key: str
    allowed_ips: tuple[str, ...]
    endpoint: str | None = None
    keepalive: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardCarrier:
    """A controller: what goes to `subnet` goes by it, and `address` is its own there."""

    name: str
    subnet: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardListener:
    """A machine that a controller tells, at `address`, which others are dead."""

    name: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WireguardLink:
    """A WireGuard interface: `addresses` with prefix length, `private_key` a file on the machine.

    `port` None lets the kernel choose one. Where several controllers stand in for each other,
    `carriers` are those, and `listeners` whom this one tells what is dead. What a machine does
    with it is `clan.machine.wireguard`, which takes `to_json`.
    """

    name: str
    private_key: str
    addresses: tuple[str, ...]
    routes: tuple[str, ...]
    peers: tuple[WireguardPeer, ...]
    mtu: int
    port: int | None = None
    carriers: tuple[WireguardCarrier, ...] = ()
    listeners: tuple[WireguardListener, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, peers too."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownHost:
    """A machine's host key, demanded of every name and address of it by the system's ssh."""

    names: tuple[str, ...]
    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AuthorizedKey:
    """A public key that may log in as root."""

    key: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck:
    """A command that must succeed within `limit` seconds before a generation is confirmed."""

    name: str
    command: tuple[str, ...]
    limit: float = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key pair that is born on the machine, in a file that never leaves it.

    `public` says which of the pairs it has there is used; None is any, made where there is none.
    """

    path: str
    kind: str
    generator: str
    public: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class State:
    """A folder with data that is worth a backup."""

    path: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Due:
    """A value that is not there yet: what depends on it is left out until it is."""

    var: Var
    why: str


Resource = (
    Package
    | StaticProgram
    | File
    | Unit
    | User
    | Opening
    | Forwarding
    | HostName
    | Sysctl
    | WireguardLink
    | KnownHost
    | AuthorizedKey
    | HealthCheck
    | Key
    | State
    | Due
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MachinePlan:
    """All that one machine must have: instance name -> its resources there, in a fixed order."""

    machine: str
    full_name: str
    resources: Mapping[str, tuple[Resource, ...]] = field(
        default_factory=lambda: MappingProxyType({})
    )

    def all(self) -> list[Resource]:
        """List the resources of all instances."""
        return [resource for found in self.resources.values() for resource in found]
