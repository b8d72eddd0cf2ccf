"""Streams to onion services, through the Tor that runs here or one of our own.

A Tor that runs here is used where its control port takes the key that the services ask for;
otherwise one is started for the session. A stream that hangs is asked for again beside it: for
some seconds after a service's Tor has ended, relays still take introductions for it and confirm
them, and a client that has such a confirmation waits for two minutes.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.model.exports import SSH_PORT, Var
from clan.model.generator import former
from clan.modules.tor.control import ControlError, control
from clan.modules.tor.onion import as_base64
from clan.modules.tor.ports import candidates, listens
from clan.modules.tor.process import RunningTor, own_tor
from clan.modules.tor.socks import FinalError, stream
from clan.modules.tor.torrc import AUTH_PRIVATE, auth_generator, digest, lines_of
from clan.networks.race import race
from clan.networks.stream import BANNER_LIMIT, closing_on_failure, see_banner
from clan.networks.technology import Aim, Connection, Context, DialError, Session, SetAsideError
from clan.system.places import cache_home

if TYPE_CHECKING:
    import socket

    from clan.model.route import Network, Route

CIRCUIT_LIMIT = 60.0
"""Seconds until the service's answer, with a Tor that knows its network."""
NEW_LIMIT = 30.0
"""Seconds that a service is given which its machine may not know of, before the one it replaces."""
AGAIN = 3.5
"""Seconds of silence after which a stream is asked for again; one takes 1 to 4 s."""
FETCH = 1.0
"""Seconds that the service's descriptor is given then to be there anew."""
FAILURES = 4
"""Streams that fail, not those that hang, after which no other is asked for."""


class TorSession(Session):
    """Asks Tor for streams to onion services."""

    def __init__(
        self, network: Network, context: Context, stack: contextlib.AsyncExitStack
    ) -> None:
        self.network = network
        self.context = context
        self.stack = stack
        self.starting = asyncio.Lock()
        self.tor: RunningTor | None = None
        self.own = False
        self.remark: str | None = None

    @property
    def keeps(self) -> bool:
        """Whether a Tor of our own carries the streams."""
        return self.own

    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Open a stream to the machine's onion service, or to the one that it replaces."""
        ways = self._ways(route, aim.port or route.port)
        ways = [way for way in ways if way.shown not in aim.avoid]
        if not ways:
            raise SetAsideError(f"{route.machine}'s onion service")
        async with self.starting:
            if self.tor is None:
                self.tor = await self._open()
        for way in ways[:-1]:
            with contextlib.suppress(DialError):
                return await self._dial(self.tor, way, aim, NEW_LIMIT)
        return await self._dial(self.tor, ways[-1], aim, CIRCUIT_LIMIT)

    def _ways(self, route: Route, port: int) -> list[_Way]:
        """Return what to ask for: until a machine has heard of a new name or key, the old too."""
        host = route.hosts[0]
        auth = Var(machine=None, generator=auth_generator(self.network.name), file=AUTH_PRIVATE)
        name = host if isinstance(host, str) else self.context.reveal(host)
        old_name = None if isinstance(host, str) else self._former(host)
        key = self.context.reveal(auth)
        old_key = self._former(auth)
        # The name is a secret: what is shown, and remembered, is whose it is.
        shown, more = "onion service", "" if port == SSH_PORT else f", port {port}"
        ways = [_Way(name, key, port, f"{route.machine}'s {shown}{more}", former=False)]
        if old_key or old_name:
            old = f"{route.machine}'s former {shown}{more}"
            ways.append(_Way(old_name or name, old_key or key, port, old, former=True))
        return ways

    def _former(self, var: Var) -> str | None:
        with contextlib.suppress(ClanError):  # it is not there, or not for us
            return self.context.reveal(replace(var, file=former(var.file)))
        return None

    async def _dial(self, tor: RunningTor, way: _Way, aim: Aim, limit: float) -> Connection:
        try:
            await self._let_in(tor, way.name, as_base64(way.key))
        except ControlError as fault:
            raise DialError(f"Tor: {fault}") from None
        self.context.progress(f"Tor looks for {way.shown}")
        outcome = await self._streams(tor, way, limit)
        with closing_on_failure(outcome.sock):
            if aim.port is None:
                await see_banner(outcome.sock, way.shown, BANNER_LIMIT)
        return Connection(
            sock=outcome.sock,
            address=way.shown,
            rtt=outcome.seconds,
            remark=self.remark,
            former=way.former,
        )

    async def _open(self) -> RunningTor:
        """Take the Tor that runs here, or start one."""
        for ports in candidates(self.network):
            if not listens(ports.socks):
                continue
            try:
                found = await self.stack.enter_async_context(control(ports.control))
            except ControlError as fault:
                self.remark = f"through a Tor of its own: one runs here, but {fault}"
                continue
            return RunningTor(socks=ports.socks, control=found)
        if not self.context.locate().sources:
            raise DialError("this computer is on no network")  # of which Tor would say nothing
        lines = lines_of(self.network.settings)
        folder = cache_home(os.environ) / "tor" / digest(lines)
        tor = await self.stack.enter_async_context(own_tor(folder, lines, self.context.progress))
        self.own = True
        return tor

    async def _let_in(self, tor: RunningTor, name: str, key: str) -> None:
        """Give Tor the key; take it back with the session from one that lives on."""
        if await tor.control.let_in(name, key) and not self.own:
            self.stack.push_async_callback(_let_out, tor, name)

    async def _streams(self, tor: RunningTor, way: _Way, limit: float) -> _Stream:
        """Ask for a stream, and again while none comes for `limit` seconds; the first is used."""
        tries = _Tries(tor, way.name, way.port)
        attempts = round(limit / AGAIN)
        try:
            async with asyncio.timeout(limit):
                outcome = await race(
                    [partial(tries.one) for _ in range(attempts)],
                    discard=_Stream.close,
                    stagger=AGAIN,
                    grace=0.0,
                )
        except TimeoutError:
            raise DialError(f"the onion service did not answer in {limit:g} s") from None
        if outcome.value is None:
            raise DialError(str(outcome.laps[-1].error))
        return outcome.value


@dataclass(frozen=True, slots=True)
class _Way:
    """A service: its name, the key that opens it, its port, and how people are told of it.

    `former` is one that another replaces.
    """

    name: str
    key: str
    port: int
    shown: str
    former: bool = field(kw_only=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Stream:
    sock: socket.socket
    seconds: float

    async def close(self) -> None:
        """Give it up."""
        self.sock.close()


class _Tries:
    """Asks for streams to one service until one is refused for good."""

    def __init__(self, tor: RunningTor, name: str, port: int) -> None:
        self.tor = tor
        self.name = name
        self.port = port
        self.final: DialError | None = None
        self.begun = 0
        self.failed = 0

    async def one(self) -> _Stream:
        """Ask once; after others failed, only after a moment.

        After others hung, what Tor knows of the service may be old: introductions that are still
        confirmed, and lead nowhere. It does not look again by itself while they are.
        """
        if self.final is not None:
            raise self.final
        clock = asyncio.get_running_loop().time
        self.begun += 1
        await asyncio.sleep(self.failed * 0.5)
        if self.begun > self.failed + 1:
            with contextlib.suppress(ControlError):  # then the stream is asked for as it is
                await self.tor.control.look_up(self.name)
                await asyncio.sleep(FETCH)
        begin = clock()
        try:
            sock = await stream(self.tor.socks, self.name, self.port)
        except DialError as refused:
            self.failed += 1
            if isinstance(refused, FinalError) or self.failed == FAILURES:
                self.final = refused
            raise
        return _Stream(sock=sock, seconds=clock() - begin)


async def _let_out(tor: RunningTor, name: str) -> None:
    with contextlib.suppress(ControlError):  # then it has forgotten the key by itself
        await tor.control.let_out(name)
