"""Talking to this computer's own kernel, which needs no root; and bytes that nobody meant."""

from __future__ import annotations

import socket
from ipaddress import ip_interface

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.agent import netlink
from clan.mesh.agent.kernel import Kernel
from clan.mesh.agent.netlink import Netlink, NetlinkError, attribute, every_attribute, nested


def test_the_kernel_lists_what_the_library_lists() -> None:
    with Kernel() as kernel:
        shown = {(index, each.name) for index, each in kernel.interfaces().items()}
        assert shown == set(socket.if_nameindex())
        loopback = kernel.interface("lo")
        assert loopback is not None
        assert loopback.loopback
        addresses = [each.address for each in kernel.addresses() if each.index == loopback.index]
        assert ip_interface("127.0.0.1/8") in addresses
        kernel.routes()
        kernel.rules()
        assert kernel.routes(table=48_999_999) == []
        assert kernel.interface("no-such") is None


def test_a_refusal_says_what_the_kernel_says() -> None:
    asked = Netlink(netlink.GENERIC)
    with pytest.raises(NetlinkError, match="No such file or directory"):
        asked.ask(16, b"\x03\x01\0\0" + attribute(2, b"no-such\0"))
    with pytest.raises(NetlinkError):
        asked.ask(16, b"")
    # A refusal leaves nothing behind for the next question.
    assert asked.ask(16, b"\x03\x01\0\0" + attribute(2, b"nlctrl\0"))
    asked.close()


@given(st.lists(st.tuples(st.integers(1, 0x3FFF), st.binary(max_size=40))))
def test_attributes_are_read_as_they_were_written(parts: list[tuple[int, bytes]]) -> None:
    data = b"".join(attribute(kind, each) for kind, each in parts)
    assert list(every_attribute(data)) == parts
    assert list(every_attribute(nested(5, data)[4:])) == parts


@given(st.binary(max_size=200))
def test_any_bytes_come_to_an_end(data: bytes) -> None:
    list(every_attribute(data))
