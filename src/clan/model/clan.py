"""The resolved clan: every tag, default and export worked out. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clan.model.exports import Exports, Networking
    from clan.model.inventory import KeyPath, Meta, Target
    from clan.model.module import Module, Settings


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine: `host_name` is its name as hosts, mDNS and the lab know it (`_` is `-`)."""

    name: str
    host_name: str
    tags: tuple[str, ...]
    description: str = ""
    target_host: Target | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleMember:
    """A machine that has a role, its settings there, and where the file says so."""

    machine: str
    settings: Settings
    key: KeyPath = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """A use of a module. `members` is role -> machine -> RoleMember, in the clan's order.

    `code` is the `package.module` or the file that the module was loaded from.
    """

    name: str
    module: Module
    code: str
    settings: Settings
    members: Mapping[str, Mapping[str, RoleMember]]
    key: KeyPath = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Clan:
    """All machines and their configuration; `exports` is by instance name."""

    directory: Path
    meta: Meta
    machines: Mapping[str, Machine]
    tags: Mapping[str, tuple[str, ...]]
    instances: Mapping[str, Instance]
    exports: Mapping[str, Exports]

    def networks(self) -> list[tuple[Instance, Networking]]:
        """List the instances that are networks, highest priority first, then by name."""
        found = [
            (self.instances[name], exports.networking)
            for name, exports in self.exports.items()
            if exports.networking is not None
        ]
        return sorted(found, key=lambda pair: (-pair[1].priority, pair[0].name))

    def full_name(self, machine: str) -> str:
        """Return the machine's name with the clan's domain: `nas.family`."""
        return f"{self.machines[machine].host_name}.{self.meta.domain}"
