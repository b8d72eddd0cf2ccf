"""What goes between agents that meet: a digest, then what is missing, in frames."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import ALICE, content, key, record, signed

from clan.mesh import digest
from clan.mesh.chart import links
from clan.mesh.chart.accept import Held
from clan.mesh.digest import Digest
from clan.mesh.errors import MeshError

KEYS = st.binary(min_size=32, max_size=32)
SERIALS = st.integers(0, 2**62)
DIGESTS = st.builds(
    Digest,
    maps=st.lists(KEYS, max_size=3, unique=True).map(tuple),
    records=st.dictionaries(KEYS, st.tuples(SERIALS, st.binary(min_size=8, max_size=8))),
    has=st.dictionaries(KEYS, st.tuples(st.integers(0, 1000), SERIALS)),
)
NAS, TV = key("nas").public, key("tv").public


@given(DIGESTS)
def test_a_digest_is_read_as_it_was_written(said: Digest) -> None:
    assert digest.read(digest.write(said)) == said


@given(st.binary(max_size=200) | DIGESTS.map(digest.write).map(lambda data: data[:-2] + b"]}"))
def test_anything_else_is_refused_in_words(data: bytes) -> None:
    try:
        digest.read(data)
    except MeshError:
        return
    assert digest.write(digest.read(data)) == data


def test_who_lacks_something_is_told_just_that() -> None:
    first = signed(content("nas", "tv"), ALICE)
    second = signed(content("nas"), ALICE, after=[first])
    held, before = Held.of([second]), Held.of([first])
    old = {NAS: links.read(record("nas"), NAS), TV: links.read(record("tv"), TV)}
    new = old | {NAS: links.read(record("nas", 2), NAS)}
    theirs = digest.of(before, old, {})
    frames = [digest.take(each) for each in digest.missing(theirs, held, new)]
    assert frames == [
        (digest.MAP, second.raw, b""),
        (digest.RECORD, NAS + record("nas", 2), b""),
    ]
    assert not list(digest.missing(digest.of(held, new, {}), before, old))[1:]
    assert not list(digest.missing(theirs, before, old))


def test_frames_are_taken_when_they_are_whole_and_bounded() -> None:
    data = digest.frame(digest.MAP, b"map") + digest.frame(digest.END)
    for cut in range(len(digest.frame(digest.MAP, b"map"))):
        assert digest.take(data[:cut]) is None
    assert digest.take(data) == (digest.MAP, b"map", digest.frame(digest.END))
    for wrong in (b"\x09\0\0\0\0", b"\x04\0\0\0\x01", b"\x01\xff\0\0\0"):
        with pytest.raises(MeshError):
            digest.take(wrong)
