"""A stream over TCP on the loopback: what was read too early, and how long frames are."""

from __future__ import annotations

import contextlib
import socket
import time
from typing import TYPE_CHECKING

import pytest

from clan.mesh.tls.frames import HEAD, RECORD, Batch, Port
from clan.mesh.tls.stream import FRAME, Stream
from clan.mesh.tls.transport import Transport, scratch

if TYPE_CHECKING:
    from collections.abc import Iterator

SEGMENT = 1400
COUNT = 40
PORT = Port(bytes(32), "0a0b0c0d")


@pytest.fixture
def ends() -> Iterator[tuple[Stream, Stream]]:
    with contextlib.ExitStack() as stack:
        door = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        one = stack.enter_context(socket.create_connection(door.getsockname()))
        other = stack.enter_context(door.accept()[0])
        for each in (one, other):
            each.setblocking(False)
        yield (
            Stream(Transport(one, scratch()), PORT, 0.0),
            Stream(Transport(other, scratch()), PORT, 0.0),
        )


def passed(one: Stream, other: Stream, now: float) -> list[int]:
    """Send as many datagrams as a batch holds; return the lengths of the frames they came in."""
    size = COUNT * SEGMENT
    one.push(Batch(bytearray(HEAD + size), HEAD, HEAD + size, SEGMENT, number=1, at=now), now)
    found: list[int] = []
    end = time.monotonic() + 10
    while sum(found) < size:
        assert time.monotonic() < end, f"{found} of {size} bytes"
        one.pump(now)
        other.transport.receive()
        found += map(len, other.read(now))
    return found


@pytest.mark.parametrize("rounds", [1, 8, 20, 64])
def test_a_frame_is_no_longer_than_what_the_line_carries_soon(
    ends: tuple[Stream, Stream], rounds: int
) -> None:
    one, other = ends
    for _ in range(rounds):
        assert max(passed(one, other, 0.1)) <= RECORD
    one.look(0.25)
    longest = max(passed(one, other, 0.25))
    soon = one.sent / 0.25 * FRAME
    assert longest <= max(soon, RECORD)
    assert longest + SEGMENT > min(soon, COUNT * SEGMENT)
    one.look(1.25)
    assert max(passed(one, other, 1.25)) <= RECORD


def test_what_was_read_too_early_comes_first(ends: tuple[Stream, Stream]) -> None:
    one, other = ends
    batch = Batch(bytearray(HEAD + SEGMENT), HEAD, HEAD + SEGMENT, SEGMENT, number=7)
    frame = bytes(batch.piece())
    other.transport.unread(frame[10:])
    other.transport.unread(frame[:10])
    (found,) = other.read(0.0)
    assert (found.number, len(found)) == (7, SEGMENT)
    passed(one, other, 0.0)
