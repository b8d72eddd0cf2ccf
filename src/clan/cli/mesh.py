"""`clan mesh`: the mesh's root, its map and who signs it."""

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
}


@click.group(cls=LazyGroup, lazy=COMMANDS)
def mesh() -> None:
    """Look after a mesh: its root, its map and who signs it."""
