"""Two machines' ends of two links, over wireguard-go: eth0 and wlan0 carry a link each."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import subprocess
import time
from dataclasses import dataclass, field
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import pytest
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from tests.lab.spaces import Space, join

from clan.lab import built
from clan.mesh.agent.kernel import TUN, Kernel
from clan.mesh.agent.probes import Prober
from clan.mesh.agent.wireguard import Change, Endpoint, make

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clan.mesh.agent.wireguard import Wireguard

T = TypeVar("T")
UPLINKS = {"eth0": "192.0.2", "wlan0": "198.51.100"}
PROBES = 7777
_NUMBERS = itertools.count(1)


@dataclass(kw_only=True)
class End:
    """One end of a link: an interface of its own, with its own key and link-local address."""

    space: Space
    kernel: Kernel
    uplink: str
    outer: Endpoint
    private: bytes
    inner: IPv6Address
    stable: IPv6Address
    name: str = field(default_factory=lambda: f"wg{os.getpid():x}-{next(_NUMBERS)}")
    daemon: subprocess.Popen[bytes] | None = None
    wireguard: Wireguard = field(init=False)

    @property
    def public(self) -> bytes:
        return X25519PrivateKey.from_private_bytes(self.private).public_key().public_bytes_raw()

    @property
    def index(self) -> int:
        found = self.kernel.interface(self.name)
        assert found is not None
        return found.index

    def start(self) -> None:
        """Make the interface, as the agent does where the kernel makes none."""
        if self.kernel.interface(self.name) is None:
            with self.space.inside():
                index = self.kernel.create(self.name, TUN)
            self.kernel.set_up(index)
            self.kernel.add_address(index, ip_interface(f"{self.inner}/64"))
        self.run_daemon()
        self.wireguard = make(self.kernel, self.name)
        self.kernel.set_mtu(self.index, 1280)

    def run_daemon(self) -> None:
        program = built.kept().find("wireguard-go", platform.machine())
        if program is None:
            pytest.skip("wireguard-go is not built (scripts/setup builds it)")
        sock = Path(f"/var/run/wireguard/{self.name}.sock")
        sock.unlink(missing_ok=True)
        with self.space.inside():
            words = [str(program), "--foreground", self.name]
            # A session of its own, as a unit has: the scheduler shares processors among sessions.
            self.daemon = subprocess.Popen(
                words,
                env={"LOG_LEVEL": "error"},
                stdout=subprocess.DEVNULL,  # a banner: the kernel could do it, too
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        until(sock.is_socket)

    def stop_daemon(self) -> None:
        if self.daemon is not None:
            self.daemon.kill()
            self.daemon.wait()

    def configure(self) -> None:
        self.wireguard.configure(private=self.private, port=self.outer.port, mark=0)

    def meet(self, peer: End, **more: bool) -> None:
        """Let a peer in by this link, with its link-local and its stable address."""
        allowed = frozenset({ip_network(peer.inner), ip_network(peer.stable)})
        self.wireguard.change(
            [Change(key=peer.public, endpoint=peer.outer, allowed=allowed, **more)]
        )

    def prober(self) -> Prober:
        with self.space.inside():
            return Prober(self.name, self.inner, PROBES)


class Ends(dict[tuple[int, str], End]):
    """The ends by machine (0 or 1) and uplink."""

    def start(self) -> None:
        for end in self.values():
            end.start()
            end.configure()
        for (machine, uplink), end in self.items():
            end.meet(self[1 - machine, uplink])


def private() -> bytes:
    return X25519PrivateKey.generate().private_bytes_raw()


@contextlib.contextmanager
def two_machines(keys: Callable[[int, str], bytes] | None = None) -> Iterator[Ends]:
    """Two machines with an IPv4 address on each of two cables, and a link over each."""
    spaces = (Space(), Space())
    kernels = []
    ends = Ends()
    try:
        for uplink in UPLINKS:
            join(spaces[0], uplink, spaces[1], uplink)
        for machine, space in enumerate(spaces):
            with space.inside():
                kernels.append(Kernel())
            stable = IPv6Address(f"fdcc::{machine + 1}")
            loopback = kernels[machine].interface("lo")
            assert loopback is not None
            kernels[machine].add_address(loopback.index, ip_interface(f"{stable}/128"))
            for number, (uplink, network) in enumerate(UPLINKS.items()):
                outer = f"{network}.{machine + 1}"
                space.run(f"ip addr add {outer}/24 dev {uplink}")
                ends[machine, uplink] = End(
                    space=space,
                    kernel=kernels[machine],
                    uplink=uplink,
                    outer=Endpoint(ip_address(outer), 51000 + number),
                    private=keys(machine, uplink) if keys else private(),
                    inner=IPv6Address(f"fe80::{machine + 1}:{number}"),
                    stable=stable,
                )
        yield ends
    finally:
        for end in ends.values():
            end.stop_daemon()
        for kernel in kernels:
            kernel.close()
        for space in spaces:
            space.remove()


def until(found: Callable[[], T], seconds: float = 20) -> T:
    """Wait for something, and return it: looked for less and less often, as a look costs some."""
    end, pause = time.monotonic() + seconds, 0.02
    while not (seen := found()):
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(pause)
        pause = min(1.2 * pause, 0.25)
    return seen


def answered(asker: Prober, answerer: Prober, to: IPv6Address, data: bytes = b"probe") -> bool:
    """Whether a probe comes to the other end, and its answer back, in some tries."""
    for _ in range(100):
        asker.send(data, str(to))
        time.sleep(0.05)
        for heard in answerer.receive():
            answerer.send(heard.data, heard.source)
        time.sleep(0.02)
        if any(heard.data == data for heard in asker.receive()):
            return True
    return False
