"""Machines with a process of streams each, and a relay between them that both can call.

Each is a network namespace with a cable to the relay's. WireGuard is wireguard-go; the agent's
part, a file with what is wanted, is written by hand.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import subprocess
import sys
from dataclasses import replace
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.lab.links import private, until
from tests.lab.spaces import Space, join
from tests.mesh.signers import ROOT, key, machine, signed

from clan.lab import built
from clan.machine.layout import write
from clan.mesh import identity
from clan.mesh.agent import status
from clan.mesh.agent.kernel import TUN, Kernel
from clan.mesh.agent.wireguard import Change, make
from clan.mesh.agent.wireguard import Endpoint as Outer
from clan.mesh.agent.wireguard.userspace import InUserspace
from clan.mesh.chart.canonical import base64_of, encode
from clan.mesh.chart.content import Content
from clan.mesh.chart.store import Store
from clan.mesh.link import Endpoint
from clan.mesh.tls import certificate, wants
from clan.mesh.tls.frames import Port
from clan.mesh.tls.wants import Listen, Relay, Slot, Wants

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clan.mesh.agent.wireguard import Wireguard
    from clan.mesh.chart.chart import Chart

WIREGUARD = 51820
_NUMBERS = itertools.count(1)


class Station:
    """A machine: its namespace, its disk, its process of streams, and one WireGuard interface."""

    def __init__(self, name: str, folder: Path, number: int, space: Space | None = None) -> None:
        self.name, self.folder, self.number = name, folder, number
        self.space = space or Space()
        self.key = key(name)
        self.port = Port(self.key.public, f"{number:08x}")
        self.inner = IPv6Address(f"fd77::{number}")
        self.state = folder / "var/lib/clan/mesh/home"
        self.socket = folder / "run/clan/mesh-home-tls.sock"
        self.log = folder / "log"
        self.wants = Wants()
        self.process: subprocess.Popen[bytes] | None = None
        self._private = private()
        self._daemon: subprocess.Popen[bytes] | None = None
        self._kernel: Kernel | None = None
        self.wireguard: Wireguard | None = None
        self.interface = f"wgs{os.getpid():x}-{next(_NUMBERS)}"
        (folder / "etc/clan/mesh").mkdir(parents=True)
        self.state.mkdir(parents=True, mode=0o700)
        (folder / "key").write_text(identity.text(self.key.seed))
        (folder / "key").chmod(0o600)
        told = {"root": base64_of(ROOT.public), "identity": "/key"}
        (folder / "etc/clan/mesh/home.json").write_bytes(encode(told))

    @property
    def public(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self._private).public_key().public_bytes_raw()

    @property
    def certificate(self) -> bytes:
        return certificate.born(self.state).hash

    def give(self, chart: Chart) -> None:
        Store(self.state, ROOT.public).offer(chart.raw)

    def want(self, **fields: Any) -> None:
        """Write what its agent wants of the streams' process."""
        self.wants = replace(self.wants, **fields)
        write(self.state / wants.FILE, wants.written(self.wants), 0o600)

    def start(self, *prefix: str) -> None:
        words = [sys.executable, "-m", "clan.mesh", "--root", str(self.folder), "tls", "home"]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                ["ip", "netns", "exec", self.space.name, *prefix, *words], stderr=log, stdout=log
            )
        until(self._answers)

    def stop(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.socket.unlink(missing_ok=True)
            self.process = None

    def _answers(self) -> bool:
        with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
            return bool(self.ask())
        return False

    def ask(self) -> dict[str, Any]:
        return status.ask(self.socket, {})

    def has_stream(self, to: str) -> bool:
        return any(each["machine"] == to for each in self.ask()["streams"])

    def make_wireguard(self, peers: Sequence[Station], mtu: int = 1280) -> None:
        """Have a WireGuard interface whose peers are found on the loopback."""
        with self.space.inside():
            self._kernel = Kernel()
            index = self._kernel.create(self.interface, TUN)
        self._kernel.set_up(index)
        self._kernel.add_address(index, ip_interface(f"{self.inner}/64"))
        program = built.kept().find("wireguard-go", platform.machine())
        if program is None:
            pytest.skip("wireguard-go is not built (scripts/setup builds it)")
        Path(f"/var/run/wireguard/{self.interface}.sock").unlink(missing_ok=True)
        with self.space.inside():
            words = [str(program), "--foreground", self.interface]
            # Its banner says that the kernel could do it, too.
            self._daemon = subprocess.Popen(
                words, env={"LOG_LEVEL": "error"}, stdout=subprocess.DEVNULL
            )
        until(InUserspace(self._kernel, self.interface).answers)
        self.wireguard = make(self._kernel, self.interface)
        self._kernel.set_mtu(index, mtu)
        self.space.run(f"ip route add fd77::/64 dev {self.interface}")
        self.wireguard.configure(private=self._private, port=WIREGUARD, mark=0)
        self.wireguard.change(
            Change(
                key=peer.public,
                endpoint=_outer(wants.loopback(self.port.id, peer.port)),
                allowed=frozenset({ip_network(f"{peer.inner}/128")}),
            )
            for peer in peers
        )

    def slot(self, *peers: Station) -> Slot:
        return Slot(id=self.port.id, port=WIREGUARD, peers=tuple(peer.port for peer in peers))

    def pings(self, other: Station, count: int = 1, wait: float = 1) -> bool:
        words = f"ping -c {count} -i 0.2 -W {wait} {other.inner}".split()
        command = ["ip", "netns", "exec", self.space.name, *words]
        return subprocess.run(command, check=False, capture_output=True).returncode == 0

    def remove(self) -> None:
        self.stop()
        if self._daemon is not None:
            self._daemon.kill()
            self._daemon.wait()
        if self._kernel is not None:
            self._kernel.close()
        self.space.remove()


class Trio:
    """Two machines and a relay; `outside` is where a machine finds the relay."""

    def __init__(self, folder: Path) -> None:
        self.one = Station("laptop", folder / "one", 1)
        self.other = Station("nas", folder / "other", 2)
        self.relay = Station("vps", folder / "relay", 3)
        self.all = (self.one, self.other, self.relay)
        self.chart = signed(Content(machines=tuple(machine(n) for n in ("laptop", "nas", "vps"))))
        for number, each in enumerate((self.one, self.other), 1):
            join(each.space, "eth0", self.relay.space, f"eth{number}")
            each.space.run(f"ip addr add 198.51.{number}.2/24 dev eth0")
            self.relay.space.run(f"ip addr add 198.51.{number}.1/24 dev eth{number}")
        for each in self.all:
            each.give(self.chart)

    def outside(self, station: Station) -> str:
        return f"198.51.{station.number}.1"

    def relay_for(self, station: Station, **fields: Any) -> Relay:
        given: dict[str, Any] = {
            "identity": self.relay.key.public,
            "places": (Endpoint(host=self.outside(station), port=443),),
            "certificate": self.relay.certificate,
        }
        return Relay(**{**given, **fields})

    def want(self) -> None:
        """The simplest: everybody is there, the relay too has WireGuard."""
        self.relay.want(
            slots=(self.relay.slot(self.one, self.other),),
            listen=(Listen(place=Endpoint(host="0.0.0.0", port=443)),),
        )
        self.one.want(
            slots=(self.one.slot(self.other, self.relay),), relays=(self.relay_for(self.one),)
        )
        self.other.want(
            slots=(self.other.slot(self.one, self.relay),), relays=(self.relay_for(self.other),)
        )

    def start(self) -> None:
        for each in self.all:
            each.start()
        until(lambda: all(self.relay.has_stream(each.name) for each in (self.one, self.other)))

    def make_wireguard(self, mtu: int = 1280) -> None:
        for each in self.all:
            each.make_wireguard([other for other in self.all if other is not each], mtu)

    def remove(self) -> None:
        for each in self.all:
            each.remove()


@contextlib.contextmanager
def trio(folder: Path) -> Iterator[Trio]:
    made = Trio(folder)
    try:
        yield made
    finally:
        made.remove()


def _outer(place: Endpoint) -> Outer:
    return Outer(ip_address(place.host), place.port)
