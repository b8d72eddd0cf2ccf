"""`clan machines status|generations|rollback|gc|uninstall`: what machines have, and going back."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names
from clan.cli.deploy import AT_ONCE, as_json_option, limit_option, loss_option, target_option
from clan.cli.fleet import Fleet, Progress, each
from clan.cli.output import note, say, say_json, table, terminal_width

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.deploy.update import Outcome


@click.command(cls=Command, examples=("clan machines generations nas",))
@click.argument("machine", shell_complete=machine_names)
@as_json_option
@click.pass_obj
def generations(option: str | None, machine: str, *, as_json: bool) -> None:
    """List the generations that MACHINE has, and which of them runs."""
    fleet = Fleet.of(option)
    (name,) = fleet.chosen([machine], [])
    status = asyncio.run(fleet.remote(name).program("status"))
    if as_json:
        say_json(status)
        return
    rows = []
    for found in status["generations"]:
        marks = [mark for mark in ("current", "confirmed") if status[mark] == found["number"]]
        rows.append([str(found["number"]), _moment(found["made"]), ", ".join(marks)])
    say(table(["Generation", "Made (UTC)", ""], rows, width=terminal_width()))


@click.command(
    cls=Command,
    examples=(
        "clan machines rollback nas",
        "clan machines rollback nas 3",
        "clan machines rollback nas 0 --accept-loss tor",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@click.argument("number", type=int, required=False)
@limit_option
@target_option
@loss_option
@as_json_option
@click.pass_obj
def rollback(
    option: str | None,
    machine: str,
    number: int | None,
    *,
    confirm_timeout: float | None,
    target_host: str | None,
    accept_loss: tuple[str, ...],
    as_json: bool,
) -> None:
    """Switch MACHINE to generation NUMBER, or to the one before the one that runs.

    It goes back by itself when that does not work or cuts it off.
    """
    from clan.cli.rounds import limit_of
    from clan.deploy.update import Terms, go_back
    from clan.errors import ClanError

    fleet = Fleet.of(option)
    (name,) = fleet.chosen([machine], [])
    fleet.has_networks(accept_loss)
    remote = fleet.remote(name, target_host=target_host)
    progress = Progress([name], quiet=as_json)

    async def back() -> Outcome:
        wanted = number
        if wanted is None:
            status = await remote.program("status")
            earlier = [
                found["number"]
                for found in status["generations"]
                if found["number"] < status["current"]
            ]
            if not earlier:
                raise ClanError(f"{name} has no generation before the one that runs")
            wanted = max(earlier)
        return await go_back(
            remote,
            wanted,
            Terms(limit=confirm_timeout or limit_of(remote), accept_loss=frozenset(accept_loss)),
            lambda text: progress(name, text),
            leases=fleet.reach.leases,
        )

    outcome = asyncio.run(back())
    number_now = f" to generation {outcome.number}" if outcome.good else ""
    reason = f": {outcome.reason}" if outcome.reason else ""
    progress(name, f"{'switched' if outcome.good else outcome.state}{number_now}{reason}")
    if as_json:
        say_json(outcome.to_json())
    if not outcome.good:
        sys.exit(1)


@click.command(cls=Command, examples=("clan machines status", "clan machines status --json"))
@click.argument("machines", nargs=-1, shell_complete=machine_names)
@as_json_option
@click.pass_obj
def status(option: str | None, machines: tuple[str, ...], *, as_json: bool) -> None:
    """Show of each machine which generation runs, and whether it is what the clan says."""
    from clan.errors import ClanError, HostKeyError

    fleet = Fleet.of(option)
    chosen = fleet.chosen(machines, [])
    command = (
        "cd /var/lib/clan 2>/dev/null || exit 0; "
        "readlink current confirmed; stat -c %Y current/manifest.json; cat current/manifest.json"
    )
    answers = asyncio.run(each([fleet.remote(name) for name in chosen], command, at_once=AT_ONCE))
    shapes = []
    for name, answer in zip(chosen, answers, strict=True):
        shape: dict[str, Any] = {
            "machine": name,
            "state": "unreachable",
            "generation": None,
            "since": None,
            "changes": None,
        }
        if isinstance(answer, HostKeyError):
            shape["state"] = "host key not confirmed"
        elif not isinstance(answer, ClanError):
            shape |= _standing(answer, fleet.outlook(name)[0].manifest)
        shapes.append(shape)
    if as_json:
        say_json(shapes)
        return
    rows = []
    for shape in shapes:
        number = "-" if shape["generation"] is None else str(shape["generation"])
        since = "-" if shape["since"] is None else _moment(shape["since"])
        count = shape["changes"]
        behind = f" by {count} change{'' if count == 1 else 's'}" if count else ""
        state = shape["state"] + (behind if shape["state"] == "behind" else "")
        rows.append([shape["machine"], number, since, state])
    say(table(["Machine", "Generation", "Made (UTC)", "State"], rows, width=terminal_width()))


def _standing(answer: bytes, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Say how a machine stands, from what it has and what it is to have."""
    from clan.plan.diff import changes

    lines = answer.decode("utf-8", "replace").splitlines()
    if not lines:
        return {"state": "not installed"}
    current, confirmed = (int(line.rpartition("/")[2]) for line in lines[:2])
    has = json.loads(lines[3])
    count = len(changes(has, wanted))
    if current != confirmed:
        state = f"waiting (confirmed is {confirmed})"
    else:
        state = "up to date" if has.get("hash") == wanted["hash"] else "behind"
    return {"state": state, "generation": current, "since": float(lines[2]), "changes": count}


def _moment(seconds: float) -> str:
    """Write seconds since 1970 as a date and a time of day, in UTC."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M")


@click.command(cls=Command, examples=("clan machines uninstall nas",))
@click.argument("machine", shell_complete=machine_names)
@target_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def uninstall(
    option: str | None, machine: str, *, target_host: str | None, yes: bool, as_json: bool
) -> None:
    """Take all that clan put on MACHINE away again. Packages and users stay."""
    from clan.cli.edits import ask
    from clan.deploy.bundle import bundle

    fleet = Fleet.of(option)
    (name,) = fleet.chosen([machine], [])
    if not yes:
        ask(f"Take clan off {name}, its keys included?")
    # The program is sent anew, so that it can be repeated where it was interrupted.
    asyncio.run(fleet.remote(name, target_host=target_host).send(bundle(), "uninstall"))
    if as_json:
        say_json({"machine": name, "state": "uninstalled"})
    else:
        note(f"{name} is as it was before")


@click.command(cls=Command, examples=("clan machines gc", "clan machines gc nas"))
@click.argument("machines", nargs=-1, shell_complete=machine_names)
@as_json_option
@click.pass_obj
def gc(option: str | None, machines: tuple[str, ...], *, as_json: bool) -> None:
    """Remove old generations from MACHINES; the latest few stay."""
    from clan.deploy.remote import PROGRAM, PYTHON
    from clan.errors import ClanError

    fleet = Fleet.of(option)
    chosen = fleet.chosen(machines, [])

    command = f"{PYTHON} {PROGRAM} gc"
    remotes = [fleet.remote(name) for name in chosen]
    shapes: list[dict[str, Any]] = []
    for name, answer in zip(
        chosen, asyncio.run(each(remotes, command, at_once=AT_ONCE)), strict=True
    ):
        if isinstance(answer, ClanError):
            shapes.append({"machine": name, "removed": [], "error": answer.message})
        else:
            shapes.append({"machine": name, "removed": json.loads(answer), "error": None})
    if as_json:
        say_json(shapes)
    else:
        rows = [
            [s["machine"], ", ".join(map(str, s["removed"])) or "-"]
            for s in shapes
            if s["error"] is None
        ]
        if rows:
            say(table(["Machine", "Generations removed"], rows, width=terminal_width()))
        for shape in shapes:
            if shape["error"]:
                note(f"{shape['machine']}  failed: {shape['error']}")
    if any(shape["error"] for shape in shapes):
        sys.exit(1)
