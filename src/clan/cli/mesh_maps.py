"""`clan mesh key|map|merge`: who signs, what is signed, and making one map of a fork."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.mesh_desk import as_json_option, mesh_of, network_option
from clan.cli.output import note, say, say_json, table, terminal_width, warn

if TYPE_CHECKING:
    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.content import Content
    from clan.modules.mesh.desk import Desk


@click.command(
    cls=Command,
    short_help="Show the key by which you sign maps.",
    examples=("clan mesh key", "clan mesh key --json"),
)
@as_json_option
@click.pass_obj
def key(option: str | None, *, as_json: bool) -> None:
    """Show the public half of the key by which you sign maps; made where there is none.

    The private half is `$XDG_CONFIG_HOME/clan/mesh.key` and stays on this computer. It is good for
    every clan whose admins add it.
    """
    from clan.mesh.identity import text
    from clan.modules.mesh.desk import key_file, own_key

    del option
    there = own_key(os.environ)
    own = there or own_key(os.environ, make=True)
    if own is None:
        raise TypeError("a key that was to be made is not there")
    public = text(own.public)
    if as_json:
        say_json({"path": str(key_file(os.environ)), "key": public, "made": there is None})
        return
    say(public)
    note(f"An admin lets you sign maps: clan mesh admins add {context.user_name(None)} {public}")


@click.command(
    "map",
    cls=Command,
    short_help="Show the map: who signed it, and whom it has.",
    examples=("clan mesh map", "clan mesh map --network home --json"),
)
@network_option
@as_json_option
@click.pass_obj
def map_(option: str | None, *, network: str | None, as_json: bool) -> None:
    """Show the map as the clan's folder has it: its place, who signed it, forks, machines.

    Machines may have heard of a newer one: `clan machines update` asks them, and
    `clan mesh status` shows which each one has.
    """
    from clan.modules.mesh.desk import Desk
    from clan.modules.mesh.shown import shape
    from clan.vars.store import Store

    clan = context.load_clan(option)
    instance = mesh_of(clan, network)
    desk = Desk.begin(instance, clan, Store.of(clan.directory, os.environ))
    shown = shape(desk.held, desk.first_root)
    unread = [str(fault) for fault in desk.unread.values()]
    if as_json:
        say_json({"network": instance.name, **shown, "unread": unread})
        return
    _tell(instance.name, shown)
    for line in unread:
        warn(line)
    if shown["state"] in {"forked", "disputed"}:
        warn(f"the map is {shown['state']}: {desk.cure(desk.held.view.state)}")


def _tell(name: str, shown: dict[str, Any]) -> None:
    from clan.modules.mesh.shown import ago

    for each in shown["maps"]:
        counts = "" if each["counts"] else f" (counts for nothing: {each['why']})"
        say(f"{each['called']} in {name}, signed {ago(each['made'])}{counts}")
    say(f"Signed by: {', '.join(each['name'] for each in shown['admins']) or 'the root alone'}")
    say(f"Prefix {shown['prefix']}, aliases {shown['aliases']}, {shown['removed']} removed")
    for line in shown["differences"]:
        say(f"  {line}")
    rows = [(each["name"], each["address"], each["alias"] or "") for each in shown["machines"]]
    if rows:
        say()
        say(table(("Machine", "Address", "Alias"), rows, width=terminal_width()))


@click.command(
    cls=Command,
    short_help="Sign one map where there is a fork.",
    examples=("clan mesh merge", "clan mesh merge --network home --yes"),
)
@network_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def merge(option: str | None, *, network: str | None, yes: bool, as_json: bool) -> None:
    """Make one map of those that two admins signed apart, and hand it out.

    It says what the clan's file here says, so get the latest of that first. What was removed on
    either side stays removed. Also signs what an update refuses to: that machines are removed which
    this folder never knew.
    """
    import asyncio

    from clan.cli.edits import ask
    from clan.cli.fleet import Fleet
    from clan.cli.mesh_round import Round
    from clan.modules.mesh.desk import own_key

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    begun = Round(fleet=fleet, instance=instance)
    asyncio.run(begun.collect(instance.members["member"]))
    with begun.locked() as desk:
        wanted = desk.wanted()
        heads = list(map(str, desk.held.heads))
        notes = [*heads, *desk.held.view.differences, *removed_by(desk, wanted)]
        if not yes and (len(heads) > 1 or desk.strangers(wanted)):
            ask("Sign a map in the place of these?", notes)
        made: Chart | None = desk.sign(wanted, own_key(os.environ))
    given = asyncio.run(begun.hand_out(begun.told)) if made else {}
    if as_json:
        signed = None if made is None else {"epoch": made.epoch, "serial": made.serial}
        say_json({"network": instance.name, "merged": heads, "signed": signed, "given": given})
        return
    if made is None:
        say(f"There is nothing to merge: {heads[0]} says what the clan's file says.")
        return
    say(f"Signed {made}.")
    say(f"It has reached {', '.join(sorted(given)) or 'no machine yet'}.")


def removed_by(desk: Desk, wanted: Content) -> list[str]:
    """Return in words whom a new map removes."""
    there = {each.identity: each.name for head in desk.held.heads for each in head.content.machines}
    gone = sorted(name for key, name in there.items() if key not in wanted.identities)
    return [f"this removes {', '.join(gone)}"] if gone else []
