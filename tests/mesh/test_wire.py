"""What agents say survives the way, and nothing else is taken for it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh import wire
from clan.mesh.link import Endpoint
from clan.mesh.wire import (
    About,
    Answer,
    Choice,
    Knock,
    Letter,
    Neighbours,
    Probe,
    Reason,
    Seen,
    Summary,
    Switch,
    Where,
    WireError,
)

U32 = st.integers(0, 2**32 - 1)
IDS = U32.map(lambda number: f"{number:08x}")
MILLISECONDS = st.integers(0, 0xFFFF).map(lambda number: number / 1000)
CHOICES = st.builds(Choice, number=U32, own=IDS, their=IDS)
ENDPOINTS = st.builds(
    Endpoint,
    host=(st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str),
    port=st.integers(1, 65535),
)
MESSAGES = st.one_of(
    st.builds(Probe, sequence=U32, every=MILLISECONDS, busy=st.booleans(), choice=CHOICES),
    st.builds(Answer, sequence=U32, received=U32, sent=U32, choice=CHOICES),
    st.builds(Switch, choice=CHOICES, reason=st.sampled_from(Reason)),
    st.builds(
        Summary,
        links=st.lists(
            st.builds(About, own=IDS, their=IDS, penalty=MILLISECONDS, usable=st.booleans()),
            max_size=wire.MOST_LINKS,
        ).map(tuple),
    ),
    st.builds(Seen, endpoint=ENDPOINTS),
    st.builds(Knock, endpoint=ENDPOINTS, number=st.integers(0, 2**64 - 1)),
    st.just(Where()),
    st.builds(Letter, data=st.binary(max_size=wire.LONGEST_LETTER)),
    st.builds(Neighbours, data=st.binary(max_size=wire.LONGEST_LETTER)),
)


@given(message=MESSAGES, size=st.integers(0, wire.LONGEST))
def test_what_is_said_is_what_is_heard_padded_or_not(message: wire.Message, size: int) -> None:
    data = wire.encode(message, size=size)
    assert wire.decode(data) == message
    assert len(data) >= size


@given(st.binary(max_size=wire.LONGEST + 8))
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    try:
        message = wire.decode(data)
    except WireError:
        return
    if message is not None:
        assert wire.decode(wire.encode(message)) == message


@given(message=MESSAGES, data=st.data())
def test_a_message_that_ends_early_is_refused(message: wire.Message, data: st.DataObject) -> None:
    whole = wire.encode(message)
    length = data.draw(st.integers(0, len(whole) - 1))
    with pytest.raises(WireError):
        wire.decode(whole[:length])
    if length >= 4:
        with pytest.raises(WireError):
            wire.decode(struct.pack(">BBH", 1, whole[1], length) + whole[4:length])


@given(message=MESSAGES, more=st.binary(min_size=1, max_size=64))
def test_later_versions_may_say_more(message: wire.Message, more: bytes) -> None:
    whole = wire.encode(message)
    longer = whole[:2] + struct.pack(">H", len(whole) + len(more)) + whole[4:] + more
    assert wire.decode(longer) == message


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "no message"),
        (b"\x01" * (wire.LONGEST + 1), "no message"),
        (b"\x02\x01\x00\x04", "version 2"),
        (b"\x01\x01\x00\x02", "says 2 bytes and has 4"),
        (b"\x01\x63\x00\x04\x00\x01", "padding"),
        (b"\x01\x04\x00\x06\x21\x0b", "33 links"),
        (b"\x01\x04\x00\x06\x01\x0a", "entries of 10 bytes"),
        (b"\x01\x04\x00\x06\x01\x0b", "1 links are said to follow, 0 do"),
    ],
)
def test_what_nobody_sends_is_refused_with_the_reason(data: bytes, said: str) -> None:
    with pytest.raises(WireError, match=said):
        wire.decode(data)


def test_a_type_of_later_versions_is_passed_over() -> None:
    assert wire.decode(b"\x01\x63\x00\x06xy") is None


def test_a_reason_of_later_versions_is_some_other_reason() -> None:
    data = bytearray(wire.encode(Switch(choice=Choice(), reason=Reason.SILENT)))
    data[-1] = 77
    assert wire.decode(bytes(data)) == Switch(choice=Choice(), reason=Reason.OTHER)


def test_times_wrap_and_their_difference_does_not() -> None:
    late = Answer(sequence=1, received=wire.ticks(4294.967), sent=wire.ticks(4295.267))
    assert late.sent < late.received
    assert late.held == pytest.approx(0.3, abs=1e-5)


def test_the_bytes_are_those_in_the_description() -> None:
    choice = Choice(number=3, own="00000a01", their="00000b02")
    probe = Probe(sequence=5, every=0.1, busy=True, choice=choice)
    assert wire.encode(probe).hex() == "010100180000000500640100" + ("0000000300000a0100000b02")


def test_faults_of_the_program_do_not_leave_it() -> None:
    about = About(own="00000001", their="00000002")
    with pytest.raises(ValueError, match="33 links"):
        wire.encode(Summary(links=(about,) * 33))
    with pytest.raises(ValueError, match="at most"):
        wire.encode(Summary(links=()), size=wire.LONGEST + 1)
