"""Giving a machine what it says that it lacks for a task: static programs, a way to its archives.

It says so before it changes anything (`clan.machine.lacks`). What cannot be given is one clear
error, before the switch.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from clan.deploy.archive import proxy, reachable
from clan.deploy.remote import RemoteError
from clan.errors import ClanError
from clan.static import TABLE, version
from clan.static.build import Builds
from clan.system.places import cache_home

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

ATTEMPTS = 3
"""A task is asked for at most so often: as it is, with programs, with a way to archives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Supply:
    """What is given: `static` programs as NAME-VERSION, `words` for the task, `options` for ssh."""

    static: Mapping[str, bytes] = field(default_factory=dict)
    words: tuple[str, ...] = ()
    options: tuple[str, ...] = ()


async def supplied(
    machine: str, task: Callable[[Supply], Awaitable[Any]], say: Callable[[str], None]
) -> Any:
    """Have a machine do a task, given what it turns out to lack; return its answer.

    Raises RemoteError where that cannot be given, and what `task` raises.
    """
    async with contextlib.AsyncExitStack() as stack:
        supply = Supply()
        for _ in range(ATTEMPTS):
            answer = await task(supply)
            lacks = answer.get("lacks") if isinstance(answer, dict) else None
            if not isinstance(lacks, dict):
                return answer
            for name in lacks.get("static", ()):
                supply = await with_program(supply, name, lacks["architecture"], say)
            if "packages" in lacks:
                supply = await with_archives(supply, machine, lacks, say, stack)
    raise RemoteError(f"{machine} lacks again what it was given: {lacks}")


async def with_program(
    supply: Supply, name: str, architecture: str, say: Callable[[str], None]
) -> Supply:
    """Add a program, or have the machine install the package that does in its stead."""
    builds = Builds(folder=cache_home(os.environ) / "static")
    try:
        program = await asyncio.to_thread(builds.build, name, architecture, say)
    except (ClanError, OSError) as fault:
        package = TABLE[name].debian
        say(f"{name}: {fault}; the package {package} is used instead, which may be much slower")
        return replace(supply, words=(*supply.words, "--instead", package))
    data = program.read_bytes()
    say(f"sending {name} for {architecture} ({len(data) / 1e6:.1f} MB)")
    return replace(supply, static={**supply.static, f"{name}-{version(name)}": data})


async def with_archives(
    supply: Supply,
    machine: str,
    lacks: Mapping[str, Any],
    say: Callable[[str], None],
    stack: contextlib.AsyncExitStack,
) -> Supply:
    """Add a way to the machine's archives, for as long as the stack is. Raises RemoteError."""
    sites = [(str(host), int(port)) for host, port in lacks["archives"]]
    named = ", ".join(dict.fromkeys(host for host, _ in sites)) or "none is configured"
    missing = ", ".join(lacks["packages"])
    if not await reachable(sites):
        raise RemoteError(
            f"{machine} lacks {missing}, and neither it nor this computer reaches a package "
            f"archive ({named}): connect one of them, or install it there yourself"
        )
    say(f"it reaches no package archive: {missing} through this computer, from {named}")
    here = await stack.enter_async_context(proxy(sites))
    there = f"/run/clan-archive-{secrets.token_hex(8)}.sock"
    return replace(
        supply,
        words=(*supply.words, "--way", there),
        options=(*supply.options, f"RemoteForward={there} {here}"),
    )
