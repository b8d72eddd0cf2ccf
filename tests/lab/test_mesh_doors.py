"""Real routers open doors: asked by PCP, NAT-PMP or UPnP, by whatever they understand."""

from __future__ import annotations

import asyncio
import contextlib
import json
import select
import socket
import subprocess
import sys
import time
from functools import partial
from ipaddress import ip_address
from typing import TYPE_CHECKING

import pytest
from tests.lab.gateways import Gateway, lying, said
from tests.lab.internet import Home, Internet, T
from tests.lab.spaces import Space, join

from clan.mesh.agent.knocks import Knocks, knock
from clan.mesh.outside.router import LEAST_LIFE, MOST_LIFE, DoorError, Router
from clan.mesh.outside.seam import Door
from clan.mesh.wire import Knock

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

PORT = 51000
GATEWAY = """
import socket, struct, sys
own = sys.argv[1]
searched = socket.socket(type=socket.SOCK_DGRAM)
searched.bind(("239.255.255.250", 1900))
member = socket.inet_aton("239.255.255.250") + socket.inet_aton(own)
searched.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, member)
told = socket.socket(type=socket.SOCK_DGRAM)
told.bind((own, 1900))
print("ready", flush=True)
while True:
    data, source = searched.recvfrom(2000)
    print("searched", flush=True)
    where = f"LOCATION: http://{own}:5000/x"
    told.sendto(f"HTTP/1.1 200 OK\\r\\n{where}\\r\\n\\r\\n".encode(), source)
"""


class Site:
    """A home, a machine in it at 192.168.1.2 and 2001:db8:1::2, and a stranger outside."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._made = contextlib.ExitStack()
        self.internet = self._keep(Internet())
        self.home = self._keep(Home(self.internet))
        self.machine, self.stranger = self._keep(Space()), self._keep(Space())
        join(self.machine, "eth0", self.home.space, "port")
        self.home.space.run("ip link set port master lan")
        self.machine.run("ip addr add 192.168.1.2/24 dev eth0")
        self.machine.run("ip route add default via 192.168.1.1 dev eth0")
        self.internet.attach(self.stranger, "eth0")

    def six(self) -> str:
        """Give them IPv6; return the router's address on the LAN."""
        for each in (self.home.space, self.internet.space):
            each.run("sysctl -qw net.ipv6.conf.all.forwarding=1")
        link = self._router_link()
        self.home.space.run("ip -6 addr add 2001:db8:1::1/64 dev lan")
        self.home.space.run("ip -6 addr add 2001:db8:2::1/64 dev wan")
        self.machine.run("ip -6 addr add 2001:db8:1::2/64 dev eth0")
        self.machine.run(f"ip -6 route add default via {link} dev eth0")
        self.internet.space.run("ip -6 addr add 2001:db8:2::2/64 dev to1")
        self.internet.space.run("ip -6 addr add 2001:db8:3::1/64 dev to2")
        self.internet.space.run("ip -6 route add 2001:db8:1::/64 via 2001:db8:2::1")
        self.home.space.run("ip -6 route add default via 2001:db8:2::2")
        self.stranger.run("ip -6 addr add 2001:db8:3::2/64 dev eth0")
        self.stranger.run("ip -6 route add default via 2001:db8:3::1")
        return link

    def _router_link(self) -> str:
        shown = json.loads(self.home.space.run("ip -j -6 addr show dev lan scope link"))
        return str(shown[0]["addr_info"][0]["local"])

    def gateway(self, **how: bool) -> Gateway:
        return self._keep(Gateway(self.home, self.folder / "router", **how))

    def router(self, gateway: str = "192.168.1.1") -> Router:
        shown = json.loads(self.machine.run("ip -j link show eth0"))
        return Router(
            Door(
                id="0a0b0c0d",
                uplink="eth0",
                index=shown[0]["ifindex"],
                gateway=ip_address(gateway),
                port=PORT,
                nonce=b"a nonce of 1",
            )
        )

    def neighbour(self) -> Space:
        """Return another machine of the LAN, at 192.168.1.3."""
        other = self._keep(Space())
        join(other, "eth0", self.home.space, "other")
        self.home.space.run("ip link set other master lan")
        other.run("ip addr add 192.168.1.3/24 dev eth0")
        other.run("ip route add 239.0.0.0/8 dev eth0")
        return other

    def reached(self, host: str, port: int) -> bool:
        """Whether a stranger's datagram comes in."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with self.machine.inside(), socket.socket(family, socket.SOCK_DGRAM) as door:
            door.bind(("", PORT))
            with self.stranger.inside(), socket.socket(family, socket.SOCK_DGRAM) as sender:
                sender.sendto(b"knock", (host, port))
            return bool(select.select([door], [], [], 1)[0])

    def remove(self) -> None:
        self._made.close()

    def _keep(self, made: T) -> T:
        self._made.callback(made.remove)
        return made


@pytest.fixture
def site(lab_ready: None, tmp_path: Path) -> Iterator[Site]:
    del lab_ready
    made = Site(tmp_path)
    yield made
    made.remove()


@pytest.mark.parametrize(
    ("by", "how"),
    [
        ("PCP", {"upnp": False}),
        ("UPnP", {"natpmp": False}),
        ("UPnP", {"natpmp": False, "old": True}),
    ],
)
def test_a_router_opens_a_door_and_shuts_it(site: Site, by: str, how: dict[str, bool]) -> None:
    gateway = site.gateway(**how)
    router = site.router()
    assert not site.reached(site.home.address, PORT)
    with site.machine.inside():
        lease = asyncio.run(router.open())
    assert (lease.by, lease.endpoint.host, lease.ends) == (by, site.home.address, True)
    assert gateway.open() == [lease.endpoint.port]
    assert site.reached(lease.endpoint.host, lease.endpoint.port)
    with site.machine.inside():
        assert asyncio.run(router.open()).endpoint == lease.endpoint
        asyncio.run(router.shut())
    assert gateway.open() == []


def test_natpmp(site: Site) -> None:
    gateway = site.gateway(upnp=False)
    router = site.router()
    router._ways.pop(0)
    with site.machine.inside():
        lease = asyncio.run(router.open())
    assert lease.by == "NAT-PMP"
    assert site.reached(lease.endpoint.host, lease.endpoint.port)
    with site.machine.inside():
        asyncio.run(router.shut())
    assert gateway.open() == []


@pytest.mark.parametrize(("by", "how"), [("PCP", {"upnp": False}), ("UPnP", {"natpmp": False})])
def test_a_router_lets_datagrams_of_ipv6_in(site: Site, by: str, how: dict[str, bool]) -> None:
    link = site.six()
    site.gateway(**how)
    router = site.router(link)
    if by == "UPnP":
        router._ways.pop(0)  # this router always knows PCP for IPv6
    assert not site.reached("2001:db8:1::2", PORT)
    with site.machine.inside():
        lease = asyncio.run(router.open())
    assert (lease.by, lease.endpoint.host, lease.endpoint.port) == (by, "2001:db8:1::2", PORT)
    assert site.reached("2001:db8:1::2", PORT)
    with site.machine.inside():
        asyncio.run(router.shut())
    assert not site.reached("2001:db8:1::2", PORT)


FALSE: dict[str, Callable[[bytes], bytes]] = {
    "for another question": lambda data: said(data, nonce=bytes(12)),
    "for another port": lambda data: said(data, inner=9),
    "no address": lambda data: said(data, address="0.0.0.0"),
    "an address of its own LAN": lambda data: said(data, address="192.168.1.77"),
    "a provider's inner address": lambda data: said(data, address="100.64.3.4"),
    "a multicast address": lambda data: said(data, address="239.1.1.1"),
    "no port": lambda data: said(data, outer=0),
    "a refusal": lambda data: said(data, result=2),
    "half of it": lambda data: said(data)[:40],
    "too much": lambda data: said(data) + bytes(1400),
    "noise": lambda _: b"\2\x81" + bytes(58),
}


@pytest.mark.parametrize("lie", FALSE)
def test_what_a_router_says_is_not_believed_as_it_is(site: Site, lie: str) -> None:
    router = site.router()
    del router._ways[1:]
    with lying(site.home.space, FALSE[lie]), site.machine.inside(), pytest.raises(DoorError):
        asyncio.run(router.open())


def test_a_life_that_cannot_be_is_cut(site: Site) -> None:
    for life, kept in ((0, LEAST_LIFE), (0xFFFFFFFF, MOST_LIFE)):
        with lying(site.home.space, partial(said, life=life)), site.machine.inside():
            assert asyncio.run(site.router().open()).life == kept


def test_only_the_uplink_s_router_is_asked(site: Site) -> None:
    """Another machine of the LAN says that it is the gateway, to whoever looks for one."""
    other = site.neighbour()
    with other.inside():
        words = [sys.executable, "-c", GATEWAY, "192.168.1.3"]
        process = subprocess.Popen(words, stdout=subprocess.PIPE)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == b"ready\n"
        with site.machine.inside(), pytest.raises(DoorError, match="upnp: no answer"):
            asyncio.run(site.router().open())
    finally:
        process.kill()
    said = process.communicate()[0]
    assert b"searched" in said


def test_a_router_that_opens_nothing_is_said_to(site: Site) -> None:
    with site.machine.inside(), pytest.raises(DoorError, match=r"192\.168\.1\.1 opens no port"):
        asyncio.run(site.router().open())


@pytest.mark.parametrize("version", [4, 6])
def test_a_knock_is_heard_if_it_comes_in_and_is_the_right_one(site: Site, version: int) -> None:
    gateway = "192.168.1.1" if version == 4 else site.six()
    site.gateway()
    router = site.router(gateway)
    with site.machine.inside():
        endpoint = asyncio.run(router.open()).endpoint
    found = {router.door: endpoint}
    for number in (0, 1):  # added to the one that is asked for
        waiting = Knocks()
        with site.machine.inside():
            ((there, asked),) = waiting.wanted(found, 100.0)
        with site.stranger.inside():
            knock(Knock(endpoint=there, number=asked ^ number))
        time.sleep(0.5)
        waiting.turn(found, {each for each, _ in waiting.sockets()}, 101.0)
        assert (waiting.heard == {router.door.id}) is (number == 0)
        assert list(waiting.wanted(found, 102.0)) == []
        waiting.turn({}, set(), 103.0)
        assert (waiting.heard, list(waiting.sockets())) == (frozenset(), [])
        waiting.close()
