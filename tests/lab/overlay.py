"""Another network beside the mesh: real Yggdrasil in the machines' namespaces, each a service."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.links import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.lab.agents import Box

TUNNEL = "ygg0"
PORT = 9001
_NUMBERS = itertools.count()


@contextlib.contextmanager
def yggdrasil(box: Box, peers: Sequence[str]) -> Iterator[Path]:
    """Run it on a machine, in a control group of its own; give its socket for `peered`.

    `peers` are addresses of machines on which it runs, too.
    """
    program = shutil.which("yggdrasil")
    if program is None:
        pytest.skip("yggdrasil is not installed (scripts/setup does that)")
    folder = box.folder / "yggdrasil"
    folder.mkdir()
    made = subprocess.run([program, "-genconf", "-json"], check=True, capture_output=True)
    conf = json.loads(made.stdout) | {
        "Peers": [f"tcp://{_host(each)}:{PORT}" for each in peers],
        "Listen": [f"tcp://[::]:{PORT}"],
        "MulticastInterfaces": [],
        "AdminListen": f"unix://{folder}/socket",
        "IfName": TUNNEL,
    }
    (folder / "conf").write_text(json.dumps(conf))
    group = _groups() / f"clan-lab-{os.getpid()}-{next(_NUMBERS)}"
    group.mkdir()
    enter = f'echo 0 > {group}/cgroup.procs && exec "$@"'
    inside = ["nsenter", f"--net=/run/netns/{box.space.name}", "sh", "-c", enter, "sh"]
    with (folder / "log").open("ab") as log:
        run = subprocess.Popen(
            [*inside, program, "-useconffile", folder / "conf"], stdout=log, stderr=log
        )
    try:
        until(lambda: any(TUNNEL in each for each in box.space.run("ip -6 -o addr").splitlines()))
        yield folder / "socket"
    finally:
        run.terminate()
        run.wait(20)
        group.rmdir()


def peered(socket: Path) -> list[str]:
    """Return the addresses of those that it is connected to, as it tells."""
    return [str(each["remote"]) for each in _ask(socket, "getPeers")["peers"]]


def call(socket: Path, address: str) -> None:
    """Have it call another one."""
    _ask(socket, "addPeer", f"uri=tcp://{_host(address)}:{PORT}")


def _ask(socket: Path, *words: str) -> dict[str, Any]:
    asked = ["yggdrasilctl", "-json", f"-endpoint=unix://{socket}", *words]
    done = subprocess.run(asked, check=True, capture_output=True)
    return dict(json.loads(done.stdout))


def _host(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _groups() -> Path:
    """Return where this computer has its control groups, of the second version."""
    lines = (line.split() for line in Path("/proc/mounts").read_text().splitlines())
    return next(Path(words[1]) for words in lines if words[2] == "cgroup2")
