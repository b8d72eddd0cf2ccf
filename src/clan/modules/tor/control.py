"""Tor's control port: authenticate, let a key in, watch how far Tor has come, own its process.

The format is that of Tor's control-spec. Five commands and one event are all that is needed here,
in lines that hardly change; a library for the whole of it would be a dependency that is ten times
this file, runs threads beside asyncio, and is hardly maintained.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import hmac
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clan.modules.tor.ports import Address

REPLY_LIMIT = 10.0
"""Seconds Tor may take to answer a command."""
_LONGEST = 1 << 20
_COOKIE_BYTES = 32
_TO_US = b"Tor safe cookie authentication server-to-controller hash"
_TO_TOR = b"Tor safe cookie authentication controller-to-server hash"
"""The keys of the two hashes (control-spec, AUTHCHALLENGE)."""
_WORD = re.compile(r'(\w+)=(?:"((?:[^"\\]|\\.)*)"|(\S*))')


class ControlError(Exception):
    """The control port cannot be used, or refused a command; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bootstrap:
    """How far a Tor has come: `percent` of 100, and in Tor's words what it does.

    `warning` is what went wrong last at this stage; `serious` when Tor thinks that a person should
    know.
    """

    percent: int
    summary: str
    warning: str | None = None
    serious: bool = False

    @classmethod
    def of(cls, line: str) -> Bootstrap | None:
        """Read `NOTICE BOOTSTRAP PROGRESS=… TAG=… SUMMARY="…"`; None for any other line."""
        if "BOOTSTRAP" not in line.split():
            return None
        words = keywords(line)
        return cls(
            percent=int(words.get("PROGRESS", "0")),
            summary=words.get("SUMMARY", ""),
            warning=words.get("WARNING"),
            serious=words.get("RECOMMENDATION") == "warn",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Reply:
    """One reply: its status, and the text of each of its lines."""

    status: int
    lines: tuple[str, ...]


class Control:
    """A connection to a control port, one command at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer
        self.turn = asyncio.Lock()
        self.events: deque[_Reply] = deque()

    async def authenticate(self) -> None:
        """Prove that this user may use the control port. Raises ControlError when not."""
        info = await self.ask("PROTOCOLINFO 1")
        auth = next((line for line in info if line.startswith("AUTH ")), "")
        words = keywords(auth)
        methods = words.get("METHODS", "").split(",")
        if "NULL" in methods:
            await self.ask("AUTHENTICATE")
        elif "SAFECOOKIE" in methods:
            await self._prove_cookie(Path(words.get("COOKIEFILE", "")))
        else:
            raise ControlError("its control port wants a password")

    async def _prove_cookie(self, file: Path) -> None:
        """Prove that the cookie was read without sending it, and that Tor has it too."""
        cookie = _cookie(file)
        ours = os.urandom(32)
        (challenge, *_) = await self.ask(f"AUTHCHALLENGE SAFECOOKIE {ours.hex()}")
        words = keywords(challenge)
        said = cookie + ours + bytes.fromhex(words["SERVERNONCE"])
        expected = hmac.digest(_TO_US, said, hashlib.sha256)
        if not hmac.compare_digest(expected, bytes.fromhex(words["SERVERHASH"])):
            raise ControlError(f"what answers at the control port does not know {file}")
        await self.ask(f"AUTHENTICATE {hmac.digest(_TO_TOR, said, hashlib.sha256).hex()}")

    async def own(self) -> None:
        """Have Tor end when this connection does, however that comes about."""
        await self.ask("TAKEOWNERSHIP")

    async def let_in(self, hostname: str, key: str) -> bool:
        """Give Tor the key (X25519, base64) that opens a service; say whether it was new there."""
        name = hostname.removesuffix(".onion")
        (said, *_) = await self.ask(f"ONION_CLIENT_AUTH_ADD {name} x25519:{key}")
        return said == "OK"

    async def let_out(self, hostname: str) -> None:
        """Take back the key that opens a service."""
        await self.ask(f"ONION_CLIENT_AUTH_REMOVE {hostname.removesuffix('.onion')}")

    async def look_up(self, hostname: str) -> None:
        """Have Tor fetch a service's descriptor anew; it does so after this returns."""
        await self.ask(f"HSFETCH {hostname.removesuffix('.onion')}")

    async def bootstrap(self) -> AsyncIterator[Bootstrap]:
        """Yield how far Tor has come, now and at each step, until it is through."""
        await self.ask("SETEVENTS STATUS_CLIENT")
        (now, *_) = await self.ask("GETINFO status/bootstrap-phase")
        line = now.removeprefix("status/bootstrap-phase=")
        while True:
            stage = Bootstrap.of(line)
            if stage is not None:
                yield stage
                if stage.percent == 100:  # noqa: PLR2004 (per cent)
                    break
            if not self.events:
                self._keep(await self._read())
            line = self.events.popleft().lines[0].removeprefix("STATUS_CLIENT ")
        await self.ask("SETEVENTS")

    async def ask(self, command: str) -> tuple[str, ...]:
        """Send a command and return the lines of its reply. Raises ControlError."""
        async with self.turn:
            try:
                async with asyncio.timeout(REPLY_LIMIT):
                    self.writer.write(f"{command}\r\n".encode())
                    await self.writer.drain()
                    while self._keep(reply := await self._read()):
                        pass
            except TimeoutError:
                raise ControlError(
                    f"its control port did not answer in {REPLY_LIMIT:g} s"
                ) from None
            except OSError as fault:
                raise ControlError(f"its control port: {fault}") from None
        if reply.status // 100 != 2:  # noqa: PLR2004 (2yz is success)
            raise ControlError(f"its control port refused: {reply.status} {reply.lines[-1]}")
        return reply.lines

    def _keep(self, reply: _Reply) -> bool:
        """Put an event by; say whether it was one."""
        if reply.status // 100 != 6:  # noqa: PLR2004 (6yz is asynchronous)
            return False
        self.events.append(reply)
        return True

    async def _read(self) -> _Reply:
        """Read one reply: lines `250-…`, `250+…` with data up to a dot, at last `250 …`."""
        lines: list[str] = []
        while True:
            line = await self._line()
            status, kind, text = line[:3], line[3:4], line[4:]
            if not status.isdecimal() or kind not in {" ", "-", "+"}:
                raise ControlError(f"what listens there is no control port: {line[:40]!r}")
            lines.append(text)
            if kind == "+":
                while (data := await self._line()) != ".":
                    lines.append(data)
            if kind == " ":
                return _Reply(status=int(status), lines=tuple(lines))

    async def _line(self) -> str:
        try:
            line = await self.reader.readuntil(b"\r\n")
        except (asyncio.IncompleteReadError, OSError):
            raise ControlError("it closed its control port") from None
        except asyncio.LimitOverrunError:
            raise ControlError("what listens there is no control port") from None
        return line[:-2].decode("utf-8", "replace")


def _cookie(file: Path) -> bytes:
    """Read what only those may who may use the control port. Raises ControlError."""
    try:
        cookie = file.read_bytes()
    except OSError as fault:
        reason = (fault.strerror or str(fault)).lower()
        raise ControlError(f"the key of its control port, {file}: {reason}") from None
    if len(cookie) != _COOKIE_BYTES:
        raise ControlError(f"{file} does not hold the key of a control port")
    return cookie


@contextlib.asynccontextmanager
async def control(address: Address) -> AsyncIterator[Control]:
    """Connect to a control port and authenticate. Raises ControlError."""
    try:
        async with asyncio.timeout(REPLY_LIMIT):
            if isinstance(address, str):
                reader, writer = await asyncio.open_unix_connection(address, limit=_LONGEST)
            else:
                reader, writer = await asyncio.open_connection(*address, limit=_LONGEST)
    except TimeoutError:
        raise ControlError(f"its control port did not answer in {REPLY_LIMIT:g} s") from None
    except OSError as fault:
        said = os.strerror(fault.errno).lower() if fault.errno else str(fault)
        raise ControlError(f"its control port: {said}") from None
    try:
        found = Control(reader, writer)
        await found.authenticate()
        yield found
    finally:
        writer.transport.abort()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def keywords(line: str) -> dict[str, str]:
    r"""Read `KEY=word` and `KEY="words"`, where a backslash hides what follows it."""
    return {
        key: re.sub(r"\\(.)", r"\1", quoted) if quoted else word
        for key, quoted, word in _WORD.findall(line)
    }
