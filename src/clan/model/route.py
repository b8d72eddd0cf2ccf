"""A route: one way to open a stream to a machine, as the inventory gives it."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from clan.model.exports import SSH_PORT, Host, Var, host_to_json

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One network's way to one machine.

    `technology` is an import reference (`package.module:Class` or `/file.py:Class`); `settings`
    is the network's, as JSON values.
    """

    machine: str
    network: str
    module: str
    technology: str
    priority: int
    hosts: tuple[Host, ...]
    port: int = SSH_PORT
    user: str | None = None
    jump_hosts: tuple[str, ...] = ()
    ssh_options: tuple[str, ...] = ()
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Return the route as JSON values; `from_json` reads it back."""
        return {
            "machine": self.machine,
            "network": self.network,
            "module": self.module,
            "technology": self.technology,
            "priority": self.priority,
            "hosts": [host_to_json(host) for host in self.hosts],
            "port": self.port,
            "user": self.user,
            "jump_hosts": list(self.jump_hosts),
            "ssh_options": list(self.ssh_options),
            "settings": dict(self.settings),
        }

    @classmethod
    def from_json(cls, shape: Mapping[str, Any]) -> Route:
        """Read what `to_json` wrote."""
        hosts = tuple(
            Var(**host["var"]) if "var" in host else host["plain"] for host in shape["hosts"]
        )
        return cls(
            machine=shape["machine"],
            network=shape["network"],
            module=shape["module"],
            technology=shape["technology"],
            priority=shape["priority"],
            hosts=hosts,
            port=shape["port"],
            user=shape["user"],
            jump_hosts=tuple(shape["jump_hosts"]),
            ssh_options=tuple(shape["ssh_options"]),
            settings=shape["settings"],
        )
