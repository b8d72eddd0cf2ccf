"""What the commands that look at a mesh share: asking agents, pinging there, and looking again."""

from __future__ import annotations

import asyncio
import sys
import time
from typing import TYPE_CHECKING, TypeVar

from clan.cli.mesh_round import AT_ONCE
from clan.cli.output import warn
from clan.deploy import maps
from clan.errors import ClanError, printable_lines
from clan.mesh.errors import MeshError
from clan.modules.mesh.seen import read_seen

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

    from clan.cli.fleet import Fleet
    from clan.deploy.remote import Remote
    from clan.model.clan import Instance
    from clan.modules.mesh.seen import Seen

EVERY = 2.0
"""Seconds between two looks of `--watch`."""
CLEAR = "\x1b[H\x1b[2J"


T = TypeVar("T")


async def on_each(
    fleet: Fleet, machines: Iterable[str], do: Callable[[Remote], Awaitable[T]]
) -> dict[str, T | ClanError]:
    """Do something on machines, many at once; a fault of one is its answer."""
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(machine: str) -> T | ClanError:
        async with gate:
            try:
                return await do(fleet.remote(machine))
            except MeshError as fault:
                return ClanError(str(fault))
            except ClanError as fault:
                return fault

    names = list(machines)
    return dict(zip(names, await asyncio.gather(*map(one, names)), strict=True))


async def look(fleet: Fleet, instance: Instance, machines: Iterable[str]) -> dict[str, Seen | None]:
    """Ask the agents of machines what they see; None for one that does not answer.

    Why it does not is told on standard error.
    """

    async def ask(remote: Remote) -> Seen:
        return read_seen(await maps.ask(remote, instance.name, {"ask": "status"}))

    found: dict[str, Seen | None] = {}
    for name, said in (await on_each(fleet, machines, ask)).items():
        if isinstance(said, ClanError):
            warn(printable_lines(f"{name}: {said.message}"))
        found[name] = None if isinstance(said, ClanError) else said
    return found


def shown(show: Callable[[], None], *, watch: bool) -> None:
    """Show something once; or again and again, until Ctrl-C, each time in the place of the last."""
    while True:
        if watch and sys.stdout.isatty():
            sys.stdout.write(CLEAR)
        show()
        sys.stdout.flush()
        if not watch:
            return
        time.sleep(EVERY)
