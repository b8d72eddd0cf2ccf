"""`clan mesh`: a mesh's root and map, and what its machines see of each other."""

from __future__ import annotations

import click

from clan.cli.group import LazyGroup

COMMANDS = {
    "root": ("clan.cli.mesh_root:root", "Begin a mesh: make its root, and the first map."),
    "epoch": ("clan.cli.mesh_root:epoch", "Begin anew with the root's key, after a theft."),
    "key": ("clan.cli.mesh_maps:key", "Show the key by which you sign maps."),
    "admins": ("clan.cli.mesh_admins:admins", "Say who signs maps."),
    "map": ("clan.cli.mesh_maps:map_", "Show the map: who signed it, and whom it has."),
    "merge": ("clan.cli.mesh_maps:merge", "Sign one map where there is a fork."),
    "status": ("clan.cli.mesh_status:status", "Show what the machines see of each other."),
    "path": ("clan.cli.mesh_status:path", "Show how two machines reach each other."),
    "ping": ("clan.cli.mesh_status:ping", "Ping a machine from the others, by the mesh."),
    "log": ("clan.cli.mesh_log:log", "Show what a machine's agent decided, and why."),
    "graph": ("clan.cli.mesh_graph:graph", "Draw the paths between the machines."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def mesh() -> None:
    """Look after a mesh: its map and who signs it; the paths between its machines."""
