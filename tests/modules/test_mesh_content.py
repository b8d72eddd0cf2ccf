"""What the clan's file has a mesh's map say: who is in it, and where they are."""

from __future__ import annotations

import itertools
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh import signers
from tests.modules.test_mesh import CLAN, PREFIX, Known, address

from clan.mesh import identity
from clan.mesh.chart import links
from clan.mesh.chart.content import Content, KnownAddress, faults
from clan.mesh.errors import MeshError
from clan.modules.mesh import content as contents

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.desk import Desk

    from clan.model.clan import Clan


def said(
    clan: Clan, values: Known, before: Content, records: Mapping[bytes, bytes] | None = None
) -> Content:
    return contents.content(
        clan.instances["home"],
        clan,
        values,
        first_root=signers.ROOT.public,
        before=before,
        records=records or {},
    )


def test_the_map_says_who_has_an_identity_and_where_they_are(desk: Desk) -> None:
    found = said(desk.open(CLAN), Known("phone"), Content())
    assert faults(found, PREFIX) == []
    nas, laptop = found.machines
    assert (nas.name, laptop.name) == ("nas", "old_laptop")
    assert nas.tags == {"server"}
    assert nas.addresses == (
        KnownAddress(host="192.0.2.7", port=51820),
        KnownAddress(host="nas.example.com"),  # targetHost is the same, and ssh's port no matter
    )
    assert found.aliases == identity.alias_range(PREFIX)
    assert nas.alias in found.aliases


def test_aliases_stay_and_records_are_the_newest(desk: Desk) -> None:
    clan = desk.open(CLAN)
    nas = signers.key("nas").public
    first = said(clan, Known(), Content(), {nas: signers.record("nas", 3)})
    taken = first.machines[0].alias
    assert taken is not None
    again = said(clan, Known("phone"), first, {nas: signers.record("nas", 2)})
    assert again.machines[0].alias == taken
    assert links.serial(again.machines[0].links) == 3
    assert contents.says(first, said(clan, Known(), first))
    assert not contents.says(first, again)
    with_range = f'{CLAN}[instances.home.settings]\naliases = "10.7.0.0/28"\n'
    moved = said(desk.open(with_range), Known(), first)
    assert moved.machines[0].alias in IPv4Network("10.7.0.0/28")


def test_a_target_that_is_of_the_mesh_itself_is_left_out(desk: Desk) -> None:
    text = CLAN.replace("root@nas.example.com:22", f"root@[{address('nas')}]").replace(
        ', "nas.example.com"', ""
    )
    (nas, *_) = said(desk.open(text), Known(), Content()).machines
    assert nas.addresses == (KnownAddress(host="192.0.2.7", port=51820),)


def test_when_aliases_run_out_it_says_so() -> None:
    whole = [IPv4Address("10.7.0.0") + number for number in range(1, 7)]
    with pytest.raises(MeshError, match=r"all 6 aliases in 10\.7\.0\.0/29 are taken"):
        identity.alias(IPv4Network("10.7.0.0/29"), signers.key("nas").public, whole)


@given(
    st.lists(st.sampled_from([f"m{n}" for n in range(40)]), unique=True),
    st.integers(22, 26),
)
def test_no_two_machines_ever_have_one_alias(names: list[str], size: int) -> None:
    within = IPv4Network((int(IPv4Address("10.7.0.0")), size))
    taken: set[IPv4Address] = set()
    for name, _ in zip(names, itertools.count(), strict=False):
        made = identity.alias(within, signers.key(name).public, taken)
        assert made in within
        assert made not in taken
        taken.add(made)
