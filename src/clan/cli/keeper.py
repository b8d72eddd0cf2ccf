"""A stream whose session has to outlive the command that opened it: a process that keeps both.

ssh with ProxyUseFdpass waits until its proxy command has ended, and then uses the stream. Where
something was started to carry that stream, it must not end with the command: a child process opens
the stream, hands it to its parent, and stays until the stream is over.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Give(Protocol):
    """Hands a stream to the command."""

    async def __call__(self, stream: socket.socket, *, keeps: bool) -> None:
        """Hand it over; when what carries it has to be kept, return once the stream is over."""


def kept(work: Callable[[Give], Awaitable[None]], *, apart: bool) -> socket.socket | None:
    """Run `work`, and return the stream that it gives, blocking.

    With `apart` it is run by a child process: this returns None there, when all is over. A child
    that gives no stream has said why, and its exit status is this process's.
    """
    if not apart:
        return asyncio.run(_here(work))
    near, far = socket.socketpair()
    # Before there is a loop or a thread: the child is a process like any other.
    child = os.fork()
    if not child:
        near.close()
        with far:
            _Keeper(far).run(work)
        return None
    far.close()
    with near:
        _, passed, _, _ = socket.recv_fds(near, 1, 1)
    if not passed:
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        sys.exit(code if code >= 0 else 128 - code)
    stream = socket.socket(fileno=passed[0])
    stream.setblocking(True)
    return stream


async def _here(work: Callable[[Give], Awaitable[None]]) -> socket.socket:
    given: list[socket.socket] = []

    async def give(stream: socket.socket, *, keeps: bool) -> None:
        del keeps
        given.append(stream)

    await work(give)
    given[0].setblocking(True)
    return given[0]


class _Keeper:
    """The child's part."""

    def __init__(self, parent: socket.socket) -> None:
        self.parent = parent

    def run(self, work: Callable[[Give], Awaitable[None]]) -> None:
        """Run the work; give it up when the parent ends before it has the stream."""
        with contextlib.suppress(asyncio.CancelledError):
            asyncio.run(self._watched(work))
            return
        sys.exit(1)

    async def _watched(self, work: Callable[[Give], Awaitable[None]]) -> None:
        task = asyncio.ensure_future(work(self._give))
        # The parent says nothing: that it can be read means that it ended.
        asyncio.get_running_loop().add_reader(self.parent, task.cancel)
        try:
            await task
        finally:
            self._let_go()

    async def _give(self, stream: socket.socket, *, keeps: bool) -> None:
        from clan.networks.stream import pump

        self._let_go()
        with stream:
            if not keeps:
                socket.send_fds(self.parent, [b"\0"], [stream.fileno()])
                return
            ours, theirs = socket.socketpair()
            with ours:
                with theirs:
                    socket.send_fds(self.parent, [b"\0"], [theirs.fileno()])
                _detach()
                ours.setblocking(False)
                await pump(ours, stream)

    def _let_go(self) -> None:
        asyncio.get_running_loop().remove_reader(self.parent)


def _detach() -> None:
    """Leave the terminal, and whatever waits for this process's input and output to be closed."""
    os.setsid()
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):
        os.dup2(null, standard)
    os.close(null)
