"""Other networks beside the mesh: real Yggdrasil and tinc in the machines' namespaces, services."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import subprocess
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.links import until

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from tests.lab.agents import Box

TUNNEL = "ygg0"
PORT = 9001
TINC, TINC_PORT = "tinc0", 655
_TINC_CONF = """\
Name = {name}
Interface = {tunnel}
AddressFamily = ipv4
{others}
"""
_TINC_UP = """\
#!/bin/sh
ip addr add {address}/24 dev {tunnel}
ip link set {tunnel} up
"""
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
    with _running(box, [program, "-useconffile", str(folder / "conf")], folder / "log"):
        until(lambda: _has(box, TUNNEL))
        yield folder / "socket"


@contextlib.contextmanager
def tinc(boxes: Sequence[Box], addresses: Mapping[str, str]) -> Iterator[None]:
    """Run it on machines that are found at these addresses: all in 10.98.0.0/24, by IPv4 alone."""
    program = shutil.which("tincd")
    if program is None:
        pytest.skip("tinc is not installed (scripts/setup does that)")
    hosts = {each: f"10.98.0.{number}" for number, each in enumerate(boxes, 1)}
    for box, host in hosts.items():
        folder = box.folder / "tinc"
        (folder / "hosts").mkdir(parents=True)
        others = [f"ConnectTo = {each.name}" for each in boxes if each is not box]
        conf = _TINC_CONF.format(name=box.name, tunnel=TINC, others="\n".join(others))
        (folder / "tinc.conf").write_text(conf)
        (folder / "tinc-up").write_text(_TINC_UP.format(address=host, tunnel=TINC))
        (folder / "tinc-up").chmod(0o755)
        place = f"Address = {addresses[box.name]} {TINC_PORT}\nSubnet = {host}/32\n"
        (folder / "hosts" / box.name).write_text(place)
        words = [program, f"--config={folder}", "--generate-keys=2048"]
        subprocess.run(words, stdin=subprocess.DEVNULL, check=True, capture_output=True)
    with contextlib.ExitStack() as stack:
        for box in boxes:
            folder = box.folder / "tinc"
            for each in boxes:
                told = (each.folder / "tinc/hosts" / each.name).read_text()
                (folder / "hosts" / each.name).write_text(told)
            words = [program, f"--config={folder}", f"--pidfile={folder}/pid", "--no-detach"]
            stack.enter_context(_running(box, words, folder / "log"))
        for box in boxes:
            until(partial(_has, box, TINC))
        yield


@contextlib.contextmanager
def _running(box: Box, words: Sequence[str], log: Path) -> Iterator[None]:
    """Run a daemon on a machine, in a control group of its own, until SIGTERM."""
    group = _groups() / f"clan-lab-{os.getpid()}-{next(_NUMBERS)}"
    group.mkdir()
    enter = f'echo 0 > {group}/cgroup.procs && exec "$@"'
    inside = ["nsenter", f"--net=/run/netns/{box.space.name}", "sh", "-c", enter, "sh"]
    with log.open("ab") as file:
        run = subprocess.Popen([*inside, *words], stdout=file, stderr=file)
    try:
        yield
    finally:
        run.terminate()
        run.wait(20)
        group.rmdir()


def _has(box: Box, tunnel: str) -> bool:
    """Whether a machine has an address of a tunnel's."""
    return any(tunnel in each for each in box.space.run("ip -o addr").splitlines())


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
