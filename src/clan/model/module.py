"""The module contract: what a service declares so that a clan can use it.

A module is one class, found by the entry point group `clan.modules` or as `modules/NAME.py` (or
`modules/NAME/__init__.py`, there called `module`) in the clan's own folder, and loaded only when an
instance names it. Everything it does is pure: values in, values out.
"""

from __future__ import annotations

from abc import ABC
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, ClassVar, Protocol, Self

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from clan.model.exports import Exports

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.errors import Fault
    from clan.model.clan import Clan, Instance, RoleMember
    from clan.model.exports import Var
    from clan.model.generator import Generator
    from clan.model.plan import Resource


class Settings(BaseModel):
    """Base of every settings schema: unknown keys are faults, `targetHost` is `target_host`.

    Settings are JSON values and are validated as such, strictly: `"8"` is no number, but a list
    may fill a tuple and a string an address. Schemas are built when first used. A field says
    what it is by `Field(description=…)`: pydantic can read docstrings for that, but parses the
    module's source again in each process to do so, 9 ms of a command's 150.
    """

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        alias_generator=to_camel,
        validate_by_name=True,
        validate_by_alias=True,
        strict=True,
        loc_by_alias=False,
        defer_build=True,
    )

    @classmethod
    def of(cls, holder: Instance | RoleMember) -> Self:
        """Return what an instance or a member is set to, as this schema; TypeError if another's."""
        if isinstance(holder.settings, cls):
            return holder.settings
        raise TypeError(f"settings are {type(holder.settings).__name__}, not {cls.__name__}")


@dataclass(frozen=True, slots=True)
class RefersToMachine:
    """Marks a setting whose value is a machine's name: checked, completed, renamed with it."""


@dataclass(frozen=True, slots=True)
class MayReferToMachine:
    """Marks a setting whose value may be a machine's name, or something else."""


MachineName = Annotated[str, RefersToMachine()]
MachineNameOrOther = Annotated[str, MayReferToMachine()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """A role: its settings schema and how many machines may have it (`most` None: any number)."""

    description: str
    settings: type[Settings] = Settings
    least: int = 0
    most: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Opening:
    """What others have to reach a machine by, whatever stands in front of it.

    `ports` are of `protocol`, `udp` or `tcp`; `purpose` is in a few words.
    """

    machine: str
    protocol: str
    ports: tuple[range, ...]
    purpose: str

    def __str__(self) -> str:
        """Return them as a provider's page takes them: `UDP 443, 23600-23663`."""
        listed = (f"{p.start}-{p.stop - 1}" if len(p) > 1 else str(p.start) for p in self.ports)
        return f"{self.protocol.upper()} {', '.join(listed)}"


class Values(Protocol):
    """The clan's public vars, to read."""

    def public(self, var: Var) -> str | None:
        """Return a value without its line end; None while it is not there."""


class Module(ABC):
    """A service. A network is a module whose exports hold `networking`."""

    name: ClassVar[str]
    description: ClassVar[str]
    roles: ClassVar[Mapping[str, Role]]
    settings: ClassVar[type[Settings]] = Settings
    """What holds for the whole instance: `instances.NAME.settings`."""

    def check(self, instance: Instance, clan: Clan) -> Iterable[Fault]:
        """Yield what is wrong with this use that no schema can see. `clan.exports` is empty."""
        del instance, clan
        return ()

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return what the instance gives to the rest of the clan. `clan.exports` is empty."""
        del instance, clan
        return Exports()

    def openings(self, instance: Instance, clan: Clan) -> Iterable[Opening]:
        """Yield what a firewall that no machine rules, such as a provider's, has to let in."""
        del instance, clan
        return ()

    def generators(self, instance: Instance, clan: Clan) -> Iterable[Generator]:
        """Yield how the values that this use needs are made."""
        del instance, clan
        return ()

    def plan(
        self, machine: str, role: str, instance: Instance, clan: Clan, values: Values
    ) -> Iterable[Resource]:
        """Yield what a machine with a role must have.

        `values` are the public vars; what is missing there is yielded as Due.
        """
        del machine, role, instance, clan, values
        return ()
