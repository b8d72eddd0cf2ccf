"""Signals are their sender's own, bounded, and written in one way."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import key

from clan.mesh import signal
from clan.mesh.errors import MeshError
from clan.mesh.link import Endpoint
from clan.mesh.signal import Place, Signal
from clan.mesh.wire import LONGEST_LETTER

NAS, TV = key("nas"), key("tv")
PLACES = st.builds(
    Place,
    interface=st.integers(0, 2**32 - 1).map("{:08x}".format),
    endpoint=st.builds(
        Endpoint,
        host=(st.ip_addresses(v=4) | st.ip_addresses(v=6)).map(str),
        port=st.integers(1, 65535),
    ),
)
SIGNALS = st.builds(
    Signal,
    sender=st.just(NAS.public),
    to=st.binary(min_size=32, max_size=32),
    number=st.integers(0, 2**62),
    answers=st.booleans(),
    places=st.lists(PLACES, max_size=20).map(tuple),
)


@given(SIGNALS)
def test_a_signal_is_read_as_it_was_written_and_fits_a_letter(said: Signal) -> None:
    data = signal.write(said, NAS)
    assert len(data) <= LONGEST_LETTER
    read = signal.read(data)
    assert (read.sender, read.to, read.answers) == (said.sender, said.to, said.answers)
    assert read.places == said.places[: len(read.places)]
    assert len(read.places) == min(len(said.places), signal.MOST)


@given(st.data(), SIGNALS)
def test_nobody_changes_one_on_its_way(data: st.DataObject, said: Signal) -> None:
    raw = bytearray(signal.write(said, NAS))
    at = data.draw(st.integers(0, len(raw) - 1))
    raw[at] ^= data.draw(st.integers(1, 255))
    with pytest.raises(MeshError):
        signal.read(bytes(raw))


def test_nobody_signs_for_another() -> None:
    said = Signal(sender=NAS.public, to=TV.public, number=1)
    with pytest.raises(MeshError, match="another identity"):
        signal.read(signal.write(said, TV))
    odd = Place(interface="00000001", endpoint=Endpoint(host="127.1", port=1))
    wrong = Signal(sender=NAS.public, to=TV.public, number=1, places=(odd,))
    with pytest.raises(MeshError, match="cannot be"):
        signal.read(signal.write(wrong, NAS))
