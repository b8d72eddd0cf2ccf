"""A Tor of our own: it starts, says how far it comes, and never stays behind.

Its only authority is a port of this computer that nobody listens on.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clan.modules.tor.control import ControlError, control
from clan.modules.tor.process import own_tor
from clan.modules.tor.torrc import network_lines
from clan.networks.technology import DialError

if TYPE_CHECKING:
    from collections.abc import Iterator

needs_tor = pytest.mark.skipif(shutil.which("tor") is None, reason="no tor on this computer")
NOWHERE = network_lines(
    [f"nowhere orport=1 no-v2 v3ident={'A' * 40} 127.0.0.1:1 {'B' * 40}"], testing=True
)


def tors(folder: Path) -> list[int]:
    """Return the Tors that run with this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdecimal():
            continue
        try:
            if (entry / "comm").read_text() != "tor\n":
                continue
            held = [str(fd.readlink()) for fd in (entry / "fd").iterdir()]
        except OSError:  # it ended meanwhile, or is another user's
            continue
        if any(path.startswith(str(folder)) for path in held):
            found.append(int(entry.name))
    return found


def become(folder: Path, number: int) -> None:
    deadline = time.monotonic() + 20
    while len(tors(folder)) != number:
        assert time.monotonic() < deadline, f"Tors: {tors(folder)}"
        time.sleep(0.02)


def open_one(folder: Path, said: list[str], stall: float = 20.0) -> None:
    async def main() -> None:
        async with own_tor(folder, NOWHERE, said.append, stall=stall):
            raise AssertionError("there is no network")

    asyncio.run(main())


@needs_tor
def test_a_tor_that_gets_nowhere_says_where_it_is_and_ends(tmp_path: Path) -> None:
    said: list[str] = []
    with pytest.raises(DialError, match=r"cannot connect to its network: it is at \d+ % \(\w+"):
        open_one(tmp_path, said, stall=2.0)
    assert said[0] == "Tor starts: 0 %, Starting"
    become(tmp_path, 0)


@needs_tor
def test_a_tor_that_does_not_start_says_what_it_complains_of(tmp_path: Path) -> None:
    async def main() -> None:
        async with own_tor(tmp_path, ["NoSuchOption 1"], lambda _: None):
            raise AssertionError("it does not start")

    with pytest.raises(DialError, match=r"Tor did not start: .*NoSuchOption"):
        asyncio.run(main())


def test_a_computer_without_tor_is_told_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(DialError, match=r"not installed on this computer .*package: tor"):
        open_one(tmp_path, [])


@needs_tor
def test_a_start_that_is_cancelled_leaves_nothing(tmp_path: Path) -> None:
    async def main(patience: float) -> None:
        async with asyncio.timeout(patience), own_tor(tmp_path, NOWHERE, lambda _: None):
            raise AssertionError("there is no network")

    for patience in (0.001, 0.05, 0.2, 1.0):
        with pytest.raises(TimeoutError):
            asyncio.run(main(patience))
        assert not tors(tmp_path)


@needs_tor
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_program_that_dies_takes_its_tor_along(tmp_path: Path, number: int) -> None:
    program = (
        "import asyncio, pathlib, sys\n"
        f"from {__name__} import open_one\n"
        "open_one(pathlib.Path(sys.argv[1]), [])\n"
    )
    words = [sys.executable, "-c", program, str(tmp_path)]
    root = str(Path(__file__).parents[3])
    with subprocess.Popen(
        words, cwd=root, stderr=subprocess.DEVNULL, env={**os.environ, "PYTHONPATH": root}
    ) as child:
        become(tmp_path, 1)
        time.sleep(0.5)  # it owns its Tor now
        child.send_signal(number)
        begin = time.monotonic()
    become(tmp_path, 0)
    assert time.monotonic() - begin < 10, "sooner than Tor looks for its owner by itself"


@needs_tor
def test_two_at_once_have_a_folder_each_and_share_what_was_learnt(tmp_path: Path) -> None:
    (tmp_path / "0").mkdir(mode=0o700)
    (tmp_path / "0/state").write_text("# learnt\n")

    async def main() -> None:
        both = [asyncio.ensure_future(one()) for _ in range(2)]
        await asyncio.sleep(1.5)
        assert len(tors(tmp_path)) == 2
        for each in both:
            each.cancel()
        await asyncio.gather(*both, return_exceptions=True)

    async def one() -> None:
        async with own_tor(tmp_path, NOWHERE, lambda _: None):
            raise AssertionError("there is no network")

    asyncio.run(main())
    assert {path.name for path in tmp_path.iterdir()} == {"0", "1"}
    assert (tmp_path / "1/state").exists()
    assert not tors(tmp_path)


@contextlib.contextmanager
def saying(words: bytes) -> Iterator[tuple[str, int]]:
    """Listen at a port that says the same to whoever comes."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(words)
                while connection.recv(1000):
                    pass

        thread = threading.Thread(target=answer)
        thread.start()
        yield server.getsockname()
        thread.join()


def let_in(address: tuple[str, int]) -> None:
    async def main() -> None:
        async with control(address):
            raise AssertionError("nobody is let in there")

    asyncio.run(main())


def test_a_control_port_that_wants_a_password_is_left_alone() -> None:
    words = (
        b"250-PROTOCOLINFO 1\r\n250-AUTH METHODS=HASHEDPASSWORD\r\n"
        b'250-VERSION Tor="0.4.9.11"\r\n250 OK\r\n'
    )
    with saying(words) as address, pytest.raises(ControlError, match="wants a password"):
        let_in(address)


def test_what_is_no_control_port_is_said_to_be_none() -> None:
    with (
        saying(b"SSH-2.0-OpenSSH_9.2\r\n") as address,
        pytest.raises(ControlError, match=r"no control port: 'SSH-2\.0"),
    ):
        let_in(address)
