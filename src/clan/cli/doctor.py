"""`clan doctor`: look at a machine's networks on the machine itself, and say what is wrong."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names
from clan.cli.reach import Reach, clan_program

if TYPE_CHECKING:
    from clan.model.exports import Var
    from clan.modules.wireguard.doctor import Case, Finding
    from clan.vars.store import Store

SSH_FAILED = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Public:
    """The public vars of a clan, by its store."""

    store: Store

    def public(self, var: Var) -> str | None:
        """Return a value without its line end; None while it is not there."""
        if var.machine is None:
            return None
        return self.store.read(var.machine, var.generator, var.file)


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
    """Look at the WireGuard interfaces of MACHINE, there, and say what is wrong in words.

    It logs in over whichever network works, changes nothing, and exits with 1 when something is
    wrong: a missing interface, a port that is taken, far ends that do not answer, clocks apart.
    """
    from clan.cli.context import load_clan
    from clan.cli.output import say, say_json
    from clan.modules.wireguard.doctor import cases, diagnose

    reach = Reach.of(clan_dir)
    name = reach.destination(machine).machine
    there = list(cases(name, load_clan(clan_dir), Public(store=reach.store)))
    if not there:
        if as_json:
            say_json([])
        else:
            say(f"{name} is in no WireGuard network: there is nothing to look at")
        return
    shapes: list[dict[str, Any]] = []
    wrong = False
    for case in there:
        saw, ahead = _look(reach, name, case)
        found = diagnose(case, saw, clock=ahead)
        wrong = wrong or any(finding.wrong for finding in found)
        shapes += [
            {
                "network": case.instance.name,
                "wrong": finding.wrong,
                "message": finding.message,
                "hint": finding.hint,
            }
            for finding in found
        ]
        if not as_json:
            _tell(case, saw, found)
    if as_json:
        say_json(shapes)
    sys.exit(int(wrong))


def _look(reach: Reach, machine: str, case: Case) -> tuple[dict[str, Any], float]:
    """Run the program that looks, there; return what it saw, and how far its clock is ahead."""
    from clan.errors import ClanError, UnreachableError
    from clan.modules.wireguard.doctor import question

    words = [*clan_program(), "--clan", str(reach.clan_file.parent), "ssh", "--quiet"]
    done = subprocess.run(
        [*words, machine, "--", "python3", "-I", "-"],
        input=question(case),
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


def _tell(case: Case, saw: dict[str, Any], found: list[Finding]) -> None:
    from clan.cli.output import say

    name = case.instance.name
    if not any(finding.wrong for finding in found):
        answered = [f"{far} {rtt:.1f} ms" for far, rtt in saw["pings"].items() if rtt is not None]
        say(f"{name}: all is well; these answer: {', '.join(answered) or 'none'}")
    for finding in found:
        mark = "wrong" if finding.wrong else "note"
        say(
            f"{name}: {click.style(mark, fg='red' if finding.wrong else 'cyan')}: {finding.message}"
        )
        if finding.hint:
            say(f"    {finding.hint}")
