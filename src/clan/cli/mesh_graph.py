"""`clan mesh graph`: the paths between the machines as a picture."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from clan.cli.command import Command
from clan.cli.mesh_desk import as_json_option, mesh_of, network_option
from clan.cli.output import note, say_json


@click.command(
    cls=Command,
    short_help="Draw the paths between the machines.",
    examples=(
        "clan mesh graph -o mesh.svg",
        "clan mesh graph -o mesh.svg --watch",
        "clan mesh graph --json",
    ),
)
@click.option(
    "--output",
    "-o",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write the picture there (default: standard output).",
)
@click.option("--watch", is_flag=True, help="Draw again every 2 seconds, until Ctrl-C.")
@network_option
@as_json_option
@click.pass_obj
def graph(
    option: str | None, *, output: Path | None, watch: bool, network: str | None, as_json: bool
) -> None:
    """Draw the machines and the paths between them as they are now, as SVG.

    With `--json` it prints the pairs instead: the state of each, what it runs over, and its round
    trip in seconds. A machine that does not answer is drawn by what the others see of it.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.cli.mesh_agents import look, shown
    from clan.errors import UsageError
    from clan.modules.mesh.drawing import draw, edges
    from clan.system.files import disk_errors_told, write_atomic

    if as_json and output is not None:
        raise UsageError("`--json` prints the pairs, and draws nothing", hint="leave out `-o`")
    if watch and output is None and not as_json:
        raise UsageError("`--watch` draws into a file", hint="`-o FILE` names it")
    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    members = list(instance.members["member"])

    def show() -> None:
        seen = asyncio.run(look(fleet, instance, members))
        if as_json:
            pairs = [each.to_json() for each in edges(seen)]
            machines = {
                name: None if each is None else {"epoch": each.map[0], "serial": each.map[1]}
                for name, each in seen.items()
            }
            say_json({"network": instance.name, "machines": machines, "pairs": pairs})
            return
        title = f"{fleet.clan.meta.name}: the mesh {instance.name}"
        picture = draw(title, seen).encode()
        if output is None:
            sys.stdout.flush()
            sys.stdout.buffer.write(picture)
            return
        with disk_errors_told():
            write_atomic(output, picture, mode=0o644)
        note(f"Drew {output}.")

    shown(show, watch=watch)
