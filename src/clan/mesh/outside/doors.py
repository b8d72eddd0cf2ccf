"""`machine.pyz mesh doors`: holds doors open in the routers of this machine's uplinks.

A door is asked for anew at half its life, and at once when its router says that it lost what it
had. It is given back when its interface goes; when this process alone goes, another one most likely
follows, so only what would stay for ever is given back.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from ipaddress import IPv4Address
from typing import TYPE_CHECKING

from clan.mesh.outside import pcp, seam
from clan.mesh.outside.line import Line
from clan.mesh.outside.router import DoorError, Lease, Router
from clan.mesh.outside.seam import Door, Opened

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

AGAIN, SELDOM = 10.0, 900.0
"""Seconds until a router that opened nothing is asked again: at first, and at most."""
SOONEST = 5.0
"""Seconds between two times that a router is asked, however often it says that it was restarted."""
PARTING = 3.0
"""Seconds that giving back may take."""


async def hold(path: Path, say: Callable[[str], None]) -> None:
    """Hold open what the agent at a socket asks for, until SIGTERM."""
    doors = _Doors(path, say)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ended.set)
    listening = asyncio.create_task(doors.line.listen(say))
    await ended.wait()
    listening.cancel()  # first: what goes on by itself is not told to be gone
    await asyncio.wait([listening])
    await doors.leave()


class _Doors:
    """All of this machine's."""

    def __init__(self, path: Path, say: Callable[[str], None]) -> None:
        self._say = say
        self._held: dict[Door, tuple[Router, asyncio.Task[None]]] = {}
        self._open: dict[Door, tuple[Lease, float]] = {}
        self._parting: set[asyncio.Task[None]] = set()
        self.line = Line(path, seam.DOORS, self._found, self._take)

    async def leave(self) -> None:
        """Hold nothing any more; what ends by itself is left to that."""
        for each in list(self._held):
            lease, _ = self._open.get(each, (None, 0))
            self._drop(each, gives_back=lease is not None and not lease.ends)
        if self._parting:
            await asyncio.wait(self._parting, timeout=2 * PARTING)

    def _found(self) -> bytes:
        now = time.monotonic()
        left = {door: int(until - now) for door, (_, until) in self._open.items()}
        return seam.opened(
            tuple(
                Opened(id=door.id, endpoint=lease.endpoint, life=left[door])
                for door, (lease, _) in self._open.items()
                if left[door] > 0
            )
        )

    def _take(self, line: bytes) -> None:
        wanted = seam.read_doors(line)
        for each in [each for each in self._held if each not in wanted]:
            self._drop(each, gives_back=True)
        for each in wanted:
            if each not in self._held:
                router = Router(each)
                self._held[each] = router, asyncio.create_task(self._hold(router))

    def _drop(self, door: Door, *, gives_back: bool) -> None:
        router, task = self._held.pop(door)
        self._open.pop(door, None)
        parting = asyncio.create_task(_part(router, task, gives_back=gives_back))
        self._parting.add(parting)
        parting.add_done_callback(self._parting.discard)
        self.line.tell()

    async def _hold(self, router: Router) -> None:
        door, said, failed = router.door, "", 0
        while True:
            asked = time.monotonic()
            try:
                lease = await router.open()
            except (DoorError, OSError) as fault:
                wait = min(AGAIN * 2**failed, SELDOM)
                failed = min(failed + 1, 16)
                now = f"{door.uplink}: {fault}"
                epoch = None
            else:
                wait, failed = lease.life / 2, 0
                now = f"{door.uplink}: {lease.endpoint.host} port {lease.endpoint.port} "
                now += f"leads to port {door.port} here, by {lease.by}"
                epoch = None if lease.epoch is None else (lease.epoch, time.monotonic())
                self._open[door] = lease, asked + lease.life
                self.line.tell()
            if now != said:
                self._say(now)
            said = now
            await _restart(door, epoch, wait)
            await asyncio.sleep(max(0.0, asked + SOONEST - time.monotonic()))


async def _part(router: Router, task: asyncio.Task[None], *, gives_back: bool) -> None:
    """Ask no more, and give back what was opened."""
    task.cancel()
    await asyncio.wait([task])
    if gives_back:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(PARTING):
                await router.shut()


async def _restart(door: Door, epoch: tuple[int, float] | None, wait: float) -> None:
    """Wait; no longer than until the router says that it lost what it had."""
    loop = asyncio.get_running_loop()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(wait):
            try:
                with _ears(door) as ears:
                    while True:
                        data, (host, *_) = await loop.sock_recvfrom(ears, 2 * pcp.LONGEST)
                        if host.partition("%")[0] != str(door.gateway):
                            continue
                        with contextlib.suppress(pcp.PcpError):
                            said = pcp.read(data)
                            now = said.epoch, time.monotonic()
                            if epoch is None or pcp.restarted(epoch, now):
                                return
            except OSError:  # somebody else has that port for itself, or the uplink is going
                await asyncio.sleep(wait)


def _ears(door: Door) -> socket.socket:
    """Return a socket for what routers tell everyone (RFC 6887, section 14.1). Raises OSError."""
    is_four = isinstance(door.gateway, IPv4Address)
    made = socket.socket(
        socket.AF_INET if is_four else socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK
    )
    try:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, door.uplink.encode())
        # The groups that every machine is in.
        made.bind(
            ("224.0.0.1", pcp.HEARING) if is_four else ("ff02::1", pcp.HEARING, 0, door.index)
        )
    except BaseException:
        made.close()
        raise
    return made
