"""Where a computer is while the kernel still checks an address that a router gave it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING

import pytest
from tests.lab.spaces import Space, join

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

TUNNEL, ROUTER = "fd00:1::", "2001:db8:5::"
LOOK = """\
import json
from clan.system.underlay import observe_underlay
print(json.dumps(observe_underlay().sources))
"""


@pytest.fixture
def spaces() -> Iterator[tuple[Space, Space]]:
    one, other = made = Space(), Space()
    join(one, "eth0", other, "eth0")
    yield made
    for each in (one, other):
        each.remove()


def test_a_tunnel_s_address_is_no_network_to_send_from(
    spaces: tuple[Space, Space], tmp_path: Path
) -> None:
    here, _ = spaces
    program = tmp_path / "look.py"
    program.write_text(LOOK)

    def sources() -> list[str]:
        found: list[str] = json.loads(here.run(f"{sys.executable} {program}"))
        return found

    here.run("ip tuntap add tun0 mode tun")
    here.run("ip link set dev tun0 up")
    here.run(f"ip addr add {TUNNEL}2/64 dev tun0 nodad")
    here.run("ip -6 route add default via fe80::1 dev eth0")
    assert sources() == []
    here.run("sysctl -qw net.ipv6.conf.eth0.accept_dad=1 net.ipv6.conf.eth0.dad_transmits=100")
    here.run(f"ip addr add {ROUTER}2/64 dev eth0")
    assert sources() == []
    here.run(f"ip addr del {ROUTER}2/64 dev eth0")
    here.run(f"ip addr add {ROUTER}2/64 dev eth0 nodad")
    assert sources() == [f"{ROUTER}/64"]
    # A tunnel for all traffic leads out by itself.
    here.run("ip -6 route del default")
    here.run("ip -6 route add default dev tun0")
    assert sources() == [f"{TUNNEL}/64"]
