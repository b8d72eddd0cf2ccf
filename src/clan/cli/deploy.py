"""`clan machines plan|diff|install|update`: take configuration to machines."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import instance_names, machine_names, tag_names
from clan.cli.fleet import Fleet, Progress
from clan.cli.output import note, say, say_json, terminal_width, wrapped

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clan.deploy.supply import Supply

AT_ONCE = 16
"""Machines that are worked on at once."""
OFFLINE = 4
"""Exit code when nothing failed, and some machines could not be reached."""
PACKAGES = ("age", "nftables")

as_json_option = click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
target_option = click.option(
    "--target-host", metavar="[USER@]HOST[:PORT]", help="Go to this address instead of choosing."
)
limit_option = click.option(
    "--confirm-timeout",
    type=click.FloatRange(5, 3600),
    metavar="SECONDS",
    help="Go back unless a fresh login confirms within this time (default: what the machine's "
    "slowest network needs to return, and 30 s).",
)
loss_option = click.option(
    "--accept-loss",
    multiple=True,
    metavar="NETWORK",
    shell_complete=instance_names,
    help="Confirm although this network does not answer any more.",
)


@click.command(
    cls=Command,
    examples=("clan machines plan nas", "clan machines plan nas --json"),
)
@click.argument("machine", shell_complete=machine_names)
@as_json_option
@click.pass_obj
def plan(option: str | None, machine: str, *, as_json: bool) -> None:
    """Show all that MACHINE must have, whether it exists yet or not.

    Values that are not there yet are listed as due, with what makes them.
    """
    fleet = Fleet.of(option)
    (name,) = fleet.chosen([machine], [])
    generation, lacks = fleet.outlook(name)
    if as_json:
        say_json({**generation.manifest, "due": lacks})
        return
    _show({}, generation.manifest, lacks, nothing=f"{name} needs nothing")


@click.command(
    cls=Command,
    examples=("clan machines diff nas", "clan machines diff nas --json"),
)
@click.argument("machine", shell_complete=machine_names)
@as_json_option
@click.pass_obj
def diff(option: str | None, machine: str, *, as_json: bool) -> None:
    """Show what an update would change on MACHINE, against what it has now."""
    fleet = Fleet.of(option)
    (name,) = fleet.chosen([machine], [])
    generation, lacks = fleet.outlook(name)
    running = asyncio.run(fleet.remote(name).run("cat /var/lib/clan/current/manifest.json || true"))
    before = json.loads(running or b"{}")
    if as_json:
        from clan.plan.diff import changes

        found = changes(before, generation.manifest)
        shapes = [{"part": c.part, "sign": c.sign, "what": c.what} for c in found]
        shapes += [{"part": "due", "sign": "?", "what": v, "why": y} for v, y in lacks.items()]
        say_json(shapes)
        return
    _show(before, generation.manifest, lacks, nothing=f"{name} has all of it")


def _show(before: dict[str, Any], after: Any, lacks: Mapping[str, str], *, nothing: str) -> None:
    from clan.plan.diff import changes

    colours = {"+": "green", "-": "red", "~": "yellow"}
    part = None
    for change in changes(before, after):
        if change.part != part:
            part = change.part
            say(click.style(part.replace("_", " "), bold=True))
        say(f"  {click.style(change.sign, fg=colours[change.sign])} {change.what}")
    if part is None and not lacks:
        say(nothing)
    if lacks:
        say(click.style("due", bold=True))
    for var, why in lacks.items():
        say(f"  {click.style('?', fg='yellow')} {var}")
        for line in wrapped(why, (terminal_width() or len(why) + 6) - 6):
            say(f"      {line}")


@click.command(
    cls=Command,
    examples=(
        "clan machines install nas",
        "clan machines install nas --target-host root@192.168.1.10",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@target_option
@click.option(
    "--host-key",
    type=click.Choice(["accept-new", "strict"]),
    default="strict",
    help="What to do while the machine's host key is not known.",
)
@limit_option
@as_json_option
@click.pass_obj
def install(
    option: str | None,
    machine: str,
    *,
    target_host: str | None,
    host_key: str,
    confirm_timeout: float | None,
    as_json: bool,
) -> None:
    """Make MACHINE, a Debian with an ssh server, a member of the clan, and update it."""
    from clan.deploy.bundle import bundle
    from clan.deploy.supply import supplied

    fleet = Fleet.of(option)
    (name,) = fleet.chosen([machine], [])
    remote = fleet.remote(name, target_host=target_host, policy=host_key)
    progress = Progress([name], quiet=as_json)
    progress(name, "installing")

    async def send(supply: Supply) -> Any:
        words = ("install", *PACKAGES, *supply.words)
        return await remote.send(bundle(), *words, options=supply.options)

    answer = asyncio.run(supplied(name, send, lambda text: progress(name, text)))
    fleet.admit(name, identity=answer["identity"], host_key=answer["host_key"])
    _update(fleet, [name], target_host=target_host, limit=confirm_timeout, as_json=as_json)


@click.command(
    cls=Command,
    examples=(
        "clan machines update",
        "clan machines update nas desktop",
        "clan machines update --tags server --canary 1",
    ),
)
@click.argument("machines", nargs=-1, shell_complete=machine_names)
@click.option(
    "--tags", multiple=True, metavar="TAG", shell_complete=tag_names, help="All with TAG."
)
@click.option("--canary", type=click.IntRange(0), default=0, metavar="N", help="First only N.")
@limit_option
@target_option
@loss_option
@click.option("--wait", is_flag=True, help="Wait for machines that are offline.")
@as_json_option
@click.pass_obj
def update(
    option: str | None,
    machines: tuple[str, ...],
    *,
    tags: tuple[str, ...],
    canary: int,
    confirm_timeout: float | None,
    target_host: str | None,
    accept_loss: tuple[str, ...],
    wait: bool,
    as_json: bool,
) -> None:
    """Bring MACHINES (all, when none is named) to what the clan's file says.

    Each goes back by itself when its new configuration does not work or cuts it off. The exit
    status is 1 when any was not updated, and 4 when none failed but some are offline.
    """
    fleet = Fleet.of(option)
    chosen = fleet.chosen(machines, tags)
    fleet.has_networks(accept_loss)
    if target_host and len(chosen) != 1:
        raise click.UsageError("--target-host goes with one machine")
    _update(
        fleet,
        chosen,
        target_host=target_host,
        limit=confirm_timeout,
        canary=canary,
        accept_loss=accept_loss,
        wait=wait,
        as_json=as_json,
    )


def _update(
    fleet: Fleet,
    chosen: Sequence[str],
    *,
    target_host: str | None,
    limit: float | None,
    canary: int = 0,
    accept_loss: Sequence[str] = (),
    wait: bool = False,
    as_json: bool = False,
) -> None:
    from clan.cli.rounds import Rounds

    targets = dict.fromkeys(chosen, target_host) if target_host else {}
    maps: Maps | None = None
    if any(each.module.name == "mesh" for each in fleet.clan.instances.values()):
        # It brings imports that nothing else here needs.
        from clan.cli.mesh_round import Maps

        maps = Maps(fleet, targets)
    rounds = Rounds(
        fleet=fleet,
        targets=targets,
        limit=limit,
        accept_loss=frozenset(accept_loss),
        wait=wait,
        at_once=AT_ONCE,
        progress=Progress(chosen, quiet=as_json),
        maps=maps,
    )
    found = asyncio.run(rounds.update(chosen, canary))
    outcomes = [outcome for outcome in found.values() if outcome is not None]
    due = fleet.due(found)
    if as_json:
        given = maps.given if maps else {}
        say_json(
            [
                each.to_json()
                | {"due": due[each.machine]}
                | ({"maps": given[each.machine]} if each.machine in given else {})
                for each in outcomes
            ]
        )
    else:
        for name, left_due in due.items():
            if left_due:
                note(f"{name}: still due at its next update: {', '.join(left_due)}")
    left = len(found) - len(outcomes)
    if left and not as_json:
        note(f"{left} more were left alone, as a canary was not updated")
    bad = [outcome.state for outcome in outcomes if not outcome.good]
    if left or any(state != "offline" for state in bad):
        sys.exit(1)
    if bad:
        sys.exit(OFFLINE)
