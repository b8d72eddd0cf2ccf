"""`clan init`, `clan show`, `clan check`: the clan as a whole."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.output import (
    USUAL_WIDTH,
    heading,
    note,
    say,
    say_json,
    table,
    terminal_width,
    warn,
)
from clan.errors import InventoryError, UsageError

if TYPE_CHECKING:
    from clan.errors import Fault
    from clan.model.clan import Clan, Instance


@click.command(
    cls=Command,
    examples=(
        "clan init ~/home",
        "clan init --name family --format nix",
    ),
)
@click.argument("directory", metavar="[DIR]", default=".", type=click.Path(file_okay=False))
@click.option("--name", help="What the clan is called (default: as its folder).")
@click.option(
    "--format",
    "language",
    type=click.Choice(["toml", "json", "nix"]),
    default="toml",
    show_default=True,
    help="The language of the clan's file.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was made as JSON.")
def init(directory: str, name: str | None, language: str, *, as_json: bool) -> None:
    """Write a first clan file into DIR, or here.

    A folder that has a clan file is left alone. In a git repository the file is staged.
    """
    from clan.inventory.find import clan_file
    from clan.inventory.first import first_file
    from clan.system.files import create_new, disk_errors_told
    from clan.system.git import stage

    folder = Path(directory)
    there = clan_file(folder) if folder.is_dir() else None
    if there is not None:
        raise UsageError(f"there is a clan already: {there}", hint="nothing was changed")
    path = folder / f"clan.{language}"
    text = first_file(name or Path(os.path.realpath(folder)).name, language)
    with disk_errors_told():
        folder.mkdir(parents=True, exist_ok=True)
        create_new(path, text)
    complaint = stage(folder, [path])
    if complaint:
        warn(f"git could not stage {path.name}: {complaint}")
    if as_json:
        say_json({"file": str(path)})
        return
    say(f"Wrote {path}.")
    note("Next: `clan machines create NAME` adds a machine, `clan show` shows the clan.")


@click.command(
    cls=Command,
    examples=(
        "clan show",
        "clan show --json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def show(option: str | None, *, as_json: bool) -> None:
    """Show the clan: what it is called, its machines, networks and services."""
    clan = context.load_clan(option)
    if as_json:
        say_json(as_tree(clan))
        return
    width = terminal_width() or USUAL_WIDTH
    head = heading(clan.meta.name)
    say(head if clan.meta.domain == clan.meta.name else f"{head}  (domain {clan.meta.domain})")
    if clan.meta.description:
        say(clan.meta.description)
    for title, text in (
        (count(len(clan.machines), "machine"), machines_table(clan, width)),
        (_networks_title(len(clan.networks())), networks(clan, width)),
        (count(len(clan.instances), "instance"), instances_table(clan, width)),
    ):
        say()
        say(heading(title.capitalize()) if text is None else f"{heading(title)}\n\n{text}")


def _networks_title(number: int) -> str:
    return count(number, "network") + (", tried in this order" if number > 1 else "")


def as_tree(clan: Clan) -> Any:
    """Return what `clan select clan` gives."""
    from clan.inventory.select import select
    from clan.inventory.tree import selectable

    return select("clan", selectable(clan))


def machines_table(clan: Clan, width: int | None, tag: str | None = None) -> str | None:
    """Return the machines as a table; None when there are none."""
    columns: tuple[str, ...] = ("Machine", "Target host", "Tags", "Description")
    rows: list[tuple[str, ...]] = [
        (
            machine.name,
            str(machine.target_host or "-"),
            ", ".join(machine.tags) or "-",
            machine.description,
        )
        for machine in clan.machines.values()
        if tag is None or machine.name in clan.tags.get(tag, ())
    ]
    if not any(row[-1] for row in rows):
        columns, rows = columns[:-1], [row[:-1] for row in rows]
    return table(columns, rows, width=width) if rows else None


def networks(clan: Clan, width: int | None) -> str | None:
    """Return the networks as a table, the first to be tried first."""
    rows = [
        (
            instance.name,
            str(networking.priority),
            instance.module.name,
            named_or_counted(list(networking.peers)),
        )
        for instance, networking in clan.networks()
    ]
    columns = ("Network", "Priority", "Module", "Peers")
    return table(columns, rows, width=width) if rows else None


def instances_table(clan: Clan, width: int | None) -> str | None:
    """Return the instances and who has which role in them, as a table."""
    rows = [
        (instance.name, instance.module.name, roles(instance))
        for instance in clan.instances.values()
    ]
    return table(("Instance", "Module", "Roles"), rows, width=width) if rows else None


def roles(instance: Instance) -> str:
    """Say who has which role: `controller: vps; peer: nas, laptop`."""
    said = [
        f"{role}: {named_or_counted(list(members))}"
        for role, members in instance.members.items()
        if members
    ]
    return "; ".join(said) or "-"


MOST_NAMED = 12


def named_or_counted(names: list[str]) -> str:
    """List names, or the first of them and how many more."""
    if len(names) <= MOST_NAMED:
        return ", ".join(names) or "-"
    shown = ", ".join(names[: MOST_NAMED - 2])
    return f"{shown} and {len(names) - MOST_NAMED + 2} more"


def count(number: int, noun: str) -> str:
    """Return `1 machine`, `2 machines`, `no machines`."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


@click.command(
    cls=Command,
    examples=(
        "clan check",
        "clan check --json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the faults and warnings as JSON.")
@click.pass_obj
def check(option: str | None, *, as_json: bool) -> None:
    """Say everything that is wrong with the clan's file, or that all is well.

    It shows, too, what a firewall in front of machines, such as a provider's, has to let in. Exits
    with 3 when there is a fault. Warnings are no faults.
    """
    from clan.inventory.open import open_clan

    try:
        clan = open_clan(context.clan_file(option))
        context.generators(option, clan)
        openings = context.openings(option, clan)
    except InventoryError as error:
        if as_json:
            faults = [fault_json(fault) for fault in error.faults]
            say_json({"ok": False, "faults": faults, "warnings": []})
            raise click.exceptions.Exit(error.exit_code) from None
        raise
    left_over = unclaimed_vars(clan)
    if as_json:
        warnings = [fault_json(warning) for warning in clan.warnings]
        warnings += [{"message": message} for message in left_over]
        counts = {"machines": len(clan.machines), "instances": len(clan.instances)}
        counts["networks"] = len(clan.networks())
        opened = [
            {
                "machine": opening.machine,
                "instance": instance,
                "protocol": opening.protocol,
                "ports": [[each.start, each.stop - 1] for each in opening.ports],
                "purpose": opening.purpose,
            }
            for instance, opening in openings
        ]
        told = {"ok": True, "faults": [], "warnings": warnings, "counts": counts}
        say_json({**told, "openings": opened})
        return
    context.show_warnings(clan.warnings)
    for message in left_over:
        warn(message)
    counted = ", ".join(
        count(number, noun)
        for number, noun in (
            (len(clan.machines), "machine"),
            (len(clan.instances), "instance"),
            (len(clan.networks()), "network"),
        )
    )
    say(f"All is well with {clan.meta.name}: {counted}.")
    if openings:
        rows = [(each.machine, str(each), instance, each.purpose) for instance, each in openings]
        columns = ("Machine", "Let in", "Instance", "What for")
        say("\nA firewall in front of a machine, such as its provider's, has to let in:\n")
        say(table(columns, rows, width=terminal_width() or USUAL_WIDTH))


def unclaimed_vars(clan: Clan) -> list[str]:
    """Say which folders of vars belong to no machine: left over, or of a machine misspelt."""
    folder = context.vars_folder(clan.directory) / "per-machine"
    if not folder.is_dir():
        return []
    found = sorted(entry.name for entry in folder.iterdir() if entry.is_dir())
    return [
        f"{folder / name} is left over from a renaming that was cut short; it can be removed"
        if name.startswith(".")
        else f"{folder / name} is of no machine of the clan"
        for name in found
        if name not in clan.machines
    ]


def fault_json(fault: Fault) -> dict[str, Any]:
    """Return a fault as JSON values."""
    return {
        "message": fault.message,
        "key": list(fault.key),
        "hint": fault.hint,
        "file": fault.file,
        "line": fault.line,
    }
