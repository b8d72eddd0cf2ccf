"""The resolved clan as the tree of values that `clan select` selects from.

It owns the names and the nesting that users see; docs/reference/select.md describes them. A branch
works its elements out when they are asked for, so that one machine of ten thousand costs one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from clan.model.clan import Clan, Instance, Machine, RoleMember
    from clan.model.inventory import Meta
    from clan.model.module import Settings

T = TypeVar("T")


class Branch(Mapping[str, Any]):
    """A mapping whose values are made of another mapping's, each when it is asked for."""

    __slots__ = ("shape", "source")

    def __init__(self, source: Mapping[str, T], shape: Callable[[T], Any]) -> None:
        self.source: Mapping[str, Any] = source
        self.shape = shape

    def __getitem__(self, key: str) -> Any:
        return self.shape(self.source[key])

    def __iter__(self) -> Iterator[str]:
        return iter(self.source)

    def __len__(self) -> int:
        return len(self.source)


def record(**parts: Callable[[], Any]) -> Branch:
    """Return a branch with these keys, whose values are worked out by calling them."""
    return Branch(parts, lambda make: make())


def selectable(clan: Clan) -> Mapping[str, Any]:
    """Return `{"clan": …}`: every part of the clan, settings with their defaults included."""
    return record(
        clan=lambda: record(
            meta=lambda: meta(clan.meta),
            machines=lambda: Branch(clan.machines, machine),
            tags=lambda: clan.tags,
            instances=lambda: Branch(clan.instances, instance),
            exports=lambda: record(
                instances=lambda: Branch(clan.exports, lambda exports: exports.to_json())
            ),
        )
    )


def meta(value: Meta) -> dict[str, Any]:
    """Return what the clan is called."""
    return {"name": value.name, "description": value.description, "domain": value.domain}


def machine(value: Machine) -> dict[str, Any]:
    """Return one machine; `deploy.targetHost` is null where none is given."""
    target = None if value.target_host is None else str(value.target_host)
    return {
        "name": value.name,
        "hostName": value.host_name,
        "tags": value.tags,
        "description": value.description,
        "deploy": {"targetHost": target},
    }


def instance(value: Instance) -> Branch:
    """Return one use of a module: its settings and roles, defaults included."""
    return record(
        module=lambda: {
            "name": value.module.name,
            "description": value.module.description,
            "code": value.code,
        },
        settings=lambda: settings(value.settings),
        roles=lambda: Branch(value.members, role),
    )


def role(members: Mapping[str, RoleMember]) -> dict[str, Any]:
    """Return who has a role."""
    return {
        "machines": Branch(members, lambda member: {"settings": settings(member.settings)}),
    }


def settings(value: Settings) -> dict[str, Any]:
    """Return settings as the clan's file spells them."""
    return value.model_dump(mode="json", by_alias=True)
