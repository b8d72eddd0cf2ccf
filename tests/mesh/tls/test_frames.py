"""Frames come out as they went in, however the bytes are cut, and what is none is refused."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.errors import MeshError
from clan.mesh.tls import frames
from clan.mesh.tls.frames import (
    HEAD,
    LARGEST,
    LEAST,
    MOST_SEGMENTS,
    ROOM,
    SHORT,
    Batch,
    Kind,
    Port,
    Reader,
)

if TYPE_CHECKING:
    from collections.abc import Iterator


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


def sent(each: Batch, longest: int = ROOM) -> list[bytes]:
    """The frames of a batch; each is copied before the next is asked for, as `piece` says."""
    pieces = []
    while each:
        pieces.append(bytes(each.piece(longest)))
    return pieces


def fed(reader: Reader, data: bytes) -> Iterator[Batch]:
    """Give a reader bytes, as many at once as it has room for; yield the frames."""
    while data:
        size = min(len(reader.room), len(data))
        assert size
        reader.room[:size] = data[:size]
        yield from reader.took(size)
        data = data[size:]


def cut(data: bytes, places: list[int]) -> list[bytes]:
    ends = sorted({each % (len(data) + 1) for each in places} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(ends)]


@given(
    st.lists(batches(), max_size=4),
    st.lists(st.integers(0, 1 << 20), max_size=20),
    st.integers(1, ROOM),
)
def test_what_goes_in_comes_out_in_the_same_order(
    each: list[Batch], places: list[int], longest: int
) -> None:
    wanted: list[Any] = [[one.number, datagrams(one)] for one in each]
    most = max([longest, *(one.segment for one in each)])
    pieces = [piece for one in each for piece in sent(one, longest)]
    assert all(len(piece) <= HEAD + most for piece in pieces)
    reader = Reader()
    found: list[list[Any]] = []
    for part in cut(b"".join(pieces), places):
        for one in fed(reader, part):
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
            for one in fed(reader, part):
                assert len(one) <= ROOM
                if one.number != frames.RELAY:
                    assert one.segment >= LEAST
                    assert len(one) <= one.segment * MOST_SEGMENTS
        except MeshError:
            return
        assert reader.room


@pytest.mark.parametrize(
    ("segment", "size"),
    [(0, 0), (0, 64), (31, 62), (64, 63), (32, 32 * 65), (65535, 65535), (1, ROOM)],
)
def test_no_datagrams_can_be_so(segment: int, size: int) -> None:
    data = frames._HEAD.pack(7, size, segment) + bytes(size)
    with pytest.raises(MeshError):
        list(fed(Reader(), data))


def test_a_frame_that_is_too_long_is_refused_before_it_has_come() -> None:
    data = frames._HEAD.pack(7, ROOM + 1, 1400) + bytes(1000)
    with pytest.raises(MeshError, match="longer"):
        list(fed(Reader(), data))


def test_what_is_read_next_changes_no_frame_before() -> None:
    reader = Reader()
    data = frames._HEAD.pack(7, 100, 50)
    (found,) = fed(reader, data + b"a" * 100)
    assert list(fed(reader, data + b"b" * 90)) == []
    assert bytes(found.data) == b"a" * 100


def test_a_datagram_can_be_left_out_at_the_front() -> None:
    each = batch(7, 40, 100)
    each.drop_one()
    assert sent(each) == [frames._HEAD.pack(7, 60, 40) + batch(7, 40, 100).data[40:]]


@given(st.lists(st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40)), max_size=60))
def test_a_few_datagrams_of_one_time_and_port_are_joined(
    given: list[tuple[int, int, int]],
) -> None:
    """Numbers, lengths in hundreds of bytes, and how many there are."""
    made = [batch(number, 100 * size, 100 * size * count) for number, size, count in given]
    wanted = [(one.number, each) for one in made for each in datagrams(one)]
    left: list[Batch] = []
    for one in made:
        if not left or not left[-1].join(one):
            left.append(one)
    assert [(one.number, each) for one in left for each in datagrams(one)] == wanted
    for one, after in itertools.pairwise(left):
        same = (one.number, one.segment) == (after.number, after.segment)
        assert not same or len(one) + len(after) > SHORT


def test_what_came_later_or_after_a_shorter_one_is_not_joined() -> None:
    later = batch(7, 100, 100)
    later.at = 1.0
    assert not batch(7, 100, 100).join(later)
    assert not batch(7, 100, 150).join(batch(7, 100, 100))
    many = batch(7, LEAST, LEAST * MOST_SEGMENTS)
    assert not many.join(batch(7, LEAST, LEAST))
    one = batch(7, 100, 100)
    assert one.join(batch(7, 100, 100))
    assert (len(one), bytes(one.data[100:])) == (200, bytes(one.data[:100]))


@given(st.lists(st.tuples(st.integers(1, 1 << 31), st.binary(min_size=32, max_size=32))))
def test_ports_are_told_in_frames_that_fit(entries: list[tuple[int, bytes]]) -> None:
    ports = [(number, Port(identity, "0a0b0c0d")) for number, identity in entries] * 30
    found, gone = [], []
    for said in (*frames.here(ports), *frames.gone(number for number, _ in ports)):
        assert len(said) <= LARGEST
        (one,) = fed(Reader(), said)
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
