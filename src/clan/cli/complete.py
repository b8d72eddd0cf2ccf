"""Names for the shell to complete: machines, tags and instances from the file, modules by name.

A key press may not wait, so nothing is resolved or checked here: names are taken from the file as
it is, and a file with faults completes what can be read of it. A clan.nix is a program and would
have to be evaluated; it completes nothing.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError
from clan.inventory.find import find_clan

if TYPE_CHECKING:
    from collections.abc import Iterator

    import click

BUILT_IN_TAGS = ("all",)


def machine_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a machine's name, also after `user@`."""
    del param
    user, at, start = incomplete.rpartition("@")
    return [user + at + name for name in _keys(ctx, "machines") if name.startswith(start)]


def instance_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete an instance's name."""
    del param
    return [name for name in _keys(ctx, "instances") if name.startswith(incomplete)]


def mesh_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of an instance of the module mesh, which is its own where it says none."""
    del param
    found = [
        name
        for instances in _tables(ctx, "instances")
        for name, instance in instances.items()
        if _module(name, instance) == "mesh"
    ]
    return [name for name in found if name.startswith(incomplete)]


def tag_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete a tag that some machine has."""
    del param
    return [tag for tag in _tags(ctx) if tag.startswith(incomplete)]


def module_names(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the name of an installed module, or of one in the clan's folder."""
    del param
    # Not by the registry: it can load modules too, and that takes pydantic.
    from importlib.metadata import entry_points

    found = {point.name for point in entry_points(group="clan.modules")}
    path = _clan_file(ctx)
    if path is not None:
        own = path.parent / "modules"
        found |= {file.stem for file in own.glob("*.py")}
        found |= {file.parent.name for file in own.glob("*/__init__.py")}
    return sorted(name for name in found if name.startswith(incomplete))


def var_ids(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the id of a var that is kept; what is only declared takes modules to know."""
    del param
    path = _clan_file(ctx)
    if path is None:
        return []
    from clan.vars.store import PER_MACHINE, Store

    folder = Store.of(path.parent, os.environ).folder
    found = [*folder.glob("shared/*/*/*"), *folder.glob(f"{PER_MACHINE}/*/*/*/*")]
    ids = {file.parent.relative_to(folder).as_posix() for file in found}
    names = sorted(id_.removeprefix(f"{PER_MACHINE}/") for id_ in ids)
    return [name for name in names if name.startswith(incomplete)]


def memberships(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:
    """Complete the part of `ROLE:MACHINE` or `ROLE:tag=TAG` after the role."""
    del param
    role, colon, rest = incomplete.partition(":")
    if not colon:
        return []
    offered = [*_keys(ctx, "machines"), *(f"tag={tag}" for tag in _tags(ctx))]
    return [f"{role}:{name}" for name in offered if name.startswith(rest)]


def _module(name: str, instance: Any) -> Any:
    module = instance.get("module") if isinstance(instance, dict) else None
    return module.get("name", name) if isinstance(module, dict) else name


def _tags(ctx: click.Context) -> list[str]:
    tags = dict.fromkeys(BUILT_IN_TAGS)
    for machines in _tables(ctx, "machines"):
        for machine in machines.values():
            found = machine.get("tags") if isinstance(machine, dict) else None
            tags |= dict.fromkeys(tag for tag in found or () if isinstance(tag, str))
    return list(tags)


def _keys(ctx: click.Context, section: str) -> list[str]:
    return [name for found in _tables(ctx, section) for name in found]


def _tables(ctx: click.Context, section: str) -> Iterator[dict[str, Any]]:
    """Yield the tables of this name, at the top of the file and below `inventory`."""
    tree = _tree(_clan_file(ctx))
    places: list[Any] = [tree, tree.get("inventory")]
    for place in places:
        found = place.get(section) if isinstance(place, dict) else None
        if isinstance(found, dict):
            yield found


def _clan_file(ctx: click.Context) -> Path | None:
    try:
        return find_clan(ctx.find_root().params.get("clan_dir"), os.environ, Path.cwd())
    except (ClanError, OSError):
        return None


def _tree(path: Path | None) -> dict[str, Any]:
    """Read the file; one that cannot be read or parsed has nothing to complete."""
    if path is None or path.suffix not in {".toml", ".json"}:
        return {}
    import json
    import tomllib

    parse = json.loads if path.suffix == ".json" else tomllib.loads
    try:
        tree: Any = parse(path.read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return tree if isinstance(tree, dict) else {}
