"""A Tor of our own: started for a session, gone with it, whatever becomes of this process.

What Tor learns of its network is kept between runs, in a folder of the user's cache, so that the
next start takes two seconds. A Tor locks its folder: each that runs at once has one of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.modules.tor.control import Control, ControlError, control
from clan.modules.tor.ports import listens
from clan.networks.technology import DialError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Sequence

    from clan.modules.tor.ports import Address

AT_ONCE = 64
"""Tors that one user may have running at once."""
START_LIMIT = 10.0
"""Seconds until Tor's control port is there."""
STALL_LIMIT = 60.0
"""Seconds at one stage after which Tor is given up."""
WARNED_LIMIT = 10.0
"""The same once Tor itself thinks that a person should know what is wrong."""
STOP_LIMIT = 5.0
"""Seconds Tor may take to end."""
PATH_BYTES = 100
"""What fits into a Unix socket's address with some room (unix(7): 108; 104 on macOS)."""
_POLL = 0.02
_LEARNT = (
    "cached-certs",
    "cached-microdesc-consensus",
    "cached-microdescs",
    "cached-microdescs.new",
    "state",  # with the guards: a second Tor that chose others would show them more of a user
)
"""What a Tor knows of its network, by the names of its DataDirectory's files (tor(1), FILES)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningTor:
    """A Tor that can be asked for streams: its SOCKS port and, authenticated, its control port."""

    socks: Address
    control: Control


@contextlib.asynccontextmanager
async def own_tor(
    folder: Path,
    lines: Sequence[str],
    progress: Callable[[str], None],
    *,
    stall: float = STALL_LIMIT,
) -> AsyncIterator[RunningTor]:
    """Run a Tor that is told `lines` until the context is left; it is through its bootstrap.

    `folder` is where such Tors keep what they learn, `stall` the seconds at one stage after which
    Tor is given up. Raises DialError that says how far it came.
    """
    program = shutil.which("tor")
    if program is None:
        raise DialError("Tor is not installed on this computer (Debian's package: tor)")
    with _slot(folder) as (home, lock), _socket_folder(home) as place:
        log = home / "log"
        process = _start(program, home, _torrc(home, place, lines), lock, log)
        try:
            async with _controlled(process, place / "control", log) as found:
                await _bootstrapped(found, progress, stall)
                yield RunningTor(socks=str(place / "socks"), control=found)
        finally:
            await _stop(process)


def _torrc(home: Path, place: Path, lines: Sequence[str]) -> str:
    """Return what Tor is told: its folder, its sockets, and `lines`."""
    mine = (
        f"DataDirectory {_quoted(home)}",
        f"SocksPort unix:{_quoted(place / 'socks')} ExtendedErrors",
        f"ControlPort unix:{_quoted(place / 'control')}",
        "CookieAuthentication 1",
        f"CookieAuthFile {_quoted(place / 'cookie')}",
        # Looked at every 15 s, for the time until the control port owns the process.
        f"__OwningControllerProcess {os.getpid()}",
        "ClientOnly 1",
        "Log notice stdout",
    )
    return "".join(f"{line}\n" for line in (*mine, *lines))


def _start(program: str, home: Path, torrc: str, lock: int, log: Path) -> subprocess.Popen[bytes]:
    """Start Tor; it holds `lock` too, so that its folder is taken for as long as it runs.

    asyncio's own way to start processes leaves pipes open when it is cancelled in the middle.
    """
    told = home / "torrc"
    told.write_text(torrc)
    with log.open("wb") as out:
        # A session of its own: keys that make signals at the terminal are not for it.
        return subprocess.Popen(
            [program, "--defaults-torrc", os.devnull, "-f", str(told)],
            stdin=subprocess.DEVNULL, stdout=out, stderr=out,
            start_new_session=True, pass_fds=(lock,),
        )  # fmt: skip


async def _stop(process: subprocess.Popen[bytes]) -> None:
    """End Tor, and wait until it has ended; cancelling that kills it."""
    if process.poll() is not None:
        return
    process.terminate()
    try:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_LIMIT):
                while process.poll() is None:  # noqa: ASYNC110 (nothing tells but a thread)
                    await asyncio.sleep(_POLL)
    finally:
        if process.returncode is None:
            process.kill()
            process.wait()


@contextlib.asynccontextmanager
async def _controlled(
    process: subprocess.Popen[bytes], address: Path, log: Path
) -> AsyncIterator[Control]:
    """Wait for Tor's control port, and have Tor end with this connection to it."""
    clock = asyncio.get_running_loop().time
    deadline = clock() + START_LIMIT
    while not listens(str(address)):  # Tor makes the socket before it listens there
        if process.poll() is not None:
            raise DialError(f"Tor did not start: {_complaint(log)}")
        if clock() > deadline:
            raise DialError(f"Tor has no control port after {START_LIMIT:g} s: {_complaint(log)}")
        await asyncio.sleep(_POLL)
    try:
        async with control(str(address)) as found:
            await found.own()
            yield found
    except ControlError as fault:
        raise DialError(f"Tor: {fault}") from None


async def _bootstrapped(found: Control, progress: Callable[[str], None], stall: float) -> None:
    """Wait until Tor knows its network. Raises DialError with the stage that it stays at."""
    where, why = "it had not begun", ""
    try:
        async with asyncio.timeout(stall) as patience:
            clock = asyncio.get_running_loop().time
            reached = -1
            async for stage in found.bootstrap():
                where = (
                    f"it is at {stage.percent} % ({stage.summary[:1].lower()}{stage.summary[1:]})"
                )
                why = f": {stage.warning}" if stage.warning else ""
                if stage.percent > reached:
                    reached = stage.percent
                    patience.reschedule(clock() + stall)
                elif stage.serious:
                    soon = clock() + WARNED_LIMIT
                    patience.reschedule(min(soon, patience.when() or soon))
                progress(f"Tor starts: {stage.percent} %, {stage.summary}{why}")
    except TimeoutError:
        raise DialError(f"Tor cannot connect to its network: {where}{why}") from None


@contextlib.contextmanager
def _slot(folder: Path) -> Iterator[tuple[Path, int]]:
    """Take a folder for one Tor; a new one begins with what the others have learnt."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for number in range(AT_ONCE):
        home = folder / str(number)
        home.mkdir(mode=0o700, exist_ok=True)
        lock = os.open(home / "taken", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            continue
        try:
            _learn(home, folder / "0")
            yield home, lock
        finally:
            os.close(lock)
        return
    raise DialError(f"{AT_ONCE} Tors of this user run already, each for a connection")


def _learn(home: Path, other: Path) -> None:
    for name in _LEARNT:
        if not (home / name).exists() and home != other:
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(other / name, home / name)
                (home / name).chmod(0o600)


@contextlib.contextmanager
def _socket_folder(home: Path) -> Iterator[Path]:
    """Return a folder of this user alone for Tor's sockets, with a path that is short enough."""
    if len(os.fsencode(home / "control")) <= PATH_BYTES:
        for name in ("control", "socks"):
            (home / name).unlink(missing_ok=True)
        yield home
        return
    with tempfile.TemporaryDirectory(prefix="clan-tor-") as place:
        yield Path(place)


def _complaint(log: Path) -> str:
    """Return the last thing that Tor complained of."""
    lines = log.read_text("utf-8", "replace").splitlines()
    bad = [line for line in lines if "[err]" in line or "[warn]" in line] or lines or ["nothing"]
    return bad[0].partition("] ")[2] or bad[0]


def _quoted(path: Path) -> str:
    """Write a path as torrc(5) reads it: in quotes, backslash before quotes and backslashes."""
    escaped = str(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
