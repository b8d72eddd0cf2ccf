"""`clan mesh admins`: who signs a mesh's maps."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.mesh_desk import as_json_option, mesh_of, network_option
from clan.cli.output import say, say_json, table, terminal_width
from clan.errors import ClanError

if TYPE_CHECKING:
    from collections.abc import Callable

    from clan.mesh.chart.chart import Chart
    from clan.modules.mesh.desk import Desk
    from clan.modules.mesh.signing import Pen


@click.group()
def admins() -> None:
    """Say who signs a mesh's maps."""


@admins.command(
    "list",
    cls=Command,
    short_help="List who signs maps.",
    examples=("clan mesh admins list", "clan mesh admins list --json"),
)
@network_option
@as_json_option
@click.pass_obj
def list_admins(option: str | None, *, network: str | None, as_json: bool) -> None:
    """List who signs maps, and which of them sits at this computer."""
    from clan.mesh.identity import text
    from clan.modules.mesh.desk import Desk, own_key
    from clan.modules.mesh.shown import shape
    from clan.vars.store import Store

    clan = context.load_clan(option)
    desk = Desk.begin(mesh_of(clan, network), clan, Store.of(clan.directory, os.environ))
    own = own_key(os.environ)
    mine = None if own is None else text(own.public)
    there = shape(desk.held, desk.first_root)["admins"]
    if as_json:
        say_json([each | {"here": each["key"] == mine} for each in there])
        return
    rows = [
        (f"{each['name']} (here)" if each["key"] == mine else each["name"], each["key"])
        for each in there
    ]
    say(table(("Admin", "Key"), rows, width=terminal_width()))


@admins.command(
    cls=Command,
    short_help="Let somebody sign maps.",
    examples=("clan mesh admins add ben Ao8xx7rN…=",),
)
@click.argument("name")
@click.argument("key")
@network_option
@as_json_option
@click.pass_obj
def add(option: str | None, name: str, key: str, *, network: str | None, as_json: bool) -> None:
    """Let NAME sign maps, with the KEY that `clan mesh key` prints at their computer."""
    from clan.mesh.chart.mandate import Admin
    from clan.mesh.identity import of_text
    from clan.modules.mesh.kept import mesh_errors_told
    from clan.modules.mesh.signing import with_admin

    with mesh_errors_told():
        admin = Admin(name=name, key=of_text(key))

    def sign(desk: Desk, pen: Pen) -> Chart:
        return with_admin(desk.held, desk.held.view.content, admin, pen)

    _signed(option, network, sign, {"added": name}, f"{name} signs maps now.", as_json=as_json)


@admins.command(
    cls=Command,
    short_help="Let somebody sign maps no more.",
    examples=("clan mesh admins remove ben",),
)
@click.argument("name")
@network_option
@as_json_option
@click.pass_obj
def remove(option: str | None, name: str, *, network: str | None, as_json: bool) -> None:
    """Let NAME sign maps no more, and replace the secret by which machines find each other.

    A map that NAME signed and nobody has replaced since counts for nothing then.
    """
    from clan.modules.mesh.signing import without_admin

    def sign(desk: Desk, pen: Pen) -> Chart:
        return without_admin(desk.held, desk.held.view.content, name, pen)

    _signed(option, network, sign, {"removed": name}, f"{name} signs no more.", as_json=as_json)


def _signed(
    option: str | None,
    network: str | None,
    sign: Callable[[Desk, Pen], Chart],
    shape: dict[str, Any],
    text: str,
    *,
    as_json: bool,
) -> None:
    """Sign a map under another list of admins, and hand it out to machines that are there."""
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.cli.mesh_round import Round
    from clan.modules.mesh.desk import own_key, pen
    from clan.modules.mesh.kept import mesh_errors_told

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    own = own_key(os.environ)
    if own is None:
        raise ClanError(
            "this computer has no key to sign maps with", hint="`clan mesh key` makes one"
        )
    begun = Round(fleet=fleet, instance=instance)
    asyncio.run(begun.collect(instance.members["member"]))
    with begun.locked() as desk:
        desk.refuse_unread()
        with mesh_errors_told():
            made = sign(desk, pen(own))
        desk.take(made)
    given = asyncio.run(begun.hand_out(begun.told))
    if as_json:
        signed = {"epoch": made.epoch, "serial": made.serial}
        say_json({**shape, "network": instance.name, "signed": signed, "given": given})
        return
    say(text)
    say(f"{made} has reached {', '.join(sorted(given)) or 'no machine yet'}.")
