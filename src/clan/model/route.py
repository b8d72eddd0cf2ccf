"""A route: one way to open a stream to a machine, as the inventory gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from clan.model.exports import SSH_PORT, Host, Var, host_to_json
from clan.model.inventory import Target

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Jump:
    """A host that leads on to others: a machine of the clan, or any ssh server."""

    target: Target
    machine: str | None = None
    """Its name with the clan's domain (`vps.family`) where it is one of the clan's machines."""

    def __str__(self) -> str:
        return self.machine or str(self.target)

    def to_json(self) -> dict[str, Any]:
        """Return the jump as JSON values; `from_json` reads it back."""
        target = {"host": self.target.host, "port": self.target.port, "user": self.target.user}
        return {"target": target, "machine": self.machine}

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Jump:
        """Read what `to_json` wrote."""
        return cls(target=Target(**shape["target"]), machine=shape["machine"])


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """An instance that exports `networking`, as reaching machines needs it.

    `technology` is an import reference (`package.module:Class` or `/file.py:Class`); `settings`
    are what the technology is told of the instance, as JSON values.
    """

    name: str
    module: str
    technology: str
    priority: int
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Return the network as JSON values; `from_json` reads it back."""
        return {
            "name": self.name,
            "module": self.module,
            "technology": self.technology,
            "priority": self.priority,
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Network:
        """Read what `to_json` wrote."""
        return cls(**shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One network's way to one machine."""

    machine: str
    network: Network
    hosts: tuple[Host, ...]
    port: int = SSH_PORT
    user: str | None = None
    jumps: tuple[Jump, ...] = ()
    ssh_options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the route as JSON values; `from_json` reads it back."""
        return {
            "machine": self.machine,
            "network": self.network.to_json(),
            "hosts": [host_to_json(host) for host in self.hosts],
            "port": self.port,
            "user": self.user,
            "jumps": [jump.to_json() for jump in self.jumps],
            "ssh_options": list(self.ssh_options),
        }

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Route:
        """Read what `to_json` wrote."""
        hosts = (Var(**host["var"]) if "var" in host else host["plain"] for host in shape["hosts"])
        return cls(
            machine=shape["machine"],
            network=Network.from_json(shape["network"]),
            hosts=tuple(hosts),
            port=shape["port"],
            user=shape["user"],
            jumps=tuple(Jump.from_json(jump) for jump in shape["jumps"]),
            ssh_options=tuple(shape["ssh_options"]),
        )
