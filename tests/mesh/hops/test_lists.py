"""A list of neighbours is its sender's, fits into a datagram, and has one form."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import key

from clan.mesh import wire
from clan.mesh.chart import signed
from clan.mesh.chart.canonical import encode
from clan.mesh.errors import MeshError
from clan.mesh.hops import lists
from clan.mesh.hops.labels import HIGHEST
from clan.mesh.hops.lists import Neighbour, NeighbourList

MACHINE = key("nas")
NEIGHBOURS = st.builds(
    Neighbour,
    label=st.integers(1, HIGHEST),
    cost=st.integers(1, lists.MOST_COST),
    free=st.booleans(),
)
LISTS = st.builds(
    NeighbourList,
    identity=st.just(MACHINE.public),
    serial=st.integers(1, lists.LAST_SERIAL),
    life=st.integers(1, lists.LONGEST_LIFE),
    transit=st.booleans(),
    neighbours=st.lists(NEIGHBOURS, max_size=100, unique_by=lambda each: each.label).map(
        lambda them: tuple(sorted(them))
    ),
    sought=st.sets(st.integers(1, HIGHEST), max_size=lists.MOST_SOUGHT).map(
        lambda them: tuple(sorted(them))
    ),
)
SAID = NeighbourList(
    identity=MACHINE.public,
    serial=7,
    life=60,
    neighbours=(Neighbour(label=1, cost=2), Neighbour(label=3, cost=4, free=False)),
    sought=(9,),
)


@given(LISTS)
def test_a_list_is_read_as_it_was_said_and_keeps_the_nearest(said: NeighbourList) -> None:
    made = lists.write(said, MACHINE)
    near = sorted(said.neighbours, key=lambda each: (each.cost, each.label))[: lists.MOST]
    assert made == replace(said, neighbours=tuple(sorted(near)))
    assert lists.read(made.raw) == made
    assert wire.decode(wire.encode(wire.Neighbours(data=made.raw))) == wire.Neighbours(
        data=made.raw
    )


@given(st.integers(0, 2000), st.integers(1, 255))
def test_a_list_that_was_changed_is_refused(at: int, by: int) -> None:
    raw = bytearray(lists.write(SAID, MACHINE).raw)
    raw[at % len(raw)] ^= by
    with pytest.raises(MeshError):
        lists.read(bytes(raw))


@pytest.mark.parametrize(
    "changed",
    [
        {"neighbours": [[3, 4, 0], [1, 2, 1]]},
        {"neighbours": [[1, 2, 1], [1, 3, 1]]},
        {"neighbours": [[0, 2, 1]]},
        {"neighbours": [[1, 0, 1]]},
        {"neighbours": [[1, 2, 2]]},
        {"neighbours": [[each, 1, 1] for each in range(1, 66)]},
        {"sought": [9, 9]},
        {"sought": [0]},
        {"sought": ["nas"]},
        {"serial": 0},
        {"life": 0},
        {"life": lists.LONGEST_LIFE + 1},
        {"transit": 2},
        {"more": 1},
    ],
)
def test_what_nobody_writes_is_refused_though_it_is_signed(changed: dict[str, object]) -> None:
    value = {"serial": 7, "life": 60, "transit": 1, "neighbours": [[1, 2, 1]], "sought": [9]}
    raw = signed.sign(lists.PURPOSE, encode(value | changed), MACHINE).raw
    with pytest.raises(MeshError):
        lists.read(raw)
