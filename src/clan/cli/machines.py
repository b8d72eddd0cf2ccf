"""`clan machines`: list the clan's machines, and change which there are."""

from __future__ import annotations

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.complete import machine_names, tag_names
from clan.cli.edits import applied, ask
from clan.cli.group import LazyGroup
from clan.cli.output import note, say, say_json, terminal_width

DEPLOYMENT = {
    "plan": ("clan.cli.deploy:plan", "Show all that a machine must have."),
    "diff": ("clan.cli.deploy:diff", "Show what an update would change on a machine."),
    "install": ("clan.cli.deploy:install", "Make a machine a member of the clan."),
    "update": ("clan.cli.deploy:update", "Bring machines to what the clan's file says."),
    "status": ("clan.cli.generations:status", "Show which machines are behind."),
    "generations": ("clan.cli.generations:generations", "List the generations of a machine."),
    "rollback": ("clan.cli.generations:rollback", "Switch a machine to an earlier generation."),
    "gc": ("clan.cli.generations:gc", "Remove old generations."),
    "uninstall": ("clan.cli.generations:uninstall", "Take clan off a machine again."),
}


@click.group(cls=LazyGroup, lazy=DEPLOYMENT)
def machines() -> None:
    """List, create, rename and delete machines; install and update them."""


@machines.command(
    "list",
    cls=Command,
    examples=(
        "clan machines list",
        "clan machines list --tag server --json",
    ),
)
@click.option("--tag", shell_complete=tag_names, help="Only machines with this tag.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_machines(option: str | None, tag: str | None, *, as_json: bool) -> None:
    """List the clan's machines."""
    from clan.cli.clan import machines_table
    from clan.inventory.known import known

    clan = context.load_clan(option)
    if tag is not None:
        known(tag, clan.tags, "tag")
    if as_json:
        from clan.inventory.select import plain
        from clan.inventory.tree import machine

        chosen = clan.machines if tag is None else clan.tags[tag]
        say_json([plain(machine(clan.machines[name])) for name in chosen])
        return
    listed = machines_table(clan, terminal_width(), tag)
    if listed is None:
        note("There are no machines yet. `clan machines create NAME` adds one.")
    else:
        say(listed)


@machines.command(
    cls=Command,
    examples=(
        "clan machines create nas --tag server --target-host root@192.168.1.10",
        'clan machines create laptop --description "Anna\'s laptop"',
    ),
)
@click.argument("name")
@click.option("--tag", "tags", multiple=True, shell_complete=tag_names, help="A tag; repeatable.")
@click.option(
    "--target-host",
    metavar="[USER@]HOST[:PORT]",
    help="Where it is found now, before there is a network.",
)
@click.option("--description", default="", help="What it is, for people.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def create(
    option: str | None,
    *,
    name: str,
    tags: tuple[str, ...],
    target_host: str | None,
    description: str,
    as_json: bool,
) -> None:
    """Add a machine to the clan's file."""
    from clan.inventory.apply import apply
    from clan.inventory.edit import create_machine
    from clan.inventory.registry import Registry

    path = context.clan_file(option)
    done = apply(
        path,
        Registry(path.parent),
        lambda inventory: create_machine(
            inventory, name, tags=tags, description=description, target_host=target_host
        ),
    )
    applied(done, f"Created machine {name}.", as_json=as_json)


@machines.command(
    cls=Command,
    short_help="Rename a machine wherever it is named.",
    examples=("clan machines rename laptop anna",),
)
@click.argument("old", shell_complete=machine_names)
@click.argument("new")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def rename(option: str | None, old: str, new: str, *, as_json: bool) -> None:
    """Rename a machine: its place in the roles, settings that name it, and its vars follow.

    Run again after a crash, it finishes what was begun.
    """
    from clan.inventory.apply import apply_rename
    from clan.inventory.registry import Registry

    path = context.clan_file(option)
    folder = context.vars_folder(path.parent)
    done = apply_rename(path, Registry(path.parent), (old, new), folder)
    applied(done, f"Renamed machine {old} to {new}.", as_json=as_json)


@machines.command(
    cls=Command,
    short_help="Remove a machine from the clan's file.",
    examples=(
        "clan machines delete laptop",
        "clan machines delete laptop --yes",
    ),
)
@click.argument("name", shell_complete=machine_names)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def delete(option: str | None, name: str, *, yes: bool, as_json: bool) -> None:
    """Remove a machine from the clan's file, and from the roles that list it.

    Refused while a setting names it. The machine itself is not touched, nor are its vars.
    """
    from clan.inventory.apply import apply, as_it_is
    from clan.inventory.edit import delete_machine
    from clan.inventory.registry import Registry

    path = context.clan_file(option)
    registry = Registry(path.parent)
    if not yes:
        edit = delete_machine(as_it_is(path), registry, name)
        ask(f"Delete machine {name} from {path.name}?", edit.notes)
    done = apply(path, registry, lambda inventory: delete_machine(inventory, registry, name))
    applied(done, f"Deleted machine {name}.", as_json=as_json)
    left = context.vars_folder(path.parent) / "per-machine" / name
    if left.is_dir():
        note(f"Its vars are still in {left}.")
