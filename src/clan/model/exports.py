"""What an instance gives to the rest of the clan; a network is an instance exporting `networking`.

`to_json` gives the shape that `clan select clan.exports…` prints.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

SSH_PORT = 22


@dataclass(frozen=True, slots=True, kw_only=True)
class Var:
    """A reference to a generated value; `machine` is None for a value the clan shares."""

    machine: str | None
    generator: str
    file: str

    def to_json(self) -> dict[str, Any]:
        """Return `{machine, generator, file}`."""
        return {"machine": self.machine, "generator": self.generator, "file": self.file}


Host = str | Var
"""Where a peer is found: a name or address in the clear, or a var revealed when it is needed."""


def host_to_json(host: Host) -> dict[str, Any]:
    """Return `{"plain": …}` or `{"var": {machine, generator, file}}`."""
    return {"var": host.to_json()} if isinstance(host, Var) else {"plain": host}


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A machine on a network and how it is addressed there.

    `hosts` are tried together, `port` is where its sshd is found on this network, `jump_hosts`
    lead there in order (`[user@]host[:port]` or a machine's name), `ssh_options` are further
    arguments for `ssh`.
    """

    name: str
    hosts: tuple[Host, ...]
    port: int = SSH_PORT
    user: str | None = None
    jump_hosts: tuple[str, ...] = ()
    ssh_options: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the seed's three keys, and of the others those that are not the usual ones."""
        jumps = ["-J", ",".join(self.jump_hosts)] if self.jump_hosts else []
        shape: dict[str, Any] = {
            "name": self.name,
            "SSHOptions": [*jumps, *self.ssh_options],
            "host": host_to_json(self.hosts[0]),
        }
        if len(self.hosts) > 1:
            shape["hosts"] = [host_to_json(host) for host in self.hosts]
        if self.port != SSH_PORT:
            shape["port"] = self.port
        if self.user is not None:
            shape["user"] = self.user
        if self.jump_hosts:
            shape["jumpHosts"] = list(self.jump_hosts)
        return shape


@dataclass(frozen=True, slots=True, kw_only=True)
class Networking:
    """A network: higher `priority` is tried first.

    `technology` names the NetworkTechnology as `package.module:Class` (a module in the clan's own
    folder writes `:Class`, of its own file), so that it is imported only when it is used.
    `settings` is what that technology needs to know of the instance, as JSON values.
    """

    priority: int
    technology: str
    peers: Mapping[str, Peer]
    settings: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))

    def to_json(self) -> dict[str, Any]:
        """Return `{priority, peers}` in the seed's shape, and the rest that can be selected."""
        return {
            "priority": self.priority,
            "technology": self.technology,
            "peers": {name: peer.to_json() for name, peer in self.peers.items()},
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Exports:
    """What one instance exports."""

    networking: Networking | None = None

    def to_json(self) -> dict[str, Any]:
        """Return only what is exported."""
        return {} if self.networking is None else {"networking": self.networking.to_json()}
