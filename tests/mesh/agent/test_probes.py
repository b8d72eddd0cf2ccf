"""A link's socket on the loopback: what is heard, and when."""

from __future__ import annotations

import socket
import time
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

import pytest

from clan.mesh.agent import probes
from clan.mesh.agent.probes import Prober

if TYPE_CHECKING:
    from collections.abc import Iterator

LOOPBACK = IPv6Address("::1")


@pytest.fixture
def prober() -> Iterator[Prober]:
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as free:
            free.bind((str(LOOPBACK), 0))
            port = free.getsockname()[1]
        made = Prober("lo", LOOPBACK, port)
    except OSError as missing:
        pytest.skip(f"no IPv6 on the loopback: {missing}")
    yield made
    made.close()


def test_the_kernel_says_when_it_came(prober: Prober) -> None:
    # The kernel begins to note it a moment after the first socket wants to know.
    for _ in range(100):
        prober.send(b"early", "::1")
        time.sleep(0.05)
        if time.monotonic() - prober.receive()[0].at > 0.04:
            break
    ahead = time.time() - time.monotonic()
    before = time.monotonic()
    prober.send(b"one", "::1")
    prober.send(b"two", "::1")
    after = time.monotonic()
    time.sleep(0.2)
    one, two = prober.receive()
    if abs(time.time() - time.monotonic() - ahead) > 0.005:
        pytest.skip("the time of day was set meanwhile")
    assert (one.data, two.data, one.source) == (b"one", b"two", "::1")
    # The two clocks are read one after the other.
    assert before - 0.01 <= one.at <= two.at <= after + 0.01
    assert prober.receive() == []


def test_a_stamp_of_a_clock_that_was_set_meanwhile_is_not_believed() -> None:
    for seconds in (0, int(time.time()) + 3600):
        told = [(1, 35, probes._STAMP.pack(seconds, 0))]
        before = time.monotonic()
        assert before <= probes._when(told) <= time.monotonic()


def test_what_is_longer_than_the_link_takes_is_refused(prober: Prober) -> None:
    with pytest.raises(OSError, match="Message too long"):
        prober.send(bytes(65_530), "::1")
