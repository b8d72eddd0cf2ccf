"""The network that docs/how-to/own-network.md has one write, used as it says."""

from __future__ import annotations

import getpass
import os
import re
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.sshd import Keys, make_key, serving

if TYPE_CHECKING:
    from collections.abc import Iterator

PAGE = Path(__file__).parents[2] / "docs/how-to/own-network.md"


def carry(source: socket.socket, target: socket.socket) -> None:
    while data := source.recv(65536):
        target.sendall(data)
    target.shutdown(socket.SHUT_WR)


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    make_key(tmp_path / "id")
    return Keys(identity=tmp_path / "id")


@pytest.fixture
def guest(tmp_path: Path, keys: Keys) -> Iterator[Path]:
    """Run an ssh server that listens at a Unix socket, as one in a virtual machine does."""
    path = tmp_path / "test.ssh"
    with serving(tmp_path, "guest", keys) as server, socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def accept() -> None:
            outside, _ = listener.accept()
            with outside, socket.create_connection(("127.0.0.1", server.port)) as inside:
                out = threading.Thread(target=carry, args=(inside, outside), daemon=True)
                out.start()
                carry(outside, inside)
                out.join()

        threading.Thread(target=accept, daemon=True).start()
        yield path


def test_a_file_in_the_clans_folder_is_a_network(tmp_path: Path, keys: Keys, guest: Path) -> None:
    text = PAGE.read_text("utf-8")
    code = re.search(r"^```python\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert code is not None
    family = tmp_path / "family"
    (family / "modules").mkdir(parents=True)
    (family / "modules/vm.py").write_text(code[1])

    def clan(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "clan", *words],
            check=False,
            capture_output=True,
            text=True,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
            timeout=60,
            cwd=family,
            env=os.environ,
        )

    assert clan("init").returncode == 0
    block = re.search(r"^```console\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert block is not None
    create, add, log_in = (line.split()[2:] for line in block[1].splitlines())
    assert clan(*create).returncode == 0
    added = clan(*(word.replace("/run/test.ssh", str(guest)) for word in add))
    assert added.returncode == 0, added.stderr
    assert "vm       3000      vm      Yes      test" in clan("network", "list").stdout
    assert log_in == ["ssh", "test"]
    options = ["--host-key", "accept-new", *keys.options]
    done = clan("ssh", *options, f"{getpass.getuser()}@test", "echo reached")
    assert (done.stdout, done.stderr) == ("reached\n", f"test: over vm, {guest}\n")
    guest.unlink()
    again = clan("network", "ping", "test")
    assert again.returncode == 1
    assert f"{guest} is not there: is the virtual machine on?" in again.stdout
