"""`clan doctor`: look at a machine's networks on the machine itself, and say what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Protocol

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names
from clan.cli.reach import Reach, clan_program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clan.model.clan import Clan
    from clan.model.finding import Finding
    from clan.vars.store import Store

SSH_FAILED = 255


@click.command(
    cls=Command,
    examples=(
        "clan doctor laptop1",
        "clan doctor server1 --json",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
@click.pass_obj
def doctor(clan_dir: str | None, *, machine: str, as_json: bool) -> None:
    """Look at the mesh and the WireGuard interfaces of MACHINE, there, and say what is wrong.

    It logs in over whichever network works, changes nothing, and exits with 1 when something is
    wrong: an agent that does not run, IPv6 that is off, a missing interface, a port that is taken,
    far ends that do not answer, clocks apart.
    """
    from clan.cli.context import load_clan
    from clan.cli.output import say, say_json

    reach = Reach.of(clan_dir)
    name = reach.destination(machine).machine
    there = list(_looks(name, load_clan(clan_dir), reach.store))
    if not there:
        if as_json:
            say_json([])
        else:
            say(f"{name} is in no mesh and no WireGuard network: there is nothing to look at")
        return
    shapes: list[dict[str, Any]] = []
    wrong = False
    for look in there:
        saw, ahead = _look(reach, name, look.question)
        found = look.diagnose(saw, clock=ahead)
        wrong = wrong or any(finding.wrong for finding in found)
        shapes += [
            {
                "network": look.network,
                "wrong": finding.wrong,
                "message": finding.message,
                "hint": finding.hint,
            }
            for finding in found
        ]
        if not as_json:
            _tell(look, saw, found)
    if as_json:
        say_json(shapes)
    sys.exit(int(wrong))


class Diagnose(Protocol):
    """Says what is wrong."""

    def __call__(self, saw: dict[str, Any], *, clock: float) -> list[Finding]:
        """Return findings; `clock` is by how many seconds the clock there is ahead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One network of a machine: what is asked there, and what the answer means."""

    network: str
    question: str
    diagnose: Diagnose
    well: Callable[[dict[str, Any]], str]
    """What to say of it where nothing is wrong."""


def _looks(machine: str, clan: Clan, values: Store) -> Iterator[Look]:
    """Yield a look at each network of a machine whose module has a doctor."""
    modules = {each.module.name for each in clan.instances.values()}
    if "mesh" in modules:
        from clan.modules.mesh import doctor as of_mesh

        for member in of_mesh.cases(machine, clan, values):
            yield Look(
                network=member.instance.name,
                question=of_mesh.question(member),
                diagnose=partial(of_mesh.diagnose, member),
                well=of_mesh.well,
            )
    if "wireguard" in modules:
        from clan.modules.wireguard import doctor as of_wireguard

        for link in of_wireguard.cases(machine, clan, values):
            yield Look(
                network=link.instance.name,
                question=of_wireguard.question(link),
                diagnose=partial(of_wireguard.diagnose, link),
                well=of_wireguard.well,
            )


def _look(reach: Reach, machine: str, question: str) -> tuple[dict[str, Any], float]:
    """Run the program that looks, there; return what it saw, and how far its clock is ahead."""
    from clan.errors import ClanError, UnreachableError

    words = [*clan_program(), "--clan", str(reach.clan_file.parent), "ssh", "--quiet"]
    done = subprocess.run(
        [*words, machine, "--", "python3", "-I", "-"],
        input=question,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    ended = time.time()
    if done.returncode == SSH_FAILED:
        raise UnreachableError(
            f"{machine} cannot be logged in to, so nothing was looked at there",
            hint=f"`clan network ping {machine}` tells which networks lead there now",
        )
    if done.returncode:
        raise ClanError(f"looking at {machine} failed with exit status {done.returncode}")
    saw: dict[str, Any] = json.loads(done.stdout)
    # What it saw was printed last, so all but the way back lies before it.
    return saw, float(saw["time"]) - ended


def _tell(look: Look, saw: dict[str, Any], found: list[Finding]) -> None:
    from clan.cli.output import say

    if not any(finding.wrong for finding in found):
        say(f"{look.network}: {look.well(saw)}")
    for finding in found:
        mark = "wrong" if finding.wrong else "note"
        color = "red" if finding.wrong else "cyan"
        say(f"{look.network}: {click.style(mark, fg=color)}: {finding.message}")
        if finding.hint:
            say(f"    {finding.hint}")
