"""The mesh's hold on the kernel's network, in namespaces of its own."""

from __future__ import annotations

import errno
import select
import socket
import threading
from ipaddress import IPv6Address, ip_address, ip_interface, ip_network
from typing import TYPE_CHECKING

import pytest
from tests.lab.spaces import Space, join

from clan.mesh.agent import marks, uplinks
from clan.mesh.agent.kernel import TUN, Events, Kernel
from clan.mesh.agent.netlink import NetlinkError, OverrunError
from clan.mesh.agent.rtnetlink import MAIN, UNREACHABLE, Address, Interface, Route, Rule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clan.mesh.agent.kernel import Event

pytestmark = pytest.mark.lab

OWN, FAR = IPv6Address("fdcc::1"), IPv6Address("fdcc::2")
CLAN = ip_network("fdcc::/16")


@pytest.fixture
def pair(lab_ready: None) -> Iterator[tuple[Space, Space]]:
    """Two spaces with two cables between them: eth0 and wlan0 at both ends."""
    del lab_ready
    one, other = Space(), Space()
    join(one, "eth0", other, "eth0")
    join(one, "wlan0", other, "wlan0")
    yield one, other
    one.remove()
    other.remove()


@pytest.fixture
def space(pair: tuple[Space, Space]) -> Space:
    return pair[0]


@pytest.fixture
def kernel(space: Space) -> Iterator[Kernel]:
    with space.inside():
        made = Kernel()
    yield made
    made.close()


def test_the_route_that_a_packet_takes(space: Space, kernel: Kernel) -> None:
    space.run("ip addr add 10.9.0.2/24 dev eth0")
    space.run("ip addr add 10.8.0.2/24 dev wlan0")
    space.run("ip addr add fdaa::2/64 dev wlan0 nodad")
    space.run("ip route add default via 10.9.0.1 dev eth0")
    space.run("ip route add default via 10.8.0.1 dev wlan0 table 77")
    space.run("ip rule add fwmark 7 table 77")
    space.run("ip route add blackhole 192.0.2.0/24")

    def way(host: str, mark: int = 0) -> tuple[int, str] | None:
        found = kernel.route(ip_address(host), mark=mark)
        return (found.index, str(found.gateway)) if found else None

    assert way("198.51.100.1") == (to(kernel, "eth0"), "10.9.0.1")
    assert way("198.51.100.1", mark=7) == (to(kernel, "wlan0"), "10.8.0.1")
    assert way("10.9.0.77") == (to(kernel, "eth0"), "None")
    assert way("fdaa::77") == (to(kernel, "wlan0"), "None")
    for nowhere in ("192.0.2.1", "10.9.0.2", "2001:db8::1"):
        assert way(nowhere) is None


def to(kernel: Kernel, name: str) -> int:
    found = kernel.interface(name)
    assert found is not None
    return found.index


def until(events: Events, wanted: Callable[[Event], bool]) -> Event:
    """Wait for an event."""
    while True:
        assert select.select([events], [], [], 10)[0], "it was not told"
        for event in events.read():
            if wanted(event):
                return event


def test_it_shows_what_ip_shows(space: Space, kernel: Kernel) -> None:
    space.run("ip addr add 192.0.2.1/24 dev eth0")
    space.run("ip link set wlan0 down mtu 1400")
    shown = {each.name: each for each in kernel.interfaces().values()}
    assert {"lo", "eth0", "wlan0"} <= shown.keys()
    assert (shown["eth0"].kind, shown["eth0"].up, shown["eth0"].carrier) == ("veth", True, True)
    assert (shown["wlan0"].up, shown["wlan0"].mtu) == (False, 1400)
    assert shown["lo"].loopback
    assert kernel.interface("none") is None
    addresses = {
        str(each.address) for each in kernel.addresses() if each.index == to(kernel, "eth0")
    }
    assert "192.0.2.1/24" in addresses
    assert any(each.startswith("fe80::") for each in addresses)


@pytest.mark.parametrize(
    "written",
    [
        "fdcc::2/128 dev eth0 src fdcc::1 metric 1024",
        "fdcc::/16 via fe80::7 dev wlan0 metric 5",
        "unreachable fdcc::/16 metric 1024",
        "198.51.100.0/24 via 192.0.2.9 dev eth0 metric 7",
        "198.51.100.0/24 via 203.0.113.9 dev eth0 metric 7 onlink",
        "198.51.100.0/24 via inet6 fe80::7 dev eth0 metric 7",
        "203.0.113.0/24 dev eth0 scope link metric 7 mtu 1300",
    ],
)
def test_a_route_is_made_as_ip_makes_it(space: Space, kernel: Kernel, written: str) -> None:
    space.run("ip addr add 192.0.2.1/24 dev eth0")
    kernel.add_address(to(kernel, "lo"), ip_interface("fdcc::1/128"))
    version = "-4" if written[0] in "12" else "-6"
    space.run(f"ip {version} route add {written} proto 193 table 77")
    (by_ip,) = kernel.routes(table=77)
    shown = space.run(f"ip -d {version} route show table 77")
    assert kernel.settle_routes([by_ip], table=77) == []
    kernel.delete_route(by_ip)
    kernel.delete_route(by_ip)  # twice is no fault
    assert kernel.routes(table=77) == []
    kernel.set_route(by_ip)
    assert space.run(f"ip -d {version} route show table 77") == shown


def test_a_path_is_switched_without_a_moment_between(space: Space, kernel: Kernel) -> None:
    for name in ("eth0", "wlan0"):
        space.run(f"ip link set {name} arp off")  # as links have none
    kernel.add_address(to(kernel, "lo"), ip_interface(f"{OWN}/128"))
    paths = [
        Route(to=ip_network(f"{FAR}/128"), index=to(kernel, name), source=OWN)
        for name in ("eth0", "wlan0")
    ]
    # What is there if a path is missing, as always.
    kernel.set_route(Route(to=CLAN, kind=UNREACHABLE))
    kernel.set_route(paths[0])
    assert _failures_while(space, lambda: _switch(paths, kernel.set_route)) == 0

    def in_two_steps(path: Route) -> None:
        for other in paths:
            kernel.delete_route(other)
        kernel.set_route(path)

    assert _failures_while(space, lambda: _switch(paths, in_two_steps)) > 0
    (path,) = [route for route in kernel.routes() if route.to.prefixlen == 128]
    assert path == paths[1]


def _switch(paths: list[Route], act: Callable[[Route], None]) -> None:
    for number in range(2000):
        act(paths[number % 2])


def _failures_while(space: Space, act: Callable[[], None]) -> int:
    """Send datagrams to the far address while something is done; count those refused."""
    with space.inside():
        sender = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    act_thread = threading.Thread(target=act)
    failed = sent = 0
    act_thread.start()
    while act_thread.is_alive():
        try:
            sender.sendto(b"x", (str(FAR), 9))
            sent += 1
        except BlockingIOError:
            pass
        except OSError:
            failed += 1
    sender.close()
    assert sent > 1000
    return failed


def test_what_changes_is_told_and_by_whom(pair: tuple[Space, Space], kernel: Kernel) -> None:
    space, other = pair
    with space.inside():
        events = Events()
    index = to(kernel, "eth0")
    other.run("ip link set eth0 down")
    until(
        events,
        lambda each: (
            isinstance(each.what, Interface) and each.what.name == "eth0" and not each.what.carrier
        ),
    )
    address = ip_interface("fdcc::1/128")
    kernel.add_address(index, address)
    told = until(events, lambda each: each.what == Address(index=index, address=address))
    assert not told.gone
    space.run("ip addr del fdcc::1/128 dev eth0")
    until(events, lambda each: isinstance(each.what, Address) and each.gone)
    route = Route(to=ip_network("fdcc::2/128"), index=to(kernel, "wlan0"))
    kernel.set_route(route)
    assert until(events, lambda each: each.what == route).port == kernel.port
    space.run("ip -6 route del fdcc::2/128")
    told = until(events, lambda each: each.what == route and each.gone)
    assert told.port != kernel.port
    rules = marks.rules({marks.mark(1): index})
    kernel.settle_rules(rules)
    space.run(f"ip -6 rule del priority {marks.PRIORITY}")
    told = until(events, lambda each: isinstance(each.what, Rule) and each.gone)
    assert told.what in rules
    # A port that leaves its bridge is still there.
    space.run("ip link add name br0 type bridge")
    space.run("ip link set wlan0 master br0")
    space.run("ip link set wlan0 nomaster")
    space.run("ip link set wlan0 mtu 1444")
    told = until(
        events,
        lambda each: (
            isinstance(each.what, Interface)
            and each.what.name == "wlan0"
            and (each.gone or each.what.mtu == 1444)
        ),
    )
    assert not told.gone
    space.run("ip link del wlan0")
    until(events, lambda each: isinstance(each.what, Interface) and each.gone)
    events.close()


def test_lost_events_are_said_to_be_lost(space: Space, kernel: Kernel) -> None:
    with space.inside():
        events = Events()
    index = to(kernel, "eth0")
    for number in range(6000):
        kernel.set_route(Route(to=ip_network((0xFDCC << 112 | number, 128)), index=index))
    with pytest.raises(OverrunError):
        events.read()
    # Then it goes on.
    events.read()
    kernel.delete_route(Route(to=ip_network((0xFDCC << 112, 128)), index=index))
    until(events, lambda each: isinstance(each.what, Route) and each.gone)
    events.close()


def test_what_carries_a_mark_leaves_by_its_uplink_or_not_at_all(
    pair: tuple[Space, Space], kernel: Kernel
) -> None:
    """Ethernet with a carrier has the default route, and the datagrams are Wi-Fi's."""
    space, other = pair
    for name, network in (("eth0", "192.0.2"), ("wlan0", "198.51.100")):
        space.run(f"ip addr add {network}.1/24 dev {name}")
        other.run(f"ip addr add {network}.2/24 dev {name}")
    other.run("ip addr add 203.0.113.1/32 dev lo")
    other.run("sysctl -qw net.ipv4.conf.all.rp_filter=0")
    space.run("ip route add default via 192.0.2.2")
    space.run("ip route add default via 198.51.100.2 metric 600")
    with other.inside():
        heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        heard.bind(("203.0.113.1", 7))
        heard.settimeout(5)
    with space.inside():
        marked = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    marked.setsockopt(socket.SOL_SOCKET, socket.SO_MARK, marks.mark(1))

    def source() -> str:
        marked.sendto(b"x", ("203.0.113.1", 7))
        return str(heard.recvfrom(9)[1][0])

    assert source() == "192.0.2.1"  # without a rule it follows the default route
    index = to(kernel, "wlan0")
    number = marks.table(index)
    kernel.settle_rules(marks.rules({marks.mark(1): index}))
    wanted = uplinks.table(index, kernel.routes())
    assert kernel.settle_routes(wanted, table=number)
    assert source() == "198.51.100.1"
    # A full tunnel, as wg-quick makes it, catches all else.
    space.run("ip rule add not fwmark 51820 table 51820")
    space.run("ip rule add table main suppress_prefixlength 0")
    space.run("ip route add unreachable default table 51820")
    with pytest.raises(OSError, match="No route to host"):
        source()
    ours = marks.rules({marks.mark(1): index}, kernel.rules())
    assert len(kernel.settle_rules(ours)) == 4  # two made, two deleted
    assert source() == "198.51.100.1"
    assert marks.rules({marks.mark(1): index}, kernel.rules()) == ours
    assert [rule.mark for rule in kernel.rules() if rule.protocol == 193] == 2 * [marks.mark(1)]
    assert kernel.settle_routes(uplinks.table(index, kernel.routes()), table=number) == []
    space.run("ip route del default via 198.51.100.2")
    kernel.settle_routes(uplinks.table(index, kernel.routes()), table=number)
    with pytest.raises(OSError) as refused:  # noqa: PT011 (its number follows)
        source()
    assert refused.value.errno in {errno.EHOSTUNREACH, errno.ENETUNREACH}
    assert [route.to for route in kernel.routes(table=MAIN, protocol=193)] == []
    kernel.settle_rules([])
    kernel.settle_routes([], table=number)
    assert [rule for rule in kernel.rules() if rule.protocol == 193] == []
    assert kernel.routes(table=number) == []
    marked.close()
    heard.close()


def test_a_tun_stays_without_a_process_and_gives_itself_no_address(
    space: Space, kernel: Kernel
) -> None:
    with space.inside():
        index = kernel.create("own", TUN)
    kernel.set_mtu(index, 1280)
    kernel.set_up(index)
    address = ip_interface("fe80::1/64")
    kernel.add_address(index, address)
    kernel.add_address(index, address)  # twice is no fault
    found = kernel.interface("own")
    assert found is not None
    assert (found.kind, found.mtu, found.up) == (TUN, 1280, True)
    assert [each for each in kernel.addresses() if each.index == index] == [
        Address(index=index, address=address)
    ]
    kernel.remove_address(index, address)
    kernel.remove_address(index, address)
    kernel.delete(index)
    kernel.delete(index)
    assert kernel.interface("own") is None


def test_an_mtu_below_ipv6s_is_refused_as_it_would_end_ipv6(space: Space, kernel: Kernel) -> None:
    with space.inside():
        index = kernel.create("own", TUN)
    kernel.set_up(index)
    kernel.add_address(index, ip_interface("fe80::1/64"))
    with pytest.raises(NetlinkError, match="too small for IPv6"):
        kernel.set_mtu(index, 1279)
    assert any(each.index == index for each in kernel.addresses())
    space.run("ip link set own mtu 1279")  # what is refused
    assert not any(each.index == index for each in kernel.addresses())
    assert ip_address("fe80::1") not in {each.address.ip for each in kernel.addresses()}


def test_the_kernels_own_words_are_in_its_refusals(kernel: Kernel) -> None:
    far = Route(to=ip_network("203.0.113.0/24"), gateway=ip_address("198.51.100.1"))
    with pytest.raises(NetlinkError, match=r"route to 203.0.113.0/24: .*invalid gateway"):
        kernel.settle_routes([far, Route(to=CLAN, kind=UNREACHABLE)], table=MAIN)
    assert [route.to for route in kernel.routes(protocol=193)] == [CLAN]  # the others are done
