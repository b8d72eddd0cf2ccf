"""The bytes of PCP and NAT-PMP: as the RFCs have them, and nothing else is believed."""

from __future__ import annotations

import struct
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.outside import pcp

NONCE = bytes(range(12))
SOURCE = bytes.fromhex("00000000000000000000ffffc0a80102")
OUTSIDE = bytes.fromhex("00000000000000000000ffffcb007107")


def answered(result: int = 0, *, opcode: int = 0x81, protocol: int = 17) -> bytes:
    head = struct.pack("!BBBBLL12x", 2, opcode, 0, result, 1200, 77)
    return head + NONCE + struct.pack("!B3xHH", protocol, 51000, 40001) + OUTSIDE


def test_pcp_is_asked_as_the_rfc_says() -> None:
    data = pcp.ask(source=ip_address("192.168.1.2"), nonce=NONCE, inner=51000, outer=51001, life=60)
    assert data[:8] == bytes([2, 1, 0, 0, 0, 0, 0, 60])
    assert data[8:24] == SOURCE
    assert data[24:44] == NONCE + bytes([17, 0, 0, 0]) + struct.pack("!HH", 51000, 51001)
    assert data[44:] == bytes(10) + b"\xff\xff" + bytes(4)
    assert len(data) == 60


def test_natpmp_is_asked_as_the_rfc_says() -> None:
    assert pcp.ask_address() == b"\0\0"
    asked = pcp.ask_old(inner=51000, outer=51001, life=60)
    assert asked == b"\0\1\0\0" + struct.pack("!HHL", 51000, 51001, 60)


def test_an_answer_is_read() -> None:
    answer = pcp.read(answered())
    assert answer.is_for(NONCE, 51000)
    assert not answer.is_for(NONCE, 51001)
    assert not answer.is_for(bytes(12), 51000)
    assert (str(answer.address), answer.outer) == ("203.0.113.7", 40001)
    assert (answer.life, answer.epoch, answer.result) == (1200, 77, 0)


def test_an_old_router_says_that_it_is_one() -> None:
    answer = pcp.read(b"\0\x81" + struct.pack("!HL", pcp.UNSUPPORTED, 9))
    assert (answer.version, answer.result, answer.epoch) == (0, 1, 9)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\2",
        b"\3" + answered()[1:],
        answered()[:-4],
        answered() + b"\0",
        answered(opcode=1),
        answered(opcode=0x82),
        answered(protocol=6),
        b"\0\x80\0\0\0\0\0\1",
        b"\0\x81\0\0\0\0\0\1",
        b"\0\x82" + bytes(14),
        answered() + bytes(1104),
    ],
)
def test_what_is_no_answer_is_refused(data: bytes) -> None:
    with pytest.raises(pcp.PcpError):
        pcp.read(data)


@given(st.one_of(st.binary(max_size=80), st.binary(max_size=70).map(lambda b: answered()[:20] + b)))
def test_anything_is_read_or_refused(data: bytes) -> None:
    try:
        answer = pcp.read(data)
    except pcp.PcpError:
        return
    assert 0 <= answer.outer < 1 << 16
    assert 0 <= answer.life < 1 << 32


@pytest.mark.parametrize(
    ("before", "now", "lost"),
    [
        ((100, 1000.0), (200, 1100.0), False),
        ((100, 1000.0), (99, 1000.0), False),
        ((100, 1000.0), (98, 1000.0), True),
        ((100, 1000.0), (3, 1500.0), True),
        ((100, 1000.0), (106, 1008.0), False),
        ((10, 1000.0), (105, 1100.0), False),
        ((10, 1000.0), (60, 1100.0), True),
        ((10, 1000.0), (900, 1100.0), True),
    ],
)
def test_a_restart_shows_in_the_router_s_clock(
    before: tuple[int, float], now: tuple[int, float], *, lost: bool
) -> None:
    assert pcp.restarted(before, now) is lost
