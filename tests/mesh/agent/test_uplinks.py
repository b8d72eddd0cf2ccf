"""What counts as an uplink, from what the kernel has; and the table of each."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest

from clan.mesh.agent import marks, uplinks
from clan.mesh.agent.rtnetlink import PROTOCOL, UNREACHABLE, Address, Interface, Route

ANY = ip_network("0.0.0.0/0")


def interface(index: int, name: str, kind: str = "", **more: bool | int) -> Interface:
    shape = {"up": True, "carrier": True, "loopback": False, "mtu": 1500, "part_of": 0} | more
    return Interface(index=index, name=name, kind=kind, **shape)  # type: ignore[arg-type]


def route(to: str, index: int, metric: int = 100, gateway: str | None = None) -> Route:
    return Route(
        to=ip_network(to),
        index=index,
        metric=metric,
        gateway=ip_address(gateway) if gateway else None,
        protocol=16,
    )


LAPTOP = [
    interface(1, "lo", loopback=True),
    interface(2, "eth0", carrier=False),
    interface(3, "wlan0"),
    interface(4, "docker0", "bridge"),
    interface(5, "veth1", "veth", part_of=4),
    interface(6, "br0", "bridge"),
    interface(7, "eth1", part_of=6),
    interface(8, "tailscale0", "tun"),
    interface(9, "clan1", "wireguard"),
    interface(10, "host0", "veth"),
]
ROUTES = [
    route("0.0.0.0/0", 3, 600, "192.168.1.1"),
    route("0.0.0.0/0", 6, 100, "10.0.0.1"),
    route("::/0", 3, 1024, "fe80::1"),
    route("192.168.1.0/24", 3),
    route("172.17.0.0/16", 4),
]


def test_a_laptops_uplinks() -> None:
    own = Address(index=3, address=ip_interface("192.168.1.9/24"))
    addresses = [
        own,
        Address(index=3, address=ip_interface("2001:db8::1/64"), usable=False),
        Address(index=3, address=ip_interface("2001:db8::2/64"), deprecated=True),
    ]
    found = uplinks.attachments(LAPTOP, addresses, ROUTES, {"wlan0"}, {"clan1"})
    assert [each.name for each in found] == ["br0", "eth0", "host0", "tailscale0", "wlan0"]
    by = {each.name: each for each in found}
    assert not by["eth0"].works
    assert by["wlan0"].works
    assert by["wlan0"].metered
    assert not by["br0"].metered
    assert by["wlan0"].addresses == (own.address,)
    assert [str(each.gateway) for each in by["wlan0"].defaults] == ["192.168.1.1", "fe80::1"]
    assert by["tailscale0"].kind == "tun"


def test_the_table_of_an_uplink_has_its_routes_and_an_end() -> None:
    ours = Route(to=ip_network("fdcc::2/128"), index=3)
    table = uplinks.table(3, [*ROUTES, ours])
    assert {each.table for each in table} == {marks.table(3)}
    assert {each.protocol for each in table} == {PROTOCOL}
    ends = [each for each in table if each.kind == UNREACHABLE]
    assert [str(each.to) for each in ends] == ["0.0.0.0/0", "::/0"]
    ways = [str(each.to) for each in table if each not in ends]
    assert ways == ["0.0.0.0/0", "::/0", "192.168.1.0/24"]
    assert min(each.metric for each in ends) > max(each.metric for each in ROUTES)


NMCLI = """\
GENERAL.DEVICE:wlan0
GENERAL.METERED:yes (guessed)

GENERAL.DEVICE:eth0
GENERAL.METERED:no

GENERAL.DEVICE:usb0
GENERAL.METERED:yes

GENERAL.DEVICE:lo
GENERAL.METERED:unknown
"""


def test_what_network_manager_holds_for_metered() -> None:
    assert uplinks.metered_of(NMCLI) == {"wlan0", "usb0"}
    assert uplinks.metered_of("Error: NetworkManager is not running.\n") == frozenset()


def test_marks_are_told_from_everyone_elses() -> None:
    own = {marks.mark(number) for number in range(1, 256)}
    assert len(own) == 255
    assert all(each & marks.MASK == marks.FIRST for each in own)
    for other in (0xCA6C, 0x80000, 0x40000, 0x4000, 0x8000, 1):
        assert other & marks.MASK != marks.FIRST
    assert marks.FIRST & 0xFF0000 not in {0x40000, 0x80000}  # Tailscale looks for these
    for number in (0, 256):
        with pytest.raises(ValueError, match="has no link"):
            marks.mark(number)
