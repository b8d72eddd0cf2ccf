"""Commands on machines, over whichever network works: input sent, output returned."""

from __future__ import annotations

import asyncio
import json
import shlex
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError
from clan.networks.shell import Desk, Request, shell

if TYPE_CHECKING:
    from clan.networks.connect import Reached
    from clan.networks.hostkeys import FirstContact
    from clan.networks.memory import Memories
    from clan.networks.routes import Destination
    from clan.networks.technology import Context

PROGRAM = "/var/lib/clan/machine.pyz"
PYTHON = "/usr/bin/python3 -I"
OPTIONS = ("BatchMode=yes", "ControlMaster=no", "ControlPath=none", "ConnectTimeout=15")
"""Of ssh's: nothing is asked, and each login is one of its own."""


class RemoteError(ClanError):
    """A command on a machine failed; the message is what it said."""


Input = bytes | Callable[[str, bytes], Awaitable[bytes]]
"""What a command reads: bytes, or what follows from the network it is on and its first line."""

DETACHED = "systemd-run --quiet --collect --pipe --wait --unit="
"""Runs what follows in a unit of its own, which goes on when the login is cut."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How a command ended; `status` 255 with words of ssh's in `errors` is ssh's own failure."""

    status: int
    output: bytes
    errors: bytes


def ignore(by: Reached) -> None:
    """Do nothing about how a machine was reached."""
    del by


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """A machine that commands are run on. Each call is a login of its own; `told` hears of it."""

    found: Destination
    context: Context
    memories: Memories
    host_key: str | None
    policy: FirstContact
    warn: Callable[[str], None]
    record: Callable[[str], None]
    told: Callable[[Reached], None] = ignore

    async def run(
        self,
        command: str,
        *,
        stdin: Input = b"",
        limit: float = 900.0,
        options: tuple[str, ...] = (),
    ) -> bytes:
        """Run a shell command as root and return what it printed.

        Raises RemoteError with its last words, UnreachableError when nothing leads there.
        """
        done = await self.ended(command, stdin=stdin, limit=limit, options=options)
        if done.status:
            said = done.errors.decode("utf-8", "replace").strip()
            raise RemoteError(said.splitlines()[-1] if said else f"exit status {done.status}")
        return done.output

    async def ended(
        self,
        command: str,
        *,
        stdin: Input = b"",
        limit: float = 900.0,
        options: tuple[str, ...] = (),
    ) -> Ended:
        """Run a shell command as root to its end, whichever that is; `options` are ssh's.

        Raises RemoteError after `limit` seconds, UnreachableError when nothing leads there.
        """
        capture = Capture(stdin)
        request = Request(
            policy=self.policy,
            options=(*OPTIONS, *options),
            command=(command,),
        )

        def reached(by: Reached) -> None:
            capture.network = by.route.network.name
            self.told(by)

        desk = Desk(ask=None, tell=reached, warn=self.warn, record=self.record)
        try:
            async with asyncio.timeout(limit):
                status = await shell(
                    self.found,
                    request,
                    host_key=self.host_key,
                    context=replace(self.context, interactive=False),
                    memories=self.memories,
                    desk=desk,
                    run=capture,
                    show=capture.words.append,
                )
        except TimeoutError:
            raise RemoteError(f"{self.found.machine} did not answer in {limit:g} s") from None
        errors = b"".join([capture.errors, *capture.words])
        return Ended(status=status, output=capture.output, errors=errors)

    async def program(self, *words: str, stdin: bytes = b"", options: tuple[str, ...] = ()) -> Any:
        """Run the machine's own program and return its answer."""
        command = f"{PYTHON} {PROGRAM} {shlex.join(words)}"
        return answer(await self.run(command, stdin=stdin, options=options))

    async def send(self, archive: bytes, *words: str, options: tuple[str, ...] = ()) -> Any:
        """Send a program with its data, run it there, and return its answer."""
        # Kept until it has run: it reads its data from itself. In memory, for root alone.
        command = (
            "set -e; umask 077; mkdir -p /run/clan; f=$(mktemp /run/clan/sent.XXXXXX); "
            f'trap \'rm -f "$f"\' EXIT; cat >"$f"; {PYTHON} "$f" {shlex.join(words)}'
        )
        return answer(await self.run(command, stdin=archive, options=options))


class Capture:
    """Runs `ssh` beside others, with input of its own, and keeps what it prints.

    `network` is the one that the next run is over.
    """

    def __init__(self, stdin: Input) -> None:
        self.stdin = stdin
        self.network = ""
        self.output = b""
        self.errors = b""
        self.words: list[bytes] = []

    async def __call__(self, words: list[str]) -> int:
        """Run the program to its end; cancelled, it is ended too."""
        process = await asyncio.create_subprocess_exec(
            *words,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            stdin = self.stdin
            if not isinstance(stdin, bytes):
                first = await process.stdout.readline() if process.stdout else b""
                stdin = await stdin(self.network, first) if first else b""
            self.output, self.errors = await process.communicate(stdin)
        except BaseException:
            if process.returncode is None:
                process.terminate()
                await process.wait()
            raise
        return process.returncode or 0


def answer(printed: bytes) -> Any:
    """Return what the machine's own program answered: the last line, as JSON values."""
    text = printed.decode("utf-8", "replace").strip()
    return json.loads(text.splitlines()[-1]) if text else None
