"""What the agent and the processes beside it say to each other comes over as it was said."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.errors import MeshError
from clan.mesh.link import Endpoint
from clan.mesh.outside import seam
from clan.mesh.outside.address import is_outside
from clan.mesh.outside.seam import Door, Opened, Search

ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))
PORTS = st.integers(1, 65535)
IDS = st.from_regex(r"[0-9a-f]{8}", fullmatch=True)
DOOR = st.builds(
    Door,
    id=IDS,
    uplink=st.from_regex(r"[a-z0-9]{1,15}", fullmatch=True),
    index=st.integers(1, 99999),
    gateway=ADDRESSES,
    port=PORTS,
    nonce=st.binary(min_size=12, max_size=12),
)
OPENED = st.builds(
    Opened,
    id=IDS,
    endpoint=st.builds(Endpoint, host=ADDRESSES.map(str), port=PORTS),
    life=st.integers(1, seam.LONGEST_LIFE),
)


@given(st.lists(DOOR, max_size=3).map(tuple), st.lists(OPENED, max_size=3).map(tuple))
def test_lines_are_read_as_they_were_written(
    doors: tuple[Door, ...], opened: tuple[Opened, ...]
) -> None:
    assert seam.read_doors(seam.doors(doors)) == doors
    assert seam.read_opened(seam.opened(opened)) == opened


KEY = st.binary(min_size=32, max_size=32)
VALUE = st.binary(min_size=1, max_size=1000)
SEARCH = st.builds(
    Search,
    sources=st.lists(ADDRESSES.map(str), max_size=3).map(tuple),
    put=st.none() | st.tuples(KEY, VALUE),
    get=st.lists(KEY, max_size=3).map(tuple),
)


@given(SEARCH, st.dictionaries(KEY, VALUE, max_size=3))
def test_so_are_those_of_the_dht(search: Search, got: dict[bytes, bytes]) -> None:
    assert seam.read_search(seam.search(search)) == search
    assert seam.read_got(seam.got(got)) == got


@given(st.binary(max_size=200))
def test_anything_is_read_or_refused(line: bytes) -> None:
    for read in (
        seam.read_who,
        seam.read_doors,
        seam.read_opened,
        seam.read_search,
        seam.read_got,
    ):
        with pytest.raises(MeshError):
            read(line)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"{}",
        b'{"open": [["0a0b0c0d", "example.com", 1, 1]]}',
        b'{"open": [["0a0b0c0d", "192.0.2.1", 0, 1]]}',
        b'{"open": [["0a0b0c0d", "192.0.2.1", 1, 0]]}',
        b'{"open": [["0a0b0c0d", "192.0.2.1", 1, 99999999]]}',
        b'{"open": [["../..", "192.0.2.1", 1, 1]]}',
        b'{"open": [], "more": 1}',
        b'{"open": [%s]}' % b",".join(65 * [b'["0a0b0c0d", "192.0.2.1", 1, 1]']),
    ],
)
def test_what_cannot_be_is_refused(line: bytes) -> None:
    with pytest.raises(MeshError):
        seam.read_opened(line)


@pytest.mark.parametrize(
    ("address", "outside"),
    [
        ("8.8.8.8", True),
        ("100.64.0.1", False),
        ("192.168.1.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("2001:db8::1", True),
        ("fd00::1", False),
        ("fe80::1", False),
        ("::ffff:8.8.8.8", False),
    ],
)
def test_an_address_is_outside_or_not(address: str, *, outside: bool) -> None:
    assert is_outside(ip_address(address)) is outside
