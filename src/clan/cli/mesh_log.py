"""`clan mesh log`: what a machine's agent decided, and why."""

from __future__ import annotations

import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names
from clan.cli.mesh_desk import as_json_option, member_of, mesh_of, network_option
from clan.cli.output import say, say_json

if TYPE_CHECKING:
    from collections.abc import Iterable

EVERY = 1.0
"""Seconds between two looks of `--watch`."""


@click.command(
    cls=Command,
    short_help="Show what a machine's agent decided, and why.",
    examples=(
        "clan mesh log laptop",
        "clan mesh log laptop --peer nas --watch",
        "clan mesh log laptop --lines 1000 --json",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@click.option(
    "--peer", metavar="MACHINE", shell_complete=machine_names, help="Only what is about this one."
)
@click.option("--lines", type=click.IntRange(1, 10000), default=50, show_default=True, help="Last.")
@click.option("--watch", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@network_option
@as_json_option
@click.pass_obj
def log(
    option: str | None,
    machine: str,
    *,
    peer: str | None,
    lines: int,
    watch: bool,
    network: str | None,
    as_json: bool,
) -> None:
    """Show the last that the agent of MACHINE wrote: what it decided of each peer, and why.

    With `--json` each entry has `time`, `message` and, of a decision, `peer`, `what` and `why`.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.deploy.maps import log as read

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    name = member_of(fleet, instance, machine)
    far = None if peer is None else member_of(fleet, instance, peer)
    remote = fleet.remote(name)
    entries = asyncio.run(read(remote, instance.name, last=lines))
    _show(entries, far, as_json=as_json, watch=watch)
    while watch:
        cursor = entries[-1]["cursor"] if entries else ""
        time.sleep(EVERY)
        more = asyncio.run(read(remote, instance.name, last=lines, after=cursor))
        _show(more, far, as_json=as_json, watch=watch)
        entries = more or entries


def _show(
    entries: Iterable[dict[str, Any]], peer: str | None, *, as_json: bool, watch: bool
) -> None:
    from clan.modules.mesh.shown import decision

    shapes = []
    for entry in entries:
        decided = decision(entry["message"])
        if peer is not None and (decided is None or decided[0] != peer):
            continue
        shape = {"time": entry["time"], "message": entry["message"]}
        if decided is not None:
            shape |= dict(zip(("peer", "what", "why"), decided, strict=True))
        shapes.append(shape)
    if as_json and not watch:
        say_json(shapes)
        return
    for shape in shapes:
        if as_json:
            say_json(shape)
            continue
        when = datetime.fromtimestamp(shape["time"]).astimezone()
        say(f"{when:%Y-%m-%d %H:%M:%S}  {shape['message']}")
