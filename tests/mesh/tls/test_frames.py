"""Frames come out as they went in, however the bytes are cut, and what is none is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.errors import MeshError
from clan.mesh.tls import frames
from clan.mesh.tls.frames import HEAD, LARGEST, LEAST, MOST_SEGMENTS, Batch, Kind, Port, Reader


def batch(number: int, segment: int, size: int) -> Batch:
    data = bytes(each % 251 for each in range(size))
    return Batch(bytearray(HEAD) + data, HEAD, HEAD + size, segment, number=number)


@st.composite
def batches(draw: st.DrawFn) -> Batch:
    segment = draw(st.integers(LEAST, 9000))
    count = draw(st.integers(1, MOST_SEGMENTS))
    last = draw(st.integers(LEAST, segment))
    size = min((count - 1) * segment + last, 65507)
    return batch(draw(st.integers(1, (1 << 32) - 1)), segment, size)


def datagrams(each: Batch) -> list[bytes]:
    data = bytes(each.data)
    return [data[begin : begin + each.segment] for begin in range(0, len(data), each.segment)]


def sent(each: Batch) -> list[bytes]:
    """The frames of a batch; each is copied before the next is asked for, as `piece` says."""
    pieces = []
    while each:
        pieces.append(bytes(each.piece()))
    return pieces


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({each % (len(data) + 1) for each in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


@given(st.lists(batches(), max_size=4), st.lists(st.integers(0, 1 << 20), max_size=20))
def test_what_goes_in_comes_out_in_the_same_order(each: list[Batch], places: list[int]) -> None:
    wanted: list[Any] = [[one.number, datagrams(one)] for one in each]
    pieces = [piece for one in each for piece in sent(one)]
    assert all(len(piece) <= LARGEST for piece in pieces)
    reader = Reader()
    found: list[list[Any]] = []
    for part in cut(b"".join(pieces), places):
        for one in reader.feed(bytearray(part), len(part)):
            # The pieces of a batch, put together again.
            if found and len(found[-1][1]) < len(wanted[len(found) - 1][1]):
                assert found[-1][0] == one.number
                found[-1][1] += datagrams(one)
            else:
                found.append([one.number, datagrams(one)])
    assert found == wanted


@given(st.binary(max_size=200000), st.lists(st.integers(0, 1 << 20), max_size=9))
def test_garbage_is_refused_or_is_frames_and_holds_no_more_than_one(
    data: bytes, places: list[int]
) -> None:
    reader = Reader()
    for part in cut(data, places):
        try:
            for one in reader.feed(bytearray(part), len(part)):
                assert len(one) <= LARGEST - HEAD
                if one.number != frames.RELAY:
                    assert one.segment >= LEAST
                    assert len(one) <= one.segment * MOST_SEGMENTS
        except MeshError:
            return
        assert len(reader._part) < LARGEST


@pytest.mark.parametrize(
    ("segment", "size"),
    [(0, 0), (0, 64), (31, 62), (64, 63), (32, 32 * 65), (65535, 65535), (1, LARGEST)],
)
def test_no_datagrams_can_be_so(segment: int, size: int) -> None:
    data = frames._HEAD.pack(7, size, segment) + bytes(size)
    with pytest.raises(MeshError):
        Reader().feed(bytearray(data), len(data))


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    data = frames._HEAD.pack(7, 60000, 1400) + bytes(1000)
    with pytest.raises(MeshError, match="longer"):
        Reader().feed(bytearray(data), len(data))


def test_a_frame_that_is_a_whole_record_is_not_copied() -> None:
    record = bytearray(frames._HEAD.pack(7, 100, 50) + bytes(100))
    (found,) = Reader().feed(record, len(record))
    assert found.buffer is record


def test_a_datagram_can_be_left_out_at_the_front() -> None:
    each = batch(7, 40, 100)
    each.drop_one()
    assert sent(each) == [frames._HEAD.pack(7, 60, 40) + batch(7, 40, 100).data[40:]]


@given(st.lists(st.tuples(st.integers(1, 1 << 31), st.binary(min_size=32, max_size=32))))
def test_ports_are_told_in_frames_that_fit(entries: list[tuple[int, bytes]]) -> None:
    ports = [(number, Port(identity, "0a0b0c0d")) for number, identity in entries] * 30
    found, gone = [], []
    for said in (*frames.here(ports), *frames.gone(number for number, _ in ports)):
        assert len(said) <= LARGEST
        (one,) = Reader().feed(bytearray(said), len(said))
        if one.segment == Kind.HERE:
            found += frames.read_here(one.data)
        else:
            gone += frames.read_gone(one.data)
    assert found == ports
    assert gone == [number for number, _ in ports]


@pytest.mark.parametrize("read", [frames.read_here, frames.read_gone])
def test_a_list_that_is_cut_off_is_refused(read: object) -> None:
    assert callable(read)
    with pytest.raises(MeshError, match="cut off"):
        read(memoryview(bytes(41)))
