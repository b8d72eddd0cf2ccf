"""Opening streams: TCP by address, several addresses at once, through jump hosts; seeing sshd.

An ssh server speaks first. Its banner is only peeked at, so that `ssh` still reads it from the
connection it is given.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import socket
import subprocess
import tempfile
import threading
from functools import partial
from typing import TYPE_CHECKING

from clan.model.exports import SSH_PORT
from clan.networks.hostkeys import ELSEWHERE
from clan.networks.race import race
from clan.networks.technology import Aim, Connection, Context, DialError, SetAsideError
from clan.system.ssh import identity_options

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clan.model.route import Jump
    from clan.system.names import SocketAddress

CONNECT_LIMIT = 5.0
"""Seconds a TCP connection may take: two repetitions of what was lost on the way."""
BANNER_LIMIT = 10.0
"""Seconds an ssh server may take to show its banner."""
JUMP_LIMIT = 30.0
"""Seconds until the banner is there through jump hosts, each with a login of its own."""
JUMP_TRIES = 4
OURS = ("error: ", "warning: ")
"""How lines of `clan` begin where ssh runs it on the way: they say more than ssh's after them."""
CHUNK = 1 << 16
"""Bytes that are carried at once."""
PREAMBLE = 8192
"""Bytes a server may send before its banner (RFC 4253, section 4.2 allows lines before it)."""
PREAMBLE_LIMIT = 1.0
"""Seconds that may pass between a server's first words and its banner."""


def written(address: SocketAddress) -> str:
    """Write a socket address as people do: `203.0.113.5:22`, `[fe80::1%eth0]:22`."""
    family, place = address
    host, port = place[0], place[1]
    if family == socket.AF_INET:
        return f"{host}:{port}"
    scope = place[3] if len(place) > 3 else 0  # noqa: PLR2004 (IPv6 has a scope)
    if scope and "%" not in host:
        with contextlib.suppress(OSError):
            host = f"{host}%{socket.if_indextoname(scope)}"
    return f"[{host}]:{port}"


def reason(fault: OSError) -> str:
    """Say in the system's words what went wrong; asyncio puts the address in their place."""
    return os.strerror(fault.errno).lower() if fault.errno else str(fault)


async def open_any(addresses: Sequence[SocketAddress], aim: Aim) -> Connection:
    """Connect to the first of several addresses of one machine that answers.

    Raises DialError naming every address that failed and how.
    """
    usable = [address for address in addresses if written(address) not in aim.avoid]
    if not usable:
        shown = ", ".join(written(address) for address in addresses)
        raise SetAsideError(shown)
    outcome = await race(
        [partial(open_address, address, aim) for address in usable],
        discard=close,
        grace=0.0,
    )
    if outcome.value is None:
        raise DialError("; ".join(dict.fromkeys(str(lap.error) for lap in outcome.laps)))
    return outcome.value


async def open_address(address: SocketAddress, aim: Aim) -> Connection:
    """Connect to one address, and for the ssh port wait until the banner can be seen."""
    family, place = address
    loop = asyncio.get_running_loop()
    sock = socket.socket(family, socket.SOCK_STREAM | getattr(socket, "SOCK_CLOEXEC", 0))
    with closing_on_failure(sock):
        sock.setblocking(False)
        # Interactive streams: what is typed is sent at once.
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        begin = loop.time()
        try:
            async with asyncio.timeout(CONNECT_LIMIT):
                await loop.sock_connect(sock, place)
        except TimeoutError:
            raise DialError(f"no answer from {written(address)} in {CONNECT_LIMIT:g} s") from None
        except OSError as fault:
            raise DialError(f"{written(address)}: {reason(fault)}") from None
        rtt = loop.time() - begin
        if aim.port is None:
            await see_banner(sock, written(address), BANNER_LIMIT)
        return Connection(sock=sock, address=written(address), rtt=rtt)


async def see_banner(sock: socket.socket, address: str, limit: float) -> None:
    """Wait until an ssh server's banner can be read from `sock`, and leave it there.

    Raises DialError when the stream ends, says something else, or says nothing for `limit` seconds.
    """
    seen = b""
    try:
        async with asyncio.timeout(limit) as patience:
            while True:
                await _readable(sock)
                peeked = sock.recv(PREAMBLE, socket.MSG_PEEK)
                if any(line.startswith(b"SSH-") for line in peeked.splitlines()):
                    return
                if not peeked:
                    raise DialError(f"{address} closed the connection without an ssh banner")
                if not seen:
                    patience.reschedule(asyncio.get_running_loop().time() + PREAMBLE_LIMIT)
                seen = peeked
                # What was peeked stays readable, so more of it has to be looked for.
                await asyncio.sleep(0.01)
    except TimeoutError:
        said = seen.split(b"\n", 1)[0][:60].decode("ascii", "replace").strip()
        raise DialError(
            f"{address} is not an ssh server: it said {said!r}"
            if said
            else f"{address} accepted, but no ssh banner came in {limit:g} s"
        ) from None
    except OSError as fault:
        raise DialError(f"{address}: {reason(fault)}") from None


async def _readable(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    ready = asyncio.Event()
    loop.add_reader(sock, ready.set)
    try:
        await ready.wait()
    finally:
        loop.remove_reader(sock)


async def open_jump(
    host: str, port: int, jumps: Sequence[Jump], aim: Aim, context: Context
) -> Connection:
    """Reach `host` through jump hosts with the system's ssh.

    The stream is one end of a socket pair; the other is `ssh -W`'s, which ends when the stream
    does. The round trip it reports holds the logins on the way.
    """
    shown = f"{host_port(host, port)} via {', '.join(str(jump) for jump in jumps)}"
    if shown in aim.avoid:
        raise SetAsideError(shown)
    command = jump_command(host, port, jumps, context)
    if jumps[-1].machine is not None:
        # Where something else answered for a machine of the clan, its address is set aside by the
        # time that ssh gives up, and the next try goes elsewhere.
        for _ in range(JUMP_TRIES - 1):
            with contextlib.suppress(_WrongJumpError):
                return await _jump(command, shown, aim)
    return await _jump(command, shown, aim)


class _WrongJumpError(DialError):
    """What answered for a jump host was not it."""


async def _jump(command: Sequence[str], shown: str, aim: Aim) -> Connection:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    ours, theirs = socket.socketpair()
    with closing_on_failure(ours), tempfile.TemporaryFile() as said:
        with theirs:
            ends = theirs.fileno()
            ssh = subprocess.Popen(  # noqa: ASYNC220 (starting is quick; nothing is waited for)
                command, stdin=ends, stdout=ends, stderr=said
            )
        ours.setblocking(False)
        try:
            if aim.port is None:
                await see_banner(ours, shown, JUMP_LIMIT)
        except BaseException as fault:
            ssh.terminate()
            ssh.wait()
            said.seek(0)
            words = said.read(4096).decode("utf-8", "replace")
            if isinstance(fault, DialError) and words.strip():
                kind = _WrongJumpError if ELSEWHERE in words else DialError
                raise kind(f"{shown}: {_telling_line(words)}") from None
            raise
        # It ends by itself when the stream does, perhaps after this process; nobody else waits.
        threading.Thread(target=ssh.wait, name="reap ssh -W", daemon=True).start()
        return Connection(sock=ours, address=shown, rtt=loop.time() - begin)


def _telling_line(words: str) -> str:
    lines = [line.rstrip() for line in words.strip().splitlines()]
    told = [line.partition(": ")[2] for line in lines if line.startswith(OURS)]
    return (told or lines)[-1]


def jump_command(host: str, port: int, jumps: Sequence[Jump], context: Context) -> list[str]:
    """Return the `ssh -W` command whose standard input and output are a stream to `host`."""
    *before, last = jumps
    command = [context.ssh(), "-W", host_port(host, port)]
    if not context.interactive:
        command += ["-o", "BatchMode=yes"]
    if last.machine is not None:
        # One of the clan's machines: the lines of `clan ssh-config`, on the command line.
        clan = shlex.join(context.clan_command)
        command += ["-o", f"ProxyCommand={clan} connect %n", "-o", "ProxyUseFdpass=yes"]
        command += ["-o", f"KnownHostsCommand={clan} known-hosts %I %H %t %K"]
        command += identity_options(last.machine)
        command += ["-l", last.target.user or "root"]
        return [*command, "--", last.machine]
    if before:
        onward = jump_command(last.target.host, last.target.port or SSH_PORT, before, context)
        command += ["-o", f"ProxyCommand={shlex.join(onward)}"]
    if last.target.port:
        command += ["-p", str(last.target.port)]
    if last.target.user:
        command += ["-l", last.target.user]
    return [*command, "--", last.target.host]


def host_port(host: str, port: int) -> str:
    """Write a host and a port as `ssh -W` reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


async def pump(one: socket.socket, other: socket.socket) -> None:
    """Carry bytes both ways between two non-blocking sockets until both directions have ended."""
    await asyncio.gather(_flow(one, other), _flow(other, one))


async def _flow(source: socket.socket, sink: socket.socket) -> None:
    """Carry bytes one way; an end that fails ends both, as nothing can be told the other side."""
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(source, CHUNK):
            await loop.sock_sendall(sink, data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        for sock in (source, sink):
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def closing_on_failure(sock: socket.socket) -> Iterator[None]:
    """Close the socket when what is done with it fails or is cancelled."""
    try:
        yield
    except BaseException:
        sock.close()
        raise


async def close(connection: Connection) -> None:
    """Close a connection that is not used."""
    connection.sock.close()
