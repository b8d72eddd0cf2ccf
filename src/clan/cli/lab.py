"""`clan lab`: a clan's machines as real machines on this computer."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clan.cli.command import Command
from clan.errors import UsageError

if TYPE_CHECKING:
    from typing import NoReturn

    from clan.lab.lab import Lab
    from clan.lab.status import Seen, Status

FILE = "lab.toml"

_RAW = {"ignore_unknown_options": True, "allow_interspersed_args": False}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Which lab a command is about, and the clan's folder."""

    name: str
    folder: Path


def _place(ctx: click.Context, parameter: click.Parameter, name: str | None) -> Place:
    """Make the value of `--name`: what was given, else the lab one is in, else the folder's."""
    from clan.lab.state import name_for

    del parameter
    folder = clan_folder(ctx.obj)
    return Place(name=name or os.environ.get("CLAN_LAB") or name_for(folder), folder=folder)


_named = click.option(
    "--name",
    "place",
    metavar="NAME",
    callback=_place,
    help="The lab (default: the clan folder's name).",
)


def clan_folder(given: str | None) -> Path:
    """Return the clan's folder: as given, else CLAN_DIR, else the nearest above with a lab.toml."""
    chosen = given or os.environ.get("CLAN_DIR")
    if chosen:
        return Path(chosen).resolve()
    here = Path.cwd()
    return next((folder for folder in (here, *here.parents) if (folder / FILE).exists()), here)


def machines_of(folder: Path) -> list[str] | None:
    """Return the names of the clan's machines; None for a lab that has no clan beside it."""
    from clan.cli.context import load_clan
    from clan.inventory.find import clan_file

    return list(load_clan(str(folder)).machines) if clan_file(folder) else None


@click.group()
def lab() -> None:
    """Run the clan's machines on this computer, with real networks.

    The machines, their sites and routers are described in lab.toml beside the clan's file. All of
    it needs root. docs/reference/lab.md describes the file and every command.
    """


@lab.command(
    cls=Command,
    examples=(
        "clan lab image",
        "clan lab image --debian 13",
        "CLAN_LAB_CACHE=/srv/cache clan lab image",
    ),
)
@click.option(
    "--debian",
    type=click.Choice(["12", "13"]),
    default="12",
    help="The release.",
    show_default=True,
)
def image(debian: str) -> None:
    """Make the image that machines start from, once; it takes about a minute."""
    from clan.lab import built
    from clan.lab import image as images
    from clan.lab.state import require_root

    require_root()
    made = images.build(_report, int(debian))
    built.build(_report)
    click.echo(str(made.folder))


@lab.command(
    cls=Command,
    examples=(
        "clan lab up",
        "clan lab up --name holiday",
    ),
)
@_named
def up(place: Place) -> None:
    """Bring the lab up; if it is up, start the machines that are stopped."""
    from clan.lab import schema
    from clan.lab.lab import Lab
    from clan.lab.state import require_root

    require_root()
    config = schema.load(place.folder / FILE, machines_of(place.folder))
    begun = time.monotonic()
    Lab.up(config, name=place.name, clan_dir=place.folder, report=_report)
    _report(f"{place.name} is up after {time.monotonic() - begun:.1f} s")


@lab.command(
    cls=Command,
    examples=(
        "clan lab down",
        "clan lab down --name holiday",
    ),
)
@_named
def down(place: Place) -> None:
    """Take the lab down; nothing of it stays on this computer."""
    from clan.lab.lab import down as take_down

    take_down(place.name)


@lab.command(
    cls=Command,
    examples=(
        "clan lab status",
        "clan lab status --json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_named
def status(place: Place, *, as_json: bool) -> None:
    """Show machines, their sites and addresses, and what is cut."""
    from clan.lab.status import observe

    seen = observe(_open(place.name))
    if as_json:
        click.echo(json.dumps(asdict(seen), indent=2))
    else:
        _print(seen)


@lab.command(
    "exec",
    cls=Command,
    context_settings=_RAW,
    examples=(
        "clan lab exec nas -- ip address",
        "clan lab exec nas",
        "tar -c photos | clan lab exec nas -- tar -x -C /srv",
    ),
)
@click.argument("machine")
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
@click.option("--tty/--no-tty", default=None, help="With a terminal (default: when here is one).")
@_named
def exec_(place: Place, *, machine: str, command: tuple[str, ...], tty: bool | None) -> None:
    """Run a command on a machine as root, past its network; without one, a shell.

    Input, output and the exit status are the command's.
    """
    # click leaves the `--` that comes after a first argument.
    words = command[1:] if command[:1] == ("--",) else command
    _attend(_open(place.name), machine, words or ("bash", "--login"), tty=tty)


@lab.command(
    cls=Command,
    context_settings=_RAW,
    examples=(
        "clan lab run -- ssh root@nas.lan uptime",
        "clan lab run -- clan ssh nas",
        "clan lab run --on laptop -- clan network list",
    ),
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED, required=True)
@click.option("--on", metavar="MACHINE", help="On a machine with `clan = true`, not the admin's.")
@_named
def run(place: Place, *, command: tuple[str, ...], on: str | None) -> None:
    """Run a command at the admin's place, over this computer's own files.

    Input, output, signals and the exit status are the command's. Vars, state and cache of `clan`
    are the lab's own there.
    """
    opened = _open(place.name)
    if on is None:
        _become(opened, command)
    _attend(opened, _admin_machine(opened, on), command, tty=None)


@lab.command(
    cls=Command,
    examples=(
        "clan lab shell",
        "clan lab shell --on laptop",
    ),
)
@click.option("--on", metavar="MACHINE", help="On a machine with `clan = true`, not the admin's.")
@_named
def shell(place: Place, *, on: str | None) -> None:
    """Open a shell at the admin's place."""
    opened = _open(place.name)
    if on is None:
        where = f"{opened.site_of('admin')!r} of the lab {place.name!r}"
        click.echo(f"You are at {where}. Leave with `exit`.", err=True)
        _become(opened, (os.environ.get("SHELL", "/bin/sh"),))
    _attend(opened, _admin_machine(opened, on), ("bash", "--login"), tty=None)


@lab.command(
    cls=Command,
    examples=(
        "clan lab cut nas",
        "clan lab cut home --protocol udp",
        "clan lab cut laptop --protocol tcp --port 22 --direction in",
        "clan lab cut laptop --carrier",
    ),
)
@click.argument("what")
@click.option("--protocol", type=click.Choice(["tcp", "udp"]), help="Only this protocol.")
@click.option("--port", type=click.IntRange(1, 65535), help="Only to or from this port.")
@click.option(
    "--direction",
    type=click.Choice(["in", "out", "both"]),
    default="both",
    show_default=True,
    help="Only what comes in to it, or goes out from it.",
)
@click.option("--carrier", is_flag=True, help="Pull the cable, so that the machine notices.")
@_named
def cut(
    place: Place,
    *,
    what: str,
    protocol: str | None,
    port: int | None,
    direction: str,
    carrier: bool,
) -> None:
    """Cut WHAT: a machine's cable, a site's uplink, or `admin`.

    What is cut is dropped in silence. `clan lab restore` undoes it.
    """
    from clan.lab.cuts import Cut, Direction

    wanted = Cut(what=what, protocol=protocol, port=port, direction=Direction(direction))
    _open(place.name).cut(wanted, carrier=carrier)


@lab.command(
    cls=Command,
    examples=(
        "clan lab restore nas",
        "clan lab restore",
    ),
)
@click.argument("what", required=False)
@_named
def restore(place: Place, *, what: str | None) -> None:
    """Undo every cut of WHAT; without it, all cuts of the lab."""
    _open(place.name).restore(what)


@lab.command(
    cls=Command,
    examples=(
        "clan lab move laptop cafe",
        "clan lab move admin home",
    ),
)
@click.argument("machine")
@click.argument("site")
@_named
def move(place: Place, *, machine: str, site: str) -> None:
    """Plug a running MACHINE, or `admin`, into the LAN of another SITE."""
    _open(place.name).move(machine, site)


def _open(name: str) -> Lab:
    from clan.lab.lab import Lab

    return Lab.open(name)


def _report(step: str) -> None:
    click.echo(f"lab: {step}", err=True)


def _become(opened: Lab, command: tuple[str, ...]) -> NoReturn:
    """Become the command at the admin's place, so that signals and status are its own."""
    from clan.lab.place import at_admin

    # Python ignores it, and what is ignored stays so in what this process becomes.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    argv = at_admin(opened.state, command)
    os.execvpe(argv[0], argv, opened.environment())  # noqa: S606 (that is the point)


def _attend(opened: Lab, machine: str, command: tuple[str, ...], *, tty: bool | None) -> NoReturn:
    from clan.lab.place import attend

    wanted = sys.stdin.isatty() and sys.stdout.isatty() if tty is None else tty
    sys.exit(attend(opened.command_on(machine, command, tty=wanted)))


def _admin_machine(opened: Lab, name: str) -> str:
    if not opened.unit(name).machine.clan:
        raise UsageError(
            f"the machine {name!r} has no clan", hint=f"say `clan = true` for it in {FILE}"
        )
    return name


def _print(seen: Status) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for title in ("MACHINE", "SITE", "ADDRESSES", "STATE"):
        table.add_column(title, overflow="fold")
    for machine in seen.machines:
        addresses = "\n".join(machine.addresses) or "-"
        table.add_row(machine.name, machine.site, addresses, _state(machine))
    console = Console(width=min(Console().width, 80), highlight=False)
    console.print(table)
    names = {machine.name for machine in seen.machines}
    for cut in seen.cuts:
        if cut.what not in names:
            console.print(f"the uplink of {cut.what} is cut: {cut.traffic}")


def _state(machine: Seen) -> str:
    notes = ["cable pulled"] if machine.pulled else []
    notes += [f"cut: {cut.traffic}" for cut in machine.cuts]
    return "\n".join([machine.state, *notes])
