"""Resolvers for machines in namespaces, and a network with IPv6 alone behind a NAT64."""

from __future__ import annotations

import contextlib
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tests.lab.links import until
from tests.lab.spaces import Space, join

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.agents import Box
    from tests.lab.internet import Internet

NAT64 = "2001:db8:64::"
TAYGA = """\
tun-device nat64
ipv4-addr 192.168.255.1
prefix {prefix}/96
dynamic-pool 192.168.255.0/24
data-dir {folder}
"""
POOL = """\
table ip nat {
    chain post {
        type nat hook postrouting priority 100;
        oifname "wan" masquerade
    }
}
"""


@contextlib.contextmanager
def asks(box: Box, address: str) -> Iterator[None]:
    """Have a machine ask a resolver at an address, for what is started there meanwhile."""
    folder = Path("/etc/netns", box.space.name)
    folder.mkdir(parents=True)
    (folder / "resolv.conf").write_text(f"nameserver {address}\n")
    try:
        yield
    finally:
        (folder / "resolv.conf").unlink()
        folder.rmdir()


@contextlib.contextmanager
def resolver(space: Space, *names: str) -> Iterator[None]:
    """Run dnsmasq, which knows these names alone: each NAME=ADDRESS."""
    words = [
        "dnsmasq",
        "--keep-in-foreground",
        "--conf-file=/dev/null",
        "--no-resolv",
        "--no-hosts",
    ]
    words += ["--pid-file", "--user=root", "--bind-interfaces", "--except-interface=lo"]
    told = [
        f"--address=/{name}/{address}" for name, _, address in (e.partition("=") for e in names)
    ]
    run = subprocess.Popen(["ip", "netns", "exec", space.name, *words, *told])
    try:
        yield
    finally:
        run.terminate()
        run.wait(20)


class OnlySix:
    """A network with IPv6 alone, behind a router with a NAT64: real tayga."""

    def __init__(self, internet: Internet, folder: Path) -> None:
        self.space = Space()
        self.address = internet.attach(self.space, "wan")
        for each in ("net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"):
            self.space.run(f"sysctl -qw {each}=1")
        with self.space.inside():
            subprocess.run(["nft", "-f", "-"], input=POOL.encode(), check=True)
        folder.mkdir()
        (folder / "conf").write_text(TAYGA.format(prefix=NAT64, folder=folder))
        words = ["ip", "netns", "exec", self.space.name, "tayga", "-c", str(folder / "conf")]
        subprocess.run([*words, "--mktun"], check=True, capture_output=True)
        self.space.run("ip link set nat64 up")
        self.space.run("ip route add 192.168.255.0/24 dev nat64")
        self.space.run(f"ip route add {NAT64}/96 dev nat64")
        with (folder / "log").open("wb") as log:
            self._run = subprocess.Popen([*words, "--nodetach"], stdout=log, stderr=log)

    def plug(self, box: Box) -> str:
        """Lay a cable from a machine; return where the router is for it."""
        join(box.space, "eth0", self.space, "lan")
        self.space.run("ip addr add 2001:db8:6::1/64 dev lan")
        box.space.run("ip addr add 2001:db8:6::2/64 dev eth0")
        box.space.run("ip route add default via 2001:db8:6::1 dev eth0 metric 100")
        until(lambda: "dadfailed" not in box.space.run("ip -6 addr"))
        return "2001:db8:6::1"

    def remove(self) -> None:
        self._run.terminate()
        self._run.wait(20)
        self.space.remove()
