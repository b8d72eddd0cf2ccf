"""The inventory: what the clan's file says, in one shape whatever language it is written in.

It owns the names and nothing else: no defaults of modules, no tags resolved, nothing checked
against anything. `clan.inventory.load` makes it, `clan.inventory.resolve` turns it into a Clan.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from clan.errors import Fault

KeyPath = tuple[str | int, ...]
EMPTY: Mapping[str, Any] = MappingProxyType({})


def empty() -> Mapping[str, Any]:
    """Return the shared empty mapping; Python 3.11 takes no mapping proxy as a plain default."""
    return EMPTY


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where an inventory was read: the file, its language, and the bytes as they were read."""

    path: Path
    language: str
    text: bytes = field(repr=False)

    @property
    def directory(self) -> Path:
        """The clan's folder."""
        return self.path.parent


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What the clan is called; `domain` is what follows the dot in `nas.family`."""

    name: str
    description: str = ""
    domain: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """An address a person wrote: `[user@]host[:port]`, IPv6 in brackets."""

    host: str
    port: int | None = None
    user: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        user = f"{self.user}@" if self.user else ""
        return f"{user}{host}:{self.port}" if self.port else f"{user}{host}"


@dataclass(frozen=True, slots=True, kw_only=True)
class MachineEntry:
    """One machine as the file describes it."""

    name: str
    tags: tuple[str, ...] = ()
    description: str = ""
    target_host: Target | None = None
    key: KeyPath = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class RoleEntry:
    """Who has a role, and the settings at each of the three levels (role < tag < machine)."""

    settings: Mapping[str, Any] = field(default_factory=empty)
    tags: Mapping[str, Mapping[str, Any]] = field(default_factory=empty)
    machines: Mapping[str, Mapping[str, Any]] = field(default_factory=empty)
    settings_key: KeyPath = ()
    tag_keys: Mapping[str, KeyPath] = field(default_factory=empty)
    machine_keys: Mapping[str, KeyPath] = field(default_factory=empty)
    key: KeyPath = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class InstanceEntry:
    """One use of a module: `settings` hold for the whole instance."""

    name: str
    module: str
    module_input: str | None = None
    settings: Mapping[str, Any] = field(default_factory=empty)
    roles: Mapping[str, RoleEntry] = field(default_factory=empty)
    settings_key: KeyPath = ()
    module_key: KeyPath = ()
    key: KeyPath = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inventory:
    """The clan's file. `warnings` are faults that do not keep it from being used."""

    source: Source
    meta: Meta
    machines: Mapping[str, MachineEntry]
    instances: Mapping[str, InstanceEntry]
    warnings: tuple[Fault, ...] = ()
