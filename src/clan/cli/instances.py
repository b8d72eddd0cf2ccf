"""`clan instances`: list the uses of modules in the clan, add and remove them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.complete import instance_names, memberships, module_names
from clan.cli.edits import applied, ask
from clan.cli.output import note, say, say_json, terminal_width
from clan.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.inventory.edit import Membership, Setting


@click.group()
def instances() -> None:
    """List, add and remove instances: the networks and services of the clan."""


@instances.command(
    "list",
    cls=Command,
    short_help="List the instances and their roles.",
    examples=(
        "clan instances list",
        "clan instances list --json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_instances(option: str | None, *, as_json: bool) -> None:
    """List the instances, and which machines have which role in them."""
    from clan.cli.clan import instances_table

    clan = context.load_clan(option)
    if as_json:
        say_json(
            [
                {
                    "name": instance.name,
                    "module": instance.module.name,
                    "roles": {role: list(found) for role, found in instance.members.items()},
                    "network": clan.exports[instance.name].networking is not None,
                }
                for instance in clan.instances.values()
            ]
        )
        return
    listed = instances_table(clan, terminal_width())
    if listed is None:
        note("There are no instances yet. `clan instances add MODULE` adds one.")
    else:
        say(listed)


@instances.command(
    cls=Command,
    examples=(
        "clan instances add tor --role server:tag=all",
        "clan instances add vpn --module wireguard --role controller:vps \\",
        "    --set controller:vps:endpoint=vpn.example.com --role peer:tag=all",
    ),
)
@click.argument("name", shell_complete=module_names)
@click.option(
    "--module", shell_complete=module_names, help="The module it is a use of (default: NAME)."
)
@click.option(
    "--role",
    "members",
    multiple=True,
    metavar="ROLE:MACHINE",
    shell_complete=memberships,
    help="Give a machine a role, or with ROLE:tag=TAG all machines with a tag; repeatable.",
)
@click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="[ROLE:[MACHINE:]]KEY=VALUE",
    help="A setting of the instance, of a role, or of a machine in a role; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def add(
    option: str | None,
    *,
    name: str,
    module: str | None,
    members: tuple[str, ...],
    settings: tuple[str, ...],
    as_json: bool,
) -> None:
    """Add an instance of a module to the clan's file.

    A VALUE that is JSON is taken as that (5, true, ["a", "b"]), any other as text.
    """
    from clan.inventory.apply import apply
    from clan.inventory.edit import add_instance
    from clan.inventory.registry import Registry

    path = context.clan_file(option)
    registry = Registry(path.parent)
    has_roles = parsed_members(members)
    set_to = parsed_settings(settings)
    done = apply(
        path,
        registry,
        lambda inventory: add_instance(
            inventory, registry, name, module=module, members=has_roles, settings=set_to
        ),
    )
    applied(done, f"Added instance {name}.", as_json=as_json)


def parsed_members(texts: Sequence[str]) -> list[Membership]:
    """Read `ROLE:MACHINE` and `ROLE:tag=TAG`."""
    from clan.inventory.edit import Membership

    members = []
    for text in texts:
        role, colon, who = text.partition(":")
        is_tag = who.startswith("tag=")
        who = who.removeprefix("tag=")
        if not (role and colon and who):
            raise UsageError(f"--role {text!r} says not who", hint="ROLE:MACHINE or ROLE:tag=TAG")
        members.append(Membership(role=role, name=who, is_tag=is_tag))
    return members


def parsed_settings(texts: Sequence[str]) -> list[Setting]:
    """Read `KEY=VALUE`, `ROLE:KEY=VALUE` and `ROLE:MACHINE:KEY=VALUE`; a KEY may be dotted."""
    from clan.inventory.edit import Setting

    found = []
    for text in texts:
        path, equals, written = text.partition("=")
        *whose, key = path.split(":")
        if not equals or not all((*whose, *key.split("."))) or len(whose) > 2:  # noqa: PLR2004
            hint = "KEY=VALUE, ROLE:KEY=VALUE or ROLE:MACHINE:KEY=VALUE"
            raise UsageError(f"--set {text!r} sets nothing", hint=hint)
        role, machine = (*whose, None, None)[:2]
        keys = tuple(key.split("."))
        found.append(Setting(key=keys, value=_value(written), role=role, machine=machine))
    return found


def _value(written: str) -> Any:
    try:
        value = json.loads(written)
    except ValueError:
        return written
    return written if value is None else value


@instances.command(
    cls=Command,
    short_help="Remove an instance from the clan's file.",
    examples=(
        "clan instances remove tor",
        "clan instances remove tor --yes",
    ),
)
@click.argument("name", shell_complete=instance_names)
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def remove(option: str | None, name: str, *, yes: bool, as_json: bool) -> None:
    """Remove an instance from the clan's file, with all its settings."""
    from clan.inventory.apply import apply, as_it_is
    from clan.inventory.edit import remove_instance
    from clan.inventory.registry import Registry

    path = context.clan_file(option)
    if not yes:
        remove_instance(as_it_is(path), name)
        ask(f"Remove instance {name} and its settings from {path.name}?")
    done = apply(path, Registry(path.parent), lambda clan: remove_instance(clan, name))
    applied(done, f"Removed instance {name}.", as_json=as_json)
