"""Announcements on LANs, in namespaces."""

from __future__ import annotations

import select
import socket
from typing import TYPE_CHECKING

import pytest
from tests.lab.spaces import Space, join

from clan.mesh.agent.lan import PORT, Lan

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab


@pytest.fixture
def spaces(lab_ready: None) -> Iterator[tuple[Space, Space]]:
    del lab_ready
    made = Space(), Space()
    join(made[0], "eth0", made[1], "eth0")
    join(made[0], "wlan0", made[1], "wlan0")
    yield made
    for space in made:
        space.remove()


def on(space: Space, name: str, version: int) -> Lan:
    with space.inside():
        return Lan(name, socket.if_nametoindex(name), version)


def heard(lan: Lan) -> list[tuple[bytes, str]]:
    select.select([lan], [], [], 1)
    return [(each.data, str(each.source)) for each in lan.receive()]


@pytest.mark.parametrize("version", [4, 6])
def test_all_on_the_lan_hear_it_and_no_other_lan(spaces: tuple[Space, Space], version: int) -> None:
    one, other = spaces
    one.run("ip addr add 192.0.2.1/24 dev eth0")
    one.run("ip addr add 198.51.100.1/24 dev wlan0")
    here, there = on(one, "eth0", version), on(other, "eth0", version)
    elsewhere = on(other, "wlan0", version)
    here.send(b"anyone?")
    ((data, source),) = heard(there)
    assert data == b"anyone?"
    assert source == "192.0.2.1" if version == 4 else source.startswith("fe80::")
    assert heard(elsewhere) == []
    assert heard(here) == []  # not itself
    for each in (here, there, elsewhere):
        each.close()


def test_a_bare_switch_without_addresses_of_ipv4_is_a_lan(spaces: tuple[Space, Space]) -> None:
    one, other = spaces
    here, there = on(one, "eth0", 6), on(other, "eth0", 6)
    here.send(b"anyone?")
    assert len(heard(there)) == 1
    here.close()
    there.close()


def test_where_there_is_no_ipv6_there_is_ipv4(spaces: tuple[Space, Space]) -> None:
    one, _ = spaces
    one.run("sysctl -qw net.ipv6.conf.eth0.disable_ipv6=1")
    one.run("ip addr add 192.0.2.1/24 dev eth0")
    there_is_none = on(one, "eth0", 6)
    with pytest.raises(OSError, match="unreachable"):
        there_is_none.send(b"anyone?")
    there_is_none.close()
    here = on(one, "eth0", 4)
    here.send(b"anyone?")
    here.close()


@pytest.mark.parametrize(("hops", "taken"), [(255, True), (64, False)])
def test_what_a_router_may_have_passed_on_is_not_heard(
    spaces: tuple[Space, Space], hops: int, *, taken: bool
) -> None:
    one, other = spaces
    one.run("ip addr add 192.0.2.1/24 dev eth0")
    other.run("ip addr add 192.0.2.2/24 dev eth0")
    there = on(other, "eth0", 4)
    with one.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, hops)
        sender.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton("192.0.2.1"))
        sender.sendto(b"x", ("224.0.0.1", PORT))
    assert bool(heard(there)) is taken
    there.close()
