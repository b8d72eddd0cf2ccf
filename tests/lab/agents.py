"""Agents of the mesh in network namespaces, each a process with interfaces of real wireguard-go."""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
import os
import platform
import select
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

import pytest
from tests.lab.links import until
from tests.lab.spaces import Space, join
from tests.mesh.signers import ROOT, key, machine, signed

from clan.deploy import bundle
from clan.lab import built
from clan.mesh import identity
from clan.mesh.agent import setting, status
from clan.mesh.chart import links
from clan.mesh.chart.canonical import base64_of, encode
from clan.mesh.chart.carry import packed
from clan.mesh.chart.content import Content, KnownAddress
from clan.mesh.chart.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence
    from ipaddress import IPv6Address

    from clan.mesh.chart.chart import Chart
    from clan.mesh.chart.links import Reached
    from clan.mesh.tls.told import Told

PREFIX = identity.prefix(ROOT.public)
UNITS = Path(__file__).parent / "programs" / "units"
PORT = 5555
CUT = """\
table netdev cut {{
    chain {uplink} {{
        type filter hook ingress device "{uplink}" priority -100;
        meta protocol {{ ip, ip6 }} drop
    }}
}}
"""


class Box:
    """A machine: a namespace, a folder that is its disk, and its agent."""

    def __init__(self, name: str, folder: Path) -> None:
        self.name, self.folder = name, folder / name
        folder = self.folder
        self.space = Space()
        self.key = key(name)
        self.address: IPv6Address = identity.address(PREFIX, self.key.public)
        self.agent: subprocess.Popen[bytes] | None = None
        self.streams: subprocess.Popen[bytes] | None = None
        self.daemons = folder / "daemons"
        self.socket = folder / "run/clan/mesh-home.sock"
        for each in ("daemons", "wireguard", "bin", "etc/clan/mesh"):
            (folder / each).mkdir(parents=True)
        (folder / "key").write_text(identity.text(self.key.seed))
        (folder / "key").chmod(0o600)
        self.program = ["-m", "clan.mesh"]
        self.set()
        program = built.kept().find("wireguard-go", platform.machine())
        if program is None:
            pytest.skip("wireguard-go is not built (scripts/setup builds it)")
        (folder / "bin/wireguard-go").symlink_to(program)

    def set(self, **more: int) -> None:
        """Write its setting, as a generation does, with more than it has to say."""
        told = {"root": base64_of(ROOT.public), "identity": "/key"} | more
        (self.folder / "etc/clan/mesh/home.json").write_bytes(encode(told))

    def meter(self, uplink: str) -> None:
        """Have bytes cost on an uplink, as NetworkManager says."""
        program = self.folder / "bin/nmcli"
        told = f"GENERAL.DEVICE:{uplink}\\nGENERAL.METERED:yes\\n"
        program.write_text(f"#!/bin/sh\nprintf '{told}'\n")
        program.chmod(0o755)

    def give(self, chart: Chart) -> None:
        """Lay a map on its disk, as an update does."""
        Store(self.folder / "var/lib/clan/mesh/home", ROOT.public).offer(chart.raw)

    def take(self, chart: Chart) -> dict[str, Any]:
        """Hand it a map as an update does, while its agent runs."""
        words = [sys.executable, "-m", "clan.mesh", "--root", str(self.folder), "take", "home"]
        done = subprocess.run(words, input=packed([chart.raw]), capture_output=True, check=True)
        (verdict,) = json.loads(done.stdout)
        return dict(verdict)

    def tell(self, streams: Told) -> None:
        """Say what the clan's file has of streams, and start the process that keeps them."""
        self.stream(setting.told(ROOT.public, "/key", streams))

    def stream(self, told: bytes, **environment: str) -> None:
        """Lay down its setting as a generation has it, and start the process of its streams."""
        (self.folder / "etc/clan/mesh/home.json").write_bytes(told)
        words = [sys.executable, "-m", "clan.mesh", "--root", str(self.folder), "tls", "home"]
        with (self.folder / "log-tls").open("ab") as log:
            self.streams = subprocess.Popen(
                ["ip", "netns", "exec", self.space.name, *words],
                env=os.environ | environment,
                stdout=log,
                stderr=log,
            )

    def start(self) -> None:
        inside = f"mount --bind {self.folder}/wireguard /var/run/wireguard && "
        inside += "mount -t cgroup2 none /sys/fs/cgroup && exec "
        words = [sys.executable, *self.program, "--root", str(self.folder), "run", "home"]
        with (self.folder / "log").open("ab") as log:
            self.agent = subprocess.Popen(
                ["ip", "netns", "exec", self.space.name, "sh", "-c", inside + " ".join(words)],
                env=os.environ
                | {
                    "PATH": f"{UNITS}:{self.folder}/bin:{os.environ['PATH']}",
                    "DAEMONS": str(self.daemons),
                },
                stdout=log,
                stderr=log,
            )

    def stop(self) -> None:
        """Kill the agent, as a crash would; all else goes on."""
        if self.agent is not None:
            self.agent.kill()
            self.agent.wait()

    def upgrade(self) -> None:
        """Replace its agent by the program as machines get it."""
        self.stop()
        shipped = self.folder / "machine.pyz"
        with zipfile.ZipFile(shipped, "w") as archive:
            for name, data in bundle.program(mesh=True).items():
                archive.writestr(name, data)
        self.program = [str(shipped), "mesh"]
        self.start()

    def crash(self) -> None:
        """Lose power."""
        self.stop()
        self._kill_daemons()

    def reboot(self) -> None:
        """Stop all of it, and start with what its disk has."""
        self.crash()
        for each in json.loads(self.space.run("ip -j link show")):
            if each["ifname"].startswith("clan-"):
                self.space.run(f"ip link del {each['ifname']}")
        self.space.run(f"ip addr del {self.address}/128 dev lo")
        self.space.run("ip rule flush priority 4900")
        self.space.run("ip -6 rule flush priority 4900")
        self.space.run("nft flush ruleset")
        self.start()

    def remove(self) -> None:
        self.crash()
        if self.streams is not None:
            self.streams.kill()
            self.streams.wait()
        self.space.remove()

    def _kill_daemons(self) -> None:
        for each in self.daemons.iterdir():
            if each.name == "log":
                continue
            with contextlib.suppress(FileNotFoundError):  # it has just been stopped
                number = until(each.read_text)  # it may have been started just now
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(number), 9)
                each.unlink()

    def ask(self, asked: str = "status", **more: object) -> dict[str, Any]:
        return status.ask(self.socket, {"ask": asked, **more})

    def busy(self) -> float:
        """Return the seconds that its agent has used of a processor."""
        assert self.agent is not None
        return busy(self.agent.pid)

    def serial(self) -> int:
        """Return the serial of the map that its agent goes by."""
        try:
            return int(self.ask()["map"]["serial"])
        except OSError:
            return -1

    def record(self) -> bytes:
        """Return what it tells of its interfaces, as the admin collects it."""
        with contextlib.suppress(OSError):
            return base64.b64decode(self.ask("record")["record"] or "")
        return b""

    def offers(self) -> tuple[Reached, ...]:
        """Return where it offers to relay."""
        return links.read(self.record(), self.key.public).reached

    def links(self, peer: str) -> int:
        """Return how many links to a peer there are, alive or not."""
        return len(self._links(peer))

    def alive(self, peer: str) -> int:
        """Return how many links to a peer live."""
        return sum(each["alive"] for each in self._links(peer))

    def _links(self, peer: str) -> list[dict[str, Any]]:
        try:
            return list(self.ask()["peers"][peer]["links"])
        except (OSError, KeyError):
            return []

    def path(self, peer: str) -> dict[str, Any] | None:
        """Return the link in use to a peer if it lives."""
        try:
            pair = self.ask()["peers"].get(peer)
        except OSError:
            return None
        if pair is None:
            return None
        return next((e for e in pair["links"] if e["id"] == pair["path"] and e["alive"]), None)

    def cut(self, uplink: str) -> None:
        """Let nothing in by an uplink any more, without a word."""
        self.ready_to_cut(uplink)()

    def ready_to_cut(self, uplink: str) -> Callable[[], None]:
        """Return what cuts it, to be called once: next to nothing is left to be done then."""
        with self.space.inside():
            nft = subprocess.Popen(["nft", "-f", "-"], stdin=subprocess.PIPE)

        def cut() -> None:
            nft.communicate(CUT.format(uplink=uplink).encode())
            assert nft.returncode == 0

        return cut

    def mend(self) -> None:
        self.space.run("nft delete table netdev cut")

    def udp(self, port: int = PORT) -> socket.socket:
        with self.space.inside():
            made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        made.bind((str(self.address), port))
        made.setblocking(False)
        return made


@contextlib.contextmanager
def boxes(names: Sequence[str], folder: Path, uplinks: Sequence[str]) -> Iterator[list[Box]]:
    """Two machines with a cable between for each uplink, which know one map; no agent runs yet."""
    made: list[Box] = []
    try:
        made += [Box(name, folder) for name in names]
        one, other = made
        for number, uplink in enumerate(uplinks, 1):
            join(one.space, uplink, other.space, uplink)
            for each, host in zip(made, (1, 2), strict=True):
                each.space.run(f"ip addr add 192.0.{number}.{host}/24 dev {uplink}")
        chart = signed(Content(machines=tuple(machine(name) for name in sorted(names))))
        for each in made:
            each.give(chart)
        yield made
    finally:
        for each in made:
            each.remove()


def busy(process: int) -> float:
    """Return the seconds that a process has used of a processor."""
    used = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return (int(used[11]) + int(used[12])) / os.sysconf("SC_CLK_TCK")


def content(boxes: Sequence[Box], addresses: Mapping[str, str] = MappingProxyType({})) -> Content:
    """Return a map's content: these machines, where the inventory says they are, their records."""
    return Content(
        machines=tuple(
            machine(
                each.name,
                addresses=tuple(
                    KnownAddress(host=addresses[name]) for name in [each.name] if name in addresses
                ),
                links=each.record(),
            )
            for each in sorted(boxes, key=lambda each: each.name)
        )
    )


def meet(boxes: Sequence[Box], addresses: Mapping[str, str] = MappingProxyType({})) -> Chart:
    """Start the agents, and give all a map with the records of all, as an admin does."""
    first = signed(content(boxes, addresses))
    for each in boxes:
        each.give(first)
        each.start()
    for each in boxes:
        until(each.record, 60)
    second = signed(content(boxes, addresses), after=[first])
    for each in boxes:
        each.take(second)
    return second


class Speaker(Protocol):
    """A machine that has an address to speak from."""

    @property
    def address(self) -> IPv6Address | None: ...

    def udp(self, port: int = PORT) -> socket.socket: ...


class Talk:
    """A datagram every 20 ms from one stable address to another, and back."""

    open: ClassVar[set[Talk]] = set()
    """Those that were not closed; after a test that failed in the middle, somebody has to."""

    def __init__(self, one: Speaker, other: Speaker) -> None:
        self.one, self.other = one.udp(0), other.udp()
        self.open.add(self)
        self.to = (str(other.address), PORT)
        self.sent: dict[int, float] = {}
        self.answered: dict[int, float] = {}
        self._numbers = itertools.count()

    def close(self) -> None:
        self.one.close()
        self.other.close()
        self.open.discard(self)

    def go(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (now := time.monotonic()) < end:
            number = next(self._numbers)
            self.sent[number] = now
            with contextlib.suppress(OSError):
                self.one.sendto(str(number).encode(), self.to)
            self._pass_on(now + 0.02)

    def _pass_on(self, until: float) -> None:
        while (left := until - time.monotonic()) > 0:
            readable, _, _ = select.select([self.one, self.other], [], [], left)
            if self.other in readable:
                data, source = self.other.recvfrom(99)
                with contextlib.suppress(OSError):
                    self.other.sendto(data, source)
            if self.one in readable:
                number = int(self.one.recv(99))
                if number in self.sent:
                    self.answered[number] = time.monotonic()

    def begin(self) -> None:
        """Forget what was before: the next gap counts from here."""
        self.sent, self.answered = {}, {}

    def lost(self) -> set[int]:
        """Return what was not answered, also after a while."""
        end = time.monotonic() + 5
        while self.sent.keys() > self.answered.keys() and time.monotonic() < end:
            self._pass_on(time.monotonic() + 0.1)
        return self.sent.keys() - self.answered.keys()

    def gap(self) -> float:
        """Return the longest time between two answers, or since the last, in seconds."""
        times = [min(self.sent.values()), *sorted(self.answered.values()), max(self.sent.values())]
        return max(b - a for a, b in itertools.pairwise(times))


class Transfer:
    """Bytes over TCP between stable addresses: at a pace, for as long as the test goes on."""

    def __init__(self, one: Box, other: Box, port: int, *, every: float, size: int) -> None:
        self._every, self._size = every, size
        with other.space.inside():
            waiting = socket.create_server((str(other.address), port), family=socket.AF_INET6)
        with one.space.inside():
            self._out = socket.socket(socket.AF_INET6)
        self._out.settimeout(60)
        self._out.connect((str(other.address), port))
        self._in, _ = waiting.accept()
        self._in.settimeout(120)
        waiting.close()
        self._stop = threading.Event()
        self.sent = self.received = 0
        self.fault: OSError | None = None
        self._threads = [threading.Thread(target=each) for each in (self._send, self._receive)]
        for each in self._threads:
            each.start()

    def _send(self) -> None:
        try:
            while not self._stop.wait(self._every):
                self._out.sendall(bytes(self._size))
                self.sent += self._size
            self._out.shutdown(socket.SHUT_WR)
        except OSError as fault:
            self.fault = fault

    def _receive(self) -> None:
        try:
            while data := self._in.recv(1 << 16):
                self.received += len(data)
        except OSError as fault:
            self.fault = fault

    def moves(self, seconds: float = 60) -> None:
        """Wait until something that is sent from now on has arrived."""
        goal = self.sent + 2 * self._size
        until(lambda: self.received >= goal or self.fault, seconds)
        assert self.fault is None

    def end(self) -> None:
        """End it, and see that all has arrived."""
        self._stop.set()
        for each in self._threads:
            each.join(120)
        self._out.close()
        self._in.close()
        assert self.fault is None
        assert self.sent == self.received > 0


def lives(one: Box, other: Box) -> dict[str, Any]:
    """Wait until a pair has a path that lives, and return it as one end sees it."""
    return until(lambda: one.path(other.name) or {}, 60)
