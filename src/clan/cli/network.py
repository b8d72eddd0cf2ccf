"""`clan network`: which networks there are, what answers on them, and how fast."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import instance_names, machine_names
from clan.cli.reach import Reach, only

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.model.observation import Observation
    from clan.model.route import Route


@click.group()
def network() -> None:
    """Show the clan's networks and who answers on them."""


@network.command(
    "list",
    cls=Command,
    examples=(
        "clan network list",
        "clan network list --json",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the networks as JSON.")
@click.pass_obj
def list_networks(clan_dir: str | None, *, as_json: bool) -> None:
    """List the networks, the one that is tried first on top."""
    from clan.cli.context import load_clan
    from clan.cli.output import note, say, say_json, table, terminal_width
    from clan.errors import ClanError
    from clan.networks.registry import technology
    from clan.networks.routes import network_of
    from clan.networks.technology import crashed

    reach = Reach.of(clan_dir)
    clan = load_clan(clan_dir)
    context = reach.context(interactive=False)
    shapes: list[dict[str, Any]] = []
    for instance, networking in clan.networks():
        shape: dict[str, Any] = {
            "network": instance.name,
            "priority": networking.priority,
            "module": instance.module.name,
            "running": None,
            "peers": list(networking.peers),
        }
        try:
            found = network_of(instance, networking)
            shape["running"] = technology(found.technology).running(found, context)
        except ClanError as fault:
            shape["error"] = fault.message
        except Exception as fault:  # noqa: BLE001 (code of others; the rest is still listed)
            shape["error"] = crashed(fault)
        shapes.append(shape)
    if as_json:
        say_json(shapes)
        return
    if not shapes:
        note("There are no networks yet. `clan instances add lan --role default:tag=all` adds one.")
        return
    words = {True: "Yes", False: "No", None: "?"}
    rows = [
        [
            shape["network"],
            str(shape["priority"]),
            shape["module"],
            words[shape["running"]],
            ", ".join(shape["peers"]),
        ]
        for shape in shapes
    ]
    head = ["Network", "Priority", "Module", "Running", "Peers"]
    say(table(head, rows, width=terminal_width()))
    for shape in shapes:
        if "error" in shape:
            note(f"{shape['network']}: {shape['error']}")


@network.command(
    cls=Command,
    examples=(
        "clan network overview",
        "clan network overview --network lan --json",
    ),
)
@click.option(
    "--network",
    "-n",
    "name",
    metavar="NETWORK",
    shell_complete=instance_names,
    help="Look at this network only.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was seen as JSON.")
@click.pass_obj
def overview(clan_dir: str | None, *, name: str | None, as_json: bool) -> None:
    """Show every peer of every network: its round-trip time, or why it does not answer."""
    from clan.cli.context import load_clan
    from clan.errors import UsageError, did_you_mean
    from clan.networks.routes import all_routes

    clan = load_clan(clan_dir)
    routes = all_routes(clan)
    if name is not None:
        known = [instance.name for instance, _ in clan.networks()]
        if name not in known:
            raise UsageError(
                f"the clan has no network {name!r}",
                hint=did_you_mean(name, known) or f"it has {', '.join(known) or 'none'}",
            )
        routes = [route for route in routes if route.network.name == name]
    seen = _look(Reach.of(clan_dir), routes)
    _show(seen, as_json=as_json, by_machine=False)


@network.command(
    cls=Command,
    examples=(
        "clan network ping nas",
        "clan network ping nas --network wireguard",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@click.option(
    "--network",
    "-n",
    "name",
    metavar="NETWORK",
    shell_complete=instance_names,
    help="Look at this network only.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was seen as JSON.")
@click.pass_obj
def ping(clan_dir: str | None, *, machine: str, name: str | None, as_json: bool) -> None:
    """Look whether MACHINE answers on each of its networks; exit with 1 when it does on none."""
    reach = Reach.of(clan_dir)
    found = only(reach.destination(machine), name)
    seen = _look(reach, found.routes)
    _show(seen, as_json=as_json, by_machine=True)
    if not any(observation.reachable for observation in seen):
        if not seen and not as_json:
            click.echo(f"{found.machine} is on no network", err=True)
        sys.exit(1)


def _look(reach: Reach, routes: Sequence[Route]) -> list[Observation]:
    import asyncio

    from clan.cli.progress import counting
    from clan.networks.observe import observe

    with counting("looking", len(routes)) as count:
        return asyncio.run(
            observe(
                routes,
                host_key=reach.host_key,
                context=reach.context(interactive=False),
                memories=reach.memories,
                seen=lambda _: count(),
            )
        )


def _show(seen: Sequence[Observation], *, as_json: bool, by_machine: bool) -> None:
    from clan.cli.output import say, say_json, table, terminal_width

    if as_json:
        shapes = [
            {
                "network": observation.network,
                "machine": observation.machine,
                "reachable": observation.reachable,
                "rtt": observation.rtt,
                "address": observation.address,
                "error": observation.error,
                "age": observation.age,
            }
            for observation in seen
        ]
        say_json(shapes)
        return
    rows = []
    for observation in seen:
        where = [observation.network]
        if not by_machine:
            where.append(observation.machine)
        answer = "-" if observation.rtt is None else f"{observation.rtt * 1000:.1f} ms"
        detail = observation.error or observation.address or ""
        if observation.age > 0:
            detail += f" ({observation.age:.0f} s ago)"
        rows.append([*where, answer, detail])
    head = ["Network", "Round trip", "Address or error"]
    if not by_machine:
        head.insert(1, "Peer")
    say(table(head, rows, width=terminal_width()))
