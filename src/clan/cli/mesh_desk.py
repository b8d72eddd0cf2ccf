"""What the commands of `clan mesh` share: which mesh is meant, and which of its machines."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from clan.cli.complete import mesh_names
from clan.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from clan.cli.fleet import Fleet
    from clan.model.clan import Clan, Instance

MODULE = "mesh"

network_option = click.option(
    "--network",
    "-n",
    "network",
    metavar="MESH",
    shell_complete=mesh_names,
    help="Which mesh (default: the only one).",
)
as_json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")


def meshes(clan: Clan) -> dict[str, Instance]:
    """Return the clan's meshes by name."""
    return {name: each for name, each in clan.instances.items() if each.module.name == MODULE}


def mesh_of(clan: Clan, name: str | None) -> Instance:
    """Return the mesh that is meant. Raises UsageError where that is none, or not clear."""
    there = meshes(clan)
    if name is None and len(there) == 1:
        return next(iter(there.values()))
    if name in there:
        return there[name]
    listed = ", ".join(there)
    if not there:
        raise UsageError(
            "the clan has no mesh",
            hint="`clan instances add mesh --role member:tag=all` adds one with all machines",
        )
    if name is None:
        raise UsageError(f"the clan has several meshes: {listed}", hint="`--network` says which")
    raise UsageError(
        f"the clan has no mesh {name!r}", hint=did_you_mean(name, there) or f"it has {listed}"
    )


def member_of(fleet: Fleet, instance: Instance, name: str) -> str:
    """Return the member that is meant. Raises UsageError with the nearest name."""
    members = instance.members["member"]
    (machine,) = fleet.chosen([name], [])
    if machine not in members:
        raise UsageError(
            f"{machine} is not in the mesh {instance.name}",
            hint=f"it has {', '.join(members) or 'nobody'}",
        )
    return machine
