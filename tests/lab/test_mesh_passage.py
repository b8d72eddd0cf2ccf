"""What a machine in the middle passes on, and what it does not: its kernel, with nothing else."""

from __future__ import annotations

import fcntl
import os
import select
import struct
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import IPv6Address, IPv6Network
from typing import TYPE_CHECKING

import pytest
from tests.lab.spaces import Space

from clan.mesh.agent.kernel import TUN, Kernel
from clan.mesh.hops import forward, labels
from clan.mesh.hops.forward import Passage

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

WAYS = labels.prefix(IPv6Network("fd1b:512e:811a::/48"))
BEFORE, OWN, AFTER, FAR, DEAR = 0xA1, 0xB2, 0xC3, 0xD4, 0xE5
_TUNSETIFF, _WITHOUT_HEADER = 0x400454CA, 0x1001
UDP, TCP = 17, 6


def at(*hops: int) -> IPv6Address:
    return labels.address(WAYS, hops)


def words(data: bytes) -> int:
    """Return the sum that checksums are made of (RFC 1071)."""
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return int(total)


def packet(source: IPv6Address, to: IPv6Address, protocol: int = UDP) -> bytes:
    """Return a datagram with a right checksum (RFC 768; RFC 8200, section 8.1)."""
    data = b"sealed, "
    size = 8 + len(data)
    pseudo = source.packed + to.packed + struct.pack(">IHBB", size, 0, 0, protocol)
    bare = struct.pack(">HHHH", 51000, 52000, size, 0) + data
    check = 0xFFFF - words(pseudo + bare)
    body = bare[:6] + struct.pack(">H", check) + bare[8:]
    head = struct.pack(">IHBB", 6 << 28, size, protocol, 64)
    return head + source.packed + to.packed + body


@dataclass
class Middle:
    """A machine in the middle: an interface towards each neighbour, and what it is known by."""

    space: Space = field(default_factory=Space)
    ends: dict[int, int] = field(default_factory=dict)

    def neighbour(self, label: int, name: str) -> tuple[str, int]:
        with self.space.inside(), Kernel() as kernel:
            index = kernel.create(name, TUN)
            kernel.set_up(index)
            end = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
            fcntl.ioctl(end, _TUNSETIFF, struct.pack("16sH22x", name.encode(), _WITHOUT_HEADER))
        self.ends[label] = end
        self.space.run(f"ip route add {labels.network(WAYS, label)} dev {name}")
        return name, index

    def sends(self, label: int, data: bytes) -> dict[int, bytes]:
        """Let a neighbour send something; return what comes out to which neighbour."""
        for end in self.ends.values():
            while select.select([end], [], [], 0)[0]:
                os.read(end, 2000)
        os.write(self.ends[label], data)
        found = {}
        for other, end in self.ends.items():
            while select.select([end], [], [], 0.1)[0]:
                read = os.read(end, 2000)
                if IPv6Address(read[24:40]) in WAYS:
                    found[other] = read
        return found


@pytest.fixture
def middle(lab_ready: None) -> Iterator[Middle]:
    """A machine with two neighbours, and a third by an uplink on which bytes cost."""
    del lab_ready
    with ExitStack() as stack:
        made = Middle()
        stack.callback(made.space.remove)
        passed = [made.neighbour(BEFORE, "clan-1"), made.neighbour(AFTER, "clan-2")]
        made.neighbour(DEAR, "clan-3")
        for end in made.ends.values():
            stack.callback(os.close, end)
        made.space.run(f"ip addr add {at(OWN)}/128 dev lo")
        with made.space.inside():
            forward.uphold(Passage(ways=WAYS, label=OWN, interfaces=tuple(passed)))
        yield made


@pytest.mark.parametrize(
    ("source", "to", "then"),
    [
        (at(BEFORE), at(OWN, AFTER), (at(OWN, BEFORE), at(AFTER))),
        (at(BEFORE), at(OWN, AFTER, FAR), (at(OWN, BEFORE), at(AFTER, FAR))),
        (
            at(BEFORE, FAR, 7, 8),
            at(OWN, AFTER, 9, 10, 11),
            (at(OWN, BEFORE, FAR, 7, 8), at(AFTER, 9, 10, 11)),
        ),
    ],
)
def test_what_is_for_another_goes_on_with_its_way_back_and_a_right_checksum(
    middle: Middle, source: IPv6Address, to: IPv6Address, then: tuple[IPv6Address, IPv6Address]
) -> None:
    assert middle.sends(BEFORE, packet(source, to)) == {AFTER: packet(*then)}
    answer = at(OWN, *labels.read(WAYS, then[1])), source
    assert middle.sends(AFTER, packet(then[1], then[0])) == {BEFORE: packet(*answer)}


@pytest.mark.parametrize(
    ("source", "to", "protocol"),
    [
        pytest.param(at(BEFORE), at(OWN), UDP, id="it is for this machine"),
        pytest.param(at(BEFORE), at(AFTER), UDP, id="it is not for this machine"),
        pytest.param(at(BEFORE), at(OWN, FAR), UDP, id="the next is no neighbour"),
        pytest.param(at(BEFORE), at(OWN, DEAR), UDP, id="bytes cost there"),
        pytest.param(at(BEFORE), at(OWN, AFTER), TCP, id="it is no datagram"),
        pytest.param(at(BEFORE, 1, 2, 3, 4), at(OWN, AFTER), UDP, id="it has come too far"),
        pytest.param(IPv6Address("fd00:0:0:1::"), at(OWN, AFTER), UDP, id="it comes by no way"),
    ],
)
def test_nothing_else_is_passed_on(
    middle: Middle, source: IPv6Address, to: IPv6Address, protocol: int
) -> None:
    assert middle.sends(BEFORE, packet(source, to, protocol)) == {}


def test_nothing_comes_in_by_an_uplink_on_which_bytes_cost(middle: Middle) -> None:
    assert middle.sends(DEAR, packet(at(DEAR), at(OWN, AFTER))) == {}


def test_nothing_is_passed_on_any_more(middle: Middle) -> None:
    with middle.space.inside():
        forward.uphold(None)
    assert middle.sends(BEFORE, packet(at(BEFORE), at(OWN, AFTER))) == {}
