"""`clan known-hosts`: what plain `ssh` runs as its KnownHostsCommand.

It answers with the machine's key, notes the address where another key was shown so that the next
try passes it over, and at first contact asks the person at the terminal.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from functools import partial
from typing import TYPE_CHECKING

import click

from clan.cli.ask import confirm, has_terminal
from clan.cli.command import Command
from clan.cli.output import warn
from clan.cli.reach import Reach
from clan.errors import HostKeyError

if TYPE_CHECKING:
    from clan.networks.routes import Destination


@click.command(
    "known-hosts",
    cls=Command,
    examples=("KnownHostsCommand clan known-hosts %I %H %t %K",),
)
@click.argument("reason")
@click.argument("host")
@click.argument("key_type", metavar="TYPE")
@click.argument("key")
@click.pass_obj
def known_hosts(clan_dir: str | None, reason: str, host: str, key_type: str, key: str) -> None:
    """Answer ssh's question for the host key of HOST; ssh gives %I %H %t %K.

    `clan ssh-config` prints the line that makes ssh ask here. Fails where the key that was shown is
    not the machine's: ssh ends the connection then, whatever its StrictHostKeyChecking says.
    """
    reach = Reach.of(clan_dir)
    found = reach.destination(host)
    expected = reach.host_key(found.machine)
    if reason == "HOSTNAME":
        expected = _shown(reach, found, f"{key_type} {key}", expected)
        if expected is None:
            sys.exit(HostKeyError.exit_code)
    for each in (expected or "").splitlines():
        click.echo(f"{host} {each}")


def _shown(reach: Reach, found: Destination, key: str, expected: str | None) -> str | None:
    """Deal with the key that a server showed; return it when it is to be taken."""
    from clan.networks.hostkeys import (
        ELSEWHERE,
        FirstContact,
        Meeting,
        Verdict,
        judge,
        mismatch,
        question,
        refusal,
    )
    from clan.networks.memory import Memory

    used = reach.memories.read(found.machine).handed_to(os.getppid())
    meeting = Meeting(
        machine=found.machine,
        network=used.network if used else "(not chosen by clan)",
        address=used.address if used else found.full_name,
        by_multicast=used is None or used.by_multicast,
    )
    verdict = judge(
        key,
        expected,
        policy=FirstContact.ASK,
        by_multicast=meeting.by_multicast,
        terminal=has_terminal(),
    )
    if verdict is Verdict.ASK:
        agreed = asyncio.run(confirm(question(meeting, key)))
        verdict = Verdict.ACCEPT if agreed else Verdict.DECLINED
    if verdict is Verdict.EXPECTED:
        return key
    if verdict is Verdict.ACCEPT:
        reach.record_host_key(found.machine, key)
        return key
    if verdict is Verdict.WRONG:
        if used is not None and expected is not None:
            aside = partial(
                Memory.set_aside,
                network=used.network,
                address=used.address,
                host_key=expected,
                now=time.time(),
            )
            reach.memories.update(found.machine, aside)
        warn(f"{mismatch(meeting, key)}; {ELSEWHERE}")
        return None
    message, hint = refusal(meeting, verdict, key)
    warn(f"{message} ({hint})")
    return None
