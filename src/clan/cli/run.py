"""`clan run`: one command on many machines at once."""

from __future__ import annotations

import asyncio
import shlex
import sys
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names, tag_names
from clan.cli.fleet import Fleet
from clan.cli.output import note, say, say_json
from clan.errors import ClanError

if TYPE_CHECKING:
    from clan.deploy.remote import Remote

AT_ONCE = 16
"""Machines that are logged in to at once."""


@click.command(
    cls=Command,
    context_settings={"ignore_unknown_options": True},
    examples=(
        "clan run -- uptime",
        "clan run --tags server -- systemctl is-active ssh",
        "clan run --on nas --on vps --json -- df -h /",
    ),
)
@click.option(
    "--tags", multiple=True, metavar="TAG", shell_complete=tag_names, help="All with TAG."
)
@click.option(
    "--on", multiple=True, metavar="MACHINE", shell_complete=machine_names, help="This machine."
)
@click.option(
    "--limit",
    type=click.FloatRange(min=0, min_open=True),
    default=900.0,
    show_default=True,
    metavar="SECONDS",
    help="What takes longer on a machine has failed there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.argument("command", nargs=-1, required=True, type=click.UNPROCESSED)
@click.pass_obj
def run(
    option: str | None,
    command: tuple[str, ...],
    *,
    tags: tuple[str, ...],
    on: tuple[str, ...],
    limit: float,
    as_json: bool,
) -> None:
    """Run COMMAND as root on many machines at once; on all, when neither is chosen.

    One word is a line for the machine's shell (`clan run -- 'df -h | grep sd'`), several are a
    program and its arguments. Each line of output is printed with the machine's name before it, as
    soon as a machine has ended. The exit status is 1 when it failed on any.
    """
    fleet = Fleet.of(option)
    chosen = fleet.chosen(on, tags)
    width = max(map(len, chosen), default=0)
    line = command[0] if len(command) == 1 else shlex.join(command)

    async def all_of_them() -> list[Answer]:
        gate = asyncio.Semaphore(AT_ONCE)

        async def one(name: str) -> Answer:
            async with gate:
                answer = await _asked(fleet.remote(name), line, limit)
                if not as_json:
                    answer.show(width)
                return answer

        return list(await asyncio.gather(*map(one, chosen)))

    answers = asyncio.run(all_of_them())
    if as_json:
        say_json([asdict(answer) for answer in answers])
    if any(answer.status != 0 for answer in answers):
        sys.exit(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a machine said. `status` None: the command did not run there, or not to its end."""

    machine: str
    status: int | None
    output: str
    errors: str

    def show(self, width: int) -> None:
        """Print it, each line with the machine's name before it."""
        name = f"{self.machine:<{width}}  "
        for text in self.output.splitlines():
            say(f"{name}{text}")
        for text in self.errors.splitlines():
            note(f"{name}{text}")
        if self.status:
            note(f"{name}{click.style('failed', fg='red')} with exit status {self.status}")


async def _asked(remote: Remote, line: str, limit: float) -> Answer:
    machine = remote.found.machine
    try:
        ended = await remote.ended(line, limit=limit)
    except ClanError as fault:
        return Answer(machine=machine, status=None, output="", errors=str(fault))
    return Answer(
        machine=machine,
        status=ended.status,
        output=ended.output.decode("utf-8", "replace"),
        errors=ended.errors.decode("utf-8", "replace"),
    )
