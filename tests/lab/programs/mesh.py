"""Drives the mesh's WireGuard where the kernel has it, and prints what it saw as JSON.

Two network namespaces with two cables between them, and a link over each.
"""

from __future__ import annotations

import base64
import errno
import json
import re
import subprocess
import sys
import time
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from spaces import Space, join  # type: ignore[import-not-found]

from clan.mesh import clock
from clan.mesh.agent.kernel import WIREGUARD, Kernel
from clan.mesh.agent.netlink import NetlinkError
from clan.mesh.agent.probes import Prober
from clan.mesh.agent.rtnetlink import Route
from clan.mesh.agent.wireguard import Change, Endpoint, fingerprint, make

if TYPE_CHECKING:
    from clan.mesh.agent.wireguard import Wireguard

NETWORKS = {"eth0": "192.0.2", "wlan0": "198.51.100"}
NOTED = Path("/opt/noted")
SPACES = (Space(), Space())


def wg(*words: str, text: str = "") -> str:
    return subprocess.run(
        ["wg", *words], input=text, capture_output=True, text=True, check=True
    ).stdout


class End:
    """One end of a link."""

    def __init__(self, kernel: Kernel, machine: int, number: int, network: str) -> None:
        written = wg("genkey")
        self.private = base64.b64decode(written)
        self.public = base64.b64decode(wg("pubkey", text=written))
        self.outer = Endpoint(ip_address(f"{network}.{machine + 1}"), 51000 + number)
        self.inner = IPv6Address(f"fe80::{machine + 1}:{number}")
        self.stable = IPv6Address(f"fdcc::{machine + 1}")
        self.name = f"clan{number}"
        with SPACES[machine].inside():
            self.wireguard: Wireguard = make(kernel, self.name)
        self.wireguard.configure(private=self.private, port=self.outer.port, mark=7)
        found = kernel.interface(self.name)
        assert found is not None
        self.index = found.index
        kernel.set_mtu(self.index, 1280)
        kernel.set_up(self.index)
        kernel.add_address(self.index, ip_interface(f"{self.inner}/64"))
        with SPACES[machine].inside():
            self.prober = Prober(self.name, self.inner, 7777)

    def meet(self, peer: End, *, fresh: bool = False) -> None:
        allowed = frozenset({ip_network(peer.inner), ip_network(peer.stable)})
        self.wireguard.change(
            [Change(key=peer.public, endpoint=peer.outer, allowed=allowed, fresh=fresh)]
        )

    def path(self, peer: End) -> Route:
        return Route(to=ip_network(peer.stable), index=self.index, source=self.stable)


def answered(one: End, other: End, seconds: float = 30) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        one.prober.send(b"probe", str(other.inner))
        time.sleep(0.05)
        for heard in other.prober.receive():
            other.prober.send(heard.data, heard.source)
        time.sleep(0.05)
        if one.prober.receive():
            return True
    return False


def main() -> dict[str, object]:
    saw: dict[str, object] = {"boot": booted()}
    kernels = []
    for uplink in NETWORKS:
        join(SPACES[0], uplink, SPACES[1], uplink)
    ends = []
    for machine, space in enumerate(SPACES):
        with space.inside():
            kernels.append(Kernel())
        kernels[machine].add_address(1, ip_interface(f"fdcc::{machine + 1}/128"))
        for uplink, network in NETWORKS.items():
            space.run(f"ip addr add {network}.{machine + 1}/24 dev {uplink}")
        ends.append(
            [
                End(kernels[machine], machine, number, network)
                for number, network in enumerate(NETWORKS.values())
            ]
        )
    saw["kind"] = [each.kind for each in kernels[0].interfaces().values() if each.name == "clan0"]
    saw["addresses"] = [
        str(each.address.ip) for each in kernels[0].addresses() if each.index == ends[0][0].index
    ]
    for number in range(2):
        ends[0][number].meet(ends[1][number])
        ends[1][number].meet(ends[0][number])
    saw["answered"] = [answered(ends[0][number], ends[1][number]) for number in range(2)]
    own, peer = ends[0][0], ends[1][0]
    device = own.wireguard.read()
    seen = device.peers[peer.public]
    saw["device"] = [device.port, device.mark, device.key == fingerprint(own.private)]
    saw["peer"] = [
        seen.endpoint == peer.outer,
        sorted(map(str, seen.allowed)),
        seen.received > 0 and seen.sent > 0,
        time.time() - 60 < seen.handshake <= time.time(),
    ]
    saw["wg"] = SPACES[0].run("wg show clan0 listen-port").strip()
    saw["lost"] = switched(kernels, ends)
    saw["anew"] = anew(own, peer)
    saw["many"] = many(own)
    saw["kept"] = kept(kernels[0], own)
    return saw


def switched(kernels: list[Kernel], ends: list[list[End]]) -> list[int]:
    """Switch the path a hundred times under a stream of pings."""

    def switch(number: int) -> None:
        for machine in (0, 1):
            kernels[machine].set_route(ends[machine][number].path(ends[1 - machine][number]))

    switch(0)
    words = ["ping", "-6", "-n", "-i", "0.02", "-w", "60", "fdcc::2"]
    with SPACES[0].inside():
        stream = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    time.sleep(0.5)
    for number in range(100):
        switch(number % 2)
        time.sleep(0.02)
    stream.send_signal(2)
    answers = set(map(int, re.findall(r"icmp_seq=(\d+)", stream.communicate()[0])))
    return [len(answers), len(set(range(1, max(answers))) - answers)]


def anew(own: End, peer: End) -> list[bool]:
    """Lose an initiation, then meet again, without and with forgetting the peer."""
    took = []
    for fresh in (False, True):
        own.wireguard.change([Change(key=peer.public, remove=True)])
        own.meet(peer)
        nowhere = Endpoint(ip_address("192.0.2.77"), 9)
        own.wireguard.change([Change(key=peer.public, endpoint=nowhere)])
        own.prober.send(b"first", str(peer.inner))
        time.sleep(0.5)
        own.meet(peer, fresh=fresh)
        begun = time.monotonic()
        assert answered(own, peer)
        took.append(time.monotonic() - begun)
    return [took[0] > 2.5, took[1] < 2.5]


def booted() -> list[float]:
    """Go on from what time it was noted to be, once: return the times before and after, twice."""
    times, said = [time.time()], list[str]()
    notes = clock.Notes(NOTED)
    notes.apply(0, said.append)
    times.append(time.time())
    notes.turn(time.monotonic())
    time.clock_settime(time.CLOCK_REALTIME, times[0])
    notes.apply(0, said.append)  # the agent is started anew, and somebody had set the clock
    times.append(time.time())
    return times


def many(own: End) -> list[int]:
    """Let in so many peers, and one with so many addresses, that it takes several messages."""
    wide = frozenset(ip_network((0xFDCC << 112 | 1 << 32 | number, 128)) for number in range(1000))
    changes = [
        Change(
            key=number.to_bytes(32, "big"),
            allowed=frozenset({ip_network((0xFDCC << 112 | 2 << 32 | number, 128))}),
        )
        for number in range(1, 500)
    ]
    widest = b"\x77" * 32
    own.wireguard.change([*changes, Change(key=widest, allowed=wide)])
    device = own.wireguard.read()
    return [len(device.peers), len(device.peers[widest].allowed)]


def kept(kernel: Kernel, own: End) -> list[object]:
    """Take the interface up again; refuse one that is another's; take it away."""
    found: list[object] = []
    with SPACES[0].inside():
        again = make(kernel, own.name)
        found.append(len(again.read().peers) == len(own.wireguard.read().peers))
        gone = [Change(key=b"\x66" * 32, endpoint=own.outer)]
        again.change(gone)  # nobody is made by a change that does not let in
        found.append(b"\x66" * 32 in again.read().peers)
        try:
            make(kernel, "eth0")
        except NetlinkError as fault:
            found.append(errno.errorcode[fault.errno or 0])
        other = make(kernel, "other")
        kernel.set_up(next(i for i, each in kernel.interfaces().items() if each.name == "other"))
        try:
            other.configure(private=own.private, port=own.outer.port, mark=0)
        except OSError as fault:
            found.append(errno.errorcode[fault.errno or 0])
        other.remove()
        again.remove()
    found.append([each.name for each in kernel.interfaces().values() if each.kind == WIREGUARD])
    return found


sys.stdout.write(f"SAW {json.dumps(main())}\n")
