"""`clan mesh status|path|ping`: what the machines of a mesh see of each other now."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names
from clan.cli.mesh_desk import as_json_option, member_of, mesh_of, network_option
from clan.cli.output import note, say, say_json, table, terminal_width, warn
from clan.errors import printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.modules.mesh.seen import LinkSeen, PeerSeen, Seen

watch_option = click.option(
    "--watch", is_flag=True, help="Look again every 2 seconds, until Ctrl-C."
)


@click.command(
    cls=Command,
    short_help="Show what the machines see of each other.",
    examples=("clan mesh status", "clan mesh status laptop --watch", "clan mesh status --json"),
)
@click.argument("machine", required=False, shell_complete=machine_names)
@network_option
@watch_option
@as_json_option
@click.pass_obj
def status(
    option: str | None, machine: str | None, *, network: str | None, watch: bool, as_json: bool
) -> None:
    """Show each machine's map and paths; of MACHINE, the path to each other one, and why that.

    A pair that has nothing to say to each other is idle: its path is found with the first packet.
    The exit status is 1 when a machine does not answer.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.cli.mesh_agents import look, shown

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    if machine is not None:
        chosen = [member_of(fleet, instance, machine)]
    else:
        chosen = list(instance.members["member"])
    silent = False

    def show() -> None:
        nonlocal silent
        seen = asyncio.run(look(fleet, instance, chosen))
        silent = None in seen.values()
        if as_json:
            say_json({name: None if each is None else asdict(each) for name, each in seen.items()})
        elif machine is None:
            _all(seen)
        elif (one := seen[chosen[0]]) is not None:
            _one(one)

    shown(show, watch=watch)
    sys.exit(int(silent))


def _all(seen: Mapping[str, Seen | None]) -> None:
    from clan.modules.mesh.shown import ago

    newest = max((each.map for each in seen.values() if each is not None), default=(0, 0))
    rows = []
    for name, each in seen.items():
        if each is None:
            rows.append((name, _heard(name, seen), "-", "-", "-", "no answer"))
            continue
        states = [peer.state for peer in each.peers.values()]
        rows.append(
            (
                name,
                _number(each.map),
                ago(each.made) if each.made else "-",
                str(states.count("connected")),
                str(states.count("idle")),
                "; ".join(_remarks(each, newest)),
            )
        )
    head = ("Machine", "Map", "Signed", "Paths", "Idle", "")
    say(table(head, rows, width=terminal_width()))


def _remarks(each: Seen, newest: tuple[int, int]) -> Iterator[str]:
    for uplink, works in each.uplinks.items():
        if not works:
            yield f"{uplink} is down"
    lost = [peer.name for peer in each.peers.values() if peer.state == "lost"]
    if lost:
        yield f"no way to {', '.join(lost)}"
    if each.map < newest:
        yield f"has not heard of map {_number(newest)}"
    if each.map_state in {"forked", "disputed"}:
        yield "the map is forked"
    if each.name is None:
        yield "not in its own map"
    if each.fault:
        yield each.fault


def _heard(name: str, seen: Mapping[str, Seen | None]) -> str:
    """Return which map a silent machine has at least, by what the others heard of it."""
    told = [
        (has, other)
        for other, each in seen.items()
        if each is not None and name in each.peers and (has := each.peers[name].map) is not None
    ]
    return f"{_number(max(told)[0])}, by {max(told)[1]}" if told else "-"


def _number(place: tuple[int, int]) -> str:
    return f"{place[0]}.{place[1]}"


def _one(seen: Seen) -> None:
    from clan.modules.mesh.seen import for_long, in_ms, in_percent
    from clan.modules.mesh.shown import ago

    ups = ", ".join(name if works else f"{name} (down)" for name, works in seen.uplinks.items())
    say(printable(f"{seen.name or 'not in its own map'} {seen.address or ''}".rstrip()))
    signed = f", signed {ago(seen.made)}" if seen.made else ""
    have = sum(peer.map is not None and peer.map >= seen.map for peer in seen.peers.values())
    say(f"map {_number(seen.map)}{signed}; {have} of {len(seen.peers)} others are known to have it")
    say(printable(f"uplinks: {ups or 'none'}"))
    if seen.fault:
        warn(printable(seen.fault))
    say()
    rows = [
        (
            peer.name,
            _where(peer),
            in_ms(peer.path.round_trip if peer.path else None),
            in_percent(peer.path.loss if peer.path else None),
            for_long(peer.since),
            f"{sum(each.alive for each in peer.others)} of {len(peer.others)}",
        )
        for peer in seen.peers.values()
    ]
    head = ("Peer", "Path", "Round trip", "Loss", "For", "Others")
    say(table(head, rows, width=terminal_width()))
    for peer in seen.peers.values():
        if peer.why:
            say(printable(f"{peer.name}: {peer.why}"))


def _where(peer: PeerSeen) -> str:
    if peer.path is not None and peer.state == "connected":
        return peer.path.called
    return {"idle": "idle", "lost": "no way"}.get(peer.state, "")


@click.command(
    cls=Command,
    short_help="Show how two machines reach each other.",
    examples=("clan mesh path laptop nas", "clan mesh path laptop nas --watch"),
)
@click.argument("one", metavar="A", shell_complete=machine_names)
@click.argument("other", metavar="B", shell_complete=machine_names)
@network_option
@watch_option
@as_json_option
@click.pass_obj
def path(
    option: str | None, one: str, other: str, *, network: str | None, watch: bool, as_json: bool
) -> None:
    """Show the path from A to B and back, as each end sees it, and all links that it could be.

    The exit status is 1 when neither end has a path to the other.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.cli.mesh_agents import look, shown
    from clan.errors import UsageError

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    ends = [member_of(fleet, instance, each) for each in (one, other)]
    if ends[0] == ends[1]:
        raise UsageError(f"{ends[0]} needs no path to itself")
    connected = False

    def show() -> None:
        nonlocal connected
        seen = asyncio.run(look(fleet, instance, ends))
        sides = {name: _of(seen[name], far) for name, far in zip(ends, ends[::-1], strict=True)}
        connected = any(each is not None and each.state == "connected" for each in sides.values())
        if as_json:
            say_json({name: each and asdict(each) for name, each in sides.items()})
            return
        for name, far in zip(ends, ends[::-1], strict=True):
            if seen[name] is None:
                say(f"{name} does not answer")
            else:
                _side(name, far, sides[name])

    shown(show, watch=watch)
    sys.exit(int(not connected))


def _of(seen: Seen | None, far: str) -> PeerSeen | None:
    return None if seen is None else seen.peers.get(far)


def _side(name: str, far: str, peer: PeerSeen | None) -> None:
    from clan.modules.mesh.seen import for_long, in_ms, in_percent

    if peer is None:
        say(f"{name} knows nothing of {far}")
        return
    way = peer.path
    if way is None or peer.state != "connected":
        say(printable(f"{name} → {peer.name}: {_where(peer)}"))
    else:
        measured = f"{in_ms(way.round_trip)}, {in_percent(way.loss)} lost"
        said = f"{name} → {peer.name}: {way.called}, {measured}, for {for_long(peer.since)}"
        say(printable(said))

    def what(each: LinkSeen) -> str:
        if way is not None and each.id == way.id:
            return "in use" if each.alive else "in doubt"
        return "stands by" if each.alive else "silent"

    rows = [
        (
            f"{each.called} to {each.their_uplink or '?'}",
            what(each),
            in_ms(each.round_trip),
            in_percent(each.loss),
            for_long(each.heard),
            "-" if each.mtu is None else str(each.mtu),
        )
        for each in peer.links
    ]
    if rows:
        say(
            table(("Link", "", "Round trip", "Loss", "Silent", "MTU"), rows, width=terminal_width())
        )
        say()


@click.command(
    cls=Command,
    short_help="Ping a machine from the others, by the mesh.",
    examples=("clan mesh ping nas", "clan mesh ping nas --from laptop --count 10"),
)
@click.argument("machine", shell_complete=machine_names)
@click.option(
    "--from",
    "sources",
    multiple=True,
    metavar="MACHINE",
    shell_complete=machine_names,
    help="Ping from this one; repeatable (default: from all others).",
)
@click.option("--count", type=click.IntRange(1, 60), default=3, show_default=True, help="Packets.")
@network_option
@watch_option
@as_json_option
@click.pass_obj
def ping(
    option: str | None,
    machine: str,
    *,
    sources: tuple[str, ...],
    count: int,
    network: str | None,
    watch: bool,
    as_json: bool,
) -> None:
    """Ping MACHINE at its address for life, there from where the others are.

    Idle pairs find their path by it. The exit status is 1 when it does not answer somebody.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.cli.mesh_agents import on_each, shown
    from clan.deploy.maps import ping as pinged
    from clan.errors import ClanError
    from clan.modules.mesh.keys import address_var

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    target = member_of(fleet, instance, machine)
    members = [name for name in instance.members["member"] if name != target]
    chosen = [member_of(fleet, instance, each) for each in sources] or members
    address = fleet.reach.store.reveal(address_var(instance.name, target))
    failed = False

    def show() -> None:
        nonlocal failed
        answers = asyncio.run(
            on_each(fleet, chosen, lambda remote: pinged(remote, address, count=count))
        )
        failed = False
        rows: list[tuple[str, str, str]] = []
        shapes: dict[str, Any] = {}
        for name, said in answers.items():
            if isinstance(said, ClanError):
                shapes[name] = {"error": said.message}
                rows.append((name, "-", said.message))
                failed = True
                continue
            trips = [each for each in said if each is not None]
            failed = failed or not trips
            shapes[name] = {"roundTrips": said}
            lost = f"{len(said) - len(trips)} of {len(said)} lost" if len(trips) < len(said) else ""
            rows.append((name, _range(trips), lost))
        if as_json:
            say_json({"machine": target, "address": address, "from": shapes})
            return
        note(f"{target} at {address}")
        say(table(("From", "Round trip", ""), rows, width=terminal_width()))

    shown(show, watch=watch)
    sys.exit(int(failed))


def _range(trips: list[Any]) -> str:
    from clan.modules.mesh.seen import in_ms

    if not trips:
        return "no answer"
    least, most = in_ms(min(trips)), in_ms(max(trips))
    return least if least == most else f"{least} to {most}"
