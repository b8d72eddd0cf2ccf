"""Run the system's `ssh` over a connection, answer its questions, and tell a wrong host key apart.

`ssh` runs as a child in the foreground: it owns the terminal, gets its signals, and may be
suspended. Its own messages (not the remote command's) come through a pipe, so that those about a
wrong key, which is dealt with here, are not shown. They also tell when the session begins: until
then nothing has been asked of the machine, and a login may be given up and begun anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import shutil
import signal
import socket
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.networks.connect import MOVE_POLL
from clan.networks.hostkeys import Verdict, judge
from clan.system.ssh import COUNTER, KNOWN, LOG, SESSION, SHOWN, SSH_FAILED, login_command

FOLDERS = "clan-ssh-"
"""How the names of folders of logins begin."""

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Sequence

    from clan.networks.connect import Reached
    from clan.networks.hostkeys import FirstContact


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """Whose host key is demanded, and what to do when none is known yet.

    `ask` puts a first key before a person (None: there is nobody); `record` keeps one that was
    taken.
    """

    full_name: str
    expected: str | None
    policy: FirstContact
    ask: Callable[[str], Awaitable[bool]] | None
    record: Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How `ssh` ended: its exit status, and the verdict on a host key that was not taken.

    `cut_off` means that this computer moved before the session began. `unproven` is what ssh said
    when it gave up before any host key was shown.
    """

    status: int
    cut_off: bool = False
    unproven: str = ""
    refused: Verdict | None = None
    key: str = ""


@contextlib.contextmanager
def own_folder() -> Iterator[Path]:
    """Make a folder for one login, and take away those of logins that were killed.

    A Unix socket's path is short, so it is where temporary files are. While a login goes on it
    holds a lock there.
    """
    for left in Path(tempfile.gettempdir()).glob(f"{FOLDERS}*"):
        with contextlib.suppress(OSError):
            if left.lstat().st_uid != os.getuid():
                continue
            with (left / "lock").open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(left)
    with tempfile.TemporaryDirectory(prefix=FOLDERS) as folder:
        place = Path(folder)
        with (place / "lock.new").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            # Under its name only now: nobody finds it without its lock.
            (place / "lock.new").rename(place / "lock")
            yield place


async def login(
    reached: Reached,
    identity: Identity,
    *,
    ssh: str,
    user: str,
    options: Sequence[str],
    command: Sequence[str],
    moved: Callable[[], bool],
    run: Callable[[list[str]], Awaitable[int]],
    show: Callable[[bytes], object],
) -> Outcome:
    """Run `ssh` over the connection until it ends; the connection is closed then.

    `run` runs a program and returns its exit status; `show` gets what ssh says for itself.
    `moved` says whether this computer has left the networks that it connected from. A session that
    runs is left to itself, as it may have a life of its own (a VPN's addresses stay, a cable comes
    back); a login would only wait for answers that went elsewhere.
    """
    with own_folder() as place:
        counter = Counter(reached, identity, show)
        with counter.open(place):
            words = login_command(
                ssh,
                full_name=identity.full_name,
                user=user,
                folder=place,
                known=identity.expected is not None,
                network_options=reached.route.ssh_options,
                options=options,
                command=command,
            )
            watch = asyncio.ensure_future(counter.hang_up_when(moved))
            try:
                status = await run(words)
            finally:
                watch.cancel()
        return counter.outcome(status)


class Counter:
    """Where `ssh` comes for its connection and its host keys, and leaves its messages."""

    def __init__(
        self, reached: Reached, identity: Identity, show: Callable[[bytes], object]
    ) -> None:
        self.reached = reached
        self.show = show
        self.identity = identity
        self.refused: Verdict | None = None
        self.key = ""
        self.fault: ClanError | None = None
        self.handed = False
        self.settled = False
        self.began = False
        self.hung_up = False
        self.held = bytearray()
        self.shown = b""
        self.answers: set[asyncio.Task[None]] = set()
        self.pipes: dict[str, int] = {}

    @contextlib.contextmanager
    def open(self, place: Path) -> Iterator[None]:
        """Serve in a folder of this user alone: at a Unix socket and two named pipes."""
        loop = asyncio.get_running_loop()
        (place / KNOWN).write_text(self._known_hosts())
        pipes = {LOG: self._read_log, SHOWN: self._read_shown}
        with contextlib.ExitStack() as stack:
            for name, read in pipes.items():
                os.mkfifo(place / name, 0o600)
                # Open for writing too: it must not end when ssh closes it.
                pipe = os.open(place / name, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
                stack.callback(os.close, pipe)
                loop.add_reader(pipe, read)
                stack.callback(loop.remove_reader, pipe)
                self.pipes[name] = pipe
            listener = stack.enter_context(socket.socket(socket.AF_UNIX))
            listener.bind(str(place / COUNTER))
            listener.listen()
            listener.setblocking(False)
            loop.add_reader(listener, self._accept, listener)
            stack.callback(loop.remove_reader, listener)
            try:
                yield
            finally:
                self._read_shown()
                self._read_log()
                self.reached.connection.sock.close()
                for answer in self.answers:
                    answer.cancel()

    def outcome(self, status: int) -> Outcome:
        """Say how it ended; what was held back is shown unless it is about a refused key.

        Raises ClanError when a key was taken and could not be recorded.
        """
        if self.fault is not None:
            raise self.fault
        # Without the connection, ssh failed for reasons of its own, or had another way.
        cut_off = self.handed and self.hung_up and not self.began
        gave_up = status == SSH_FAILED and self.handed and not (self.settled or self.hung_up)
        if gave_up and self.refused is None:
            return Outcome(status=status, unproven=self._last_words())
        if self.refused is None and not cut_off:
            self._show()
        return Outcome(status=status, cut_off=cut_off, refused=self.refused, key=self.key)

    def _last_words(self) -> str:
        lines = [line.strip() for line in self.held.decode("utf-8", "replace").splitlines()]
        return next((line for line in reversed(lines) if line), "it ended without a word")

    async def hang_up_when(self, moved: Callable[[], bool]) -> None:
        """Look, until the session begins, whether this computer moved; end the stream if so."""
        while not moved():
            await asyncio.sleep(MOVE_POLL)
            self._read_log()
            if self.began:
                return
        self.hung_up = True
        # ssh has a descriptor of its own; what is shut down is the stream, for both.
        with contextlib.suppress(OSError):
            self.reached.connection.sock.shutdown(socket.SHUT_RDWR)

    def _accept(self, listener: socket.socket) -> None:
        asking, _ = listener.accept()
        task = asyncio.ensure_future(self._answer(asking))
        self.answers.add(task)
        task.add_done_callback(self.answers.discard)

    async def _answer(self, asking: socket.socket) -> None:
        with asking:
            asking.setblocking(False)
            loop = asyncio.get_running_loop()
            words = (await loop.sock_recv(asking, 65536)).decode("ascii", "replace").split()
            if words == ["connection"]:
                stream = self.reached.connection.sock
                stream.setblocking(True)
                asking.setblocking(True)
                socket.send_fds(asking, [b"\0"], [stream.fileno()])
                self.handed = True
            elif words[:1] == ["key"]:
                await loop.sock_sendall(asking, (await self._asked(words[1:])).encode())

    async def _asked(self, words: list[str]) -> str:
        """Answer KnownHostsCommand: `words` are %I, %t, %K (ssh_config(5), TOKENS)."""
        reason, *shown = words
        if reason != "HOSTNAME":
            return self._known_hosts()
        key = " ".join(shown)
        verdict = self._judge(key)
        ask = self.identity.ask
        if verdict is Verdict.ASK and ask is not None:
            verdict = Verdict.ACCEPT if await ask(key) else Verdict.DECLINED
        self._meet(key, verdict)
        return self._known_hosts(key) if self.settled else ""

    def _known_hosts(self, key: str | None = None) -> str:
        keys = (key or self.identity.expected or "").splitlines()
        return "".join(f"{self.identity.full_name} {each}\n" for each in keys)

    def _judge(self, key: str) -> Verdict:
        return judge(
            key,
            self.identity.expected,
            policy=self.identity.policy,
            by_multicast=self.reached.by_multicast,
            terminal=self.identity.ask is not None,
        )

    def _meet(self, key: str, verdict: Verdict) -> None:
        """Note what is done with the key that was shown."""
        if verdict is Verdict.ACCEPT:
            try:
                self.identity.record(key)
            except ClanError as fault:
                self.fault = fault
                return
        elif verdict is not Verdict.EXPECTED:
            self.refused, self.key = verdict, key
            return
        self.settled = True
        self._show()

    def _read_shown(self) -> None:
        """Hear which key was shown where the expected one was told without us."""
        *lines, last = (self.shown + self._read(SHOWN)).split(b"\n")
        self.shown = last
        for line in lines:
            reason, *shown = line.decode("ascii", "replace").split()
            if reason == "HOSTNAME":
                key = " ".join(shown)
                self._meet(key, self._judge(key))

    def _read_log(self) -> None:
        self.held += self._read(LOG)
        *lines, last = self.held.split(b"\n")
        if any(SESSION in line for line in lines):
            self.began = True
            kept = [line + b"\n" for line in lines if SESSION not in line]
            self.held = bytearray(b"".join(kept) + last)
        if self.settled and not self.hung_up:
            self._show()

    def _read(self, name: str) -> bytes:
        found = b""
        with contextlib.suppress(BlockingIOError):
            while words := os.read(self.pipes[name], 65536):
                found += words
        return found

    def _show(self) -> None:
        if self.held:
            self.show(bytes(self.held))
            self.held.clear()


def to_stderr(words: bytes) -> None:
    """Show what ssh says where it would have said it."""
    sys.stderr.buffer.write(words)
    sys.stderr.buffer.flush()


async def foreground(words: list[str]) -> int:
    """Run a program as this one's foreground child, and return its exit status.

    Keys that make signals reach the child from the terminal, so they are not for us; what is sent
    to this process alone is passed on. A child that is suspended suspends us, as the shell that
    waits for this process has to notice.
    """
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[int] = loop.create_future()
    # Python ignores SIGPIPE and SIGXFSZ; a program that inherits that would not end when it should.
    child = os.posix_spawn(  # noqa: ASYNC221 (it returns at once)
        words[0], words, os.environ, setsigdef=[signal.SIGPIPE, signal.SIGXFSZ]
    )

    def look() -> None:
        found, status = os.waitpid(child, os.WNOHANG | os.WUNTRACED)
        if found and os.WIFSTOPPED(status):
            os.kill(os.getpid(), signal.SIGSTOP)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)
        elif found and not ended.done():
            code = os.waitstatus_to_exitcode(status)
            ended.set_result(code if code >= 0 else 128 - code)

    def forward(number: int) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, number)

    def stay() -> None:
        """Leave the key to the child."""

    loop.add_signal_handler(signal.SIGCHLD, look)
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, forward, number)
    for number in (signal.SIGINT, signal.SIGQUIT):
        loop.add_signal_handler(number, stay)
    try:
        look()
        return await ended
    finally:
        for number in (
            signal.SIGCHLD, signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT
        ):  # fmt: skip
            loop.remove_signal_handler(number)
