"""A way is written into an address, and whoever passes on changes no sum and loses no label."""

from __future__ import annotations

from ipaddress import IPv6Address, IPv6Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh.hops import labels

CLAN = IPv6Network("fd1b:512e:811a::/48")
WAYS = labels.prefix(CLAN)
LABELS = st.integers(1, labels.HIGHEST)
HOPS = st.lists(LABELS, min_size=1, max_size=labels.MOST)
IDENTITIES = st.sets(st.binary(min_size=32, max_size=32), max_size=40)


def test_ways_have_a_prefix_of_their_own() -> None:
    assert str(WAYS) == "fd0d:7e50:b4f8::/48"
    assert labels.labels([bytes([1]) * 32]) == {bytes([1]) * 32: 18022}


@given(HOPS)
def test_a_way_is_read_as_it_was_written(hops: list[int]) -> None:
    assert labels.read(WAYS, labels.address(WAYS, hops)) == tuple(hops)
    assert labels.address(WAYS, hops) in labels.network(WAYS, hops[0])


@given(st.ip_addresses(v=6))
def test_what_is_no_way_has_no_labels(address: IPv6Address) -> None:
    hops = labels.read(WAYS, address)
    assert not hops or labels.address(WAYS, hops) == address


@pytest.mark.parametrize("hops", [[], [1] * 6, [0], [1, 0, 2], [65536]])
def test_what_cannot_be_a_way_is_refused(hops: list[int]) -> None:
    with pytest.raises(ValueError, match="no way"):
        labels.address(WAYS, hops)


@given(IDENTITIES)
def test_every_member_has_a_label_of_its_own(identities: set[bytes]) -> None:
    found = labels.labels(identities)
    assert found.keys() == identities
    assert len(set(found.values())) == len(identities)
    assert all(1 <= label <= labels.HIGHEST for label in found.values())


def test_many_members_have_labels_though_their_hashes_meet() -> None:
    identities = [number.to_bytes(32, "big") for number in range(4096)]
    assert len(set(labels.labels(identities).values())) == len(identities)
