"""The resolved clan: every tag, default and export worked out. Nothing here reads a file."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.model.inventory import empty

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clan.errors import Fault
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
    """A machine that has a role, its settings there, and where the file says so.

    `origins` is field name -> the key that set it, be it on the role, a tag or the machine.
    """

    machine: str
    settings: Settings
    key: KeyPath = ()
    origins: Mapping[str, KeyPath] = field(default_factory=empty)

    def where(self, setting: str) -> KeyPath:
        """Return the key that set a setting; the membership's own for one left at its default."""
        return self.origins.get(setting, self.key)


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
    origins: Mapping[str, KeyPath] = field(default_factory=empty)

    def where(self, setting: str) -> KeyPath:
        """Return the key that set a setting of the instance; its own for one left at default."""
        return self.origins.get(setting, self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Clan:
    """All machines and their configuration; `exports` is by instance name.

    `warnings` are faults that do not keep it from being used, the file's own among them.
    """

    directory: Path
    meta: Meta
    machines: Mapping[str, Machine]
    tags: Mapping[str, tuple[str, ...]]
    instances: Mapping[str, Instance]
    exports: Mapping[str, Exports]
    warnings: tuple[Fault, ...] = ()

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
