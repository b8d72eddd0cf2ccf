"""`clan mesh log`: what a machine's agent decided, and why."""

from __future__ import annotations

import sys
import time
from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names
from clan.cli.mesh_desk import as_json_option, member_of, mesh_of, network_option
from clan.cli.output import say, say_json, warn
from clan.errors import ClanError, printable, printable_lines

if TYPE_CHECKING:
    from clan.modules.mesh.seen import Decided

EVERY = 1.0
"""Seconds between two looks of `--watch`."""
AT_LEAST = 200
"""Decisions that `--watch` asks for: as many may come between two looks."""


@click.command(
    cls=Command,
    short_help="Show what a machine's agent decided, and why.",
    examples=(
        "clan mesh log laptop",
        "clan mesh log laptop --peer nas --watch",
        "clan mesh log laptop --replay",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@click.option(
    "--peer", metavar="MACHINE", shell_complete=machine_names, help="Only what is about this one."
)
@click.option("--lines", type=click.IntRange(1, 2000), default=50, show_default=True, help="Last.")
@click.option("--watch", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option(
    "--replay", is_flag=True, help="Decide again what was recorded, with the program here."
)
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
    replay: bool,
    network: str | None,
    as_json: bool,
) -> None:
    """Show the last that the agent of MACHINE decided of its peers, and why.

    The agent also records all that it observes, in memory and for as long as there is room. With
    `--replay` that is fetched and decided again here; the exit status is 1 when something comes out
    another way than there.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.deploy.maps import ask, journal

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    remote = fleet.remote(member_of(fleet, instance, machine))
    far = None if peer is None else member_of(fleet, instance, peer)
    if replay:
        _again(asyncio.run(journal(remote, instance.name)), as_json=as_json)
        return
    question = {"ask": "log", "peer": far, "last": max(lines, AT_LEAST) if watch else lines}
    seen: set[Decided] | None = None
    fault = ""
    while True:
        try:
            found = _decided(asyncio.run(ask(remote, instance.name, question)))
        except ClanError as failed:
            if seen is None:
                raise
            # It may be that the agent is just being replaced.
            if failed.message != fault:
                warn(printable_lines(failed.message))
            fault = failed.message
            time.sleep(EVERY)
            continue
        fault = ""
        fresh = found[-lines:] if seen is None else [each for each in found if each not in seen]
        seen = set(found)
        if as_json and not watch:
            say_json([asdict(each) for each in fresh])
        for each in () if as_json and not watch else fresh:
            _show(each, as_json=as_json)
        if not watch:
            return
        time.sleep(EVERY)


def _decided(answer: dict[str, Any]) -> list[Decided]:
    from clan.mesh.errors import MeshError
    from clan.modules.mesh.seen import read_decisions

    try:
        return read_decisions(answer)
    except MeshError as fault:
        raise ClanError(str(fault)) from None


def _show(each: Decided, *, as_json: bool) -> None:
    if as_json:
        say_json(asdict(each))
        return
    when = datetime.fromtimestamp(each.at).astimezone()
    say(f"{when:%Y-%m-%d %H:%M:%S}  {printable(f'{each.peer}: {each.what}: {each.why}')}")


def _again(lines: list[str], *, as_json: bool) -> None:
    """Step through a journal once more, and tell what comes out another way."""
    from clan.mesh.journal import JournalError, replay

    steps, same = 0, 0
    others: list[dict[str, Any]] = []
    try:
        for each in replay(lines):
            steps += 1
            if each.recorded == each.again:
                same += len(each.recorded)
                continue
            then, now = ([asdict(one) for one in side] for side in (each.recorded, each.again))
            others.append({"at": each.now, "recorded": then, "again": now})
    except JournalError as fault:
        raise ClanError(f"the journal cannot be stepped through: {fault}") from None
    if as_json:
        say_json({"steps": steps, "same": same, "others": others})
    else:
        say(f"{steps} steps were done again; {same} decisions came out the same.")
        for other in others:
            for what in ("recorded", "again"):
                for one in other[what]:
                    text = f"{one['peer']}: {one['what']}: {one['why']}"
                    say(f"  {what} at {one['at']:.3f}: {printable(text)}")
    sys.exit(int(bool(others)))
