"""Admins sign as they like, machines hear of it in any order: all come to the same result."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.signers import ADMINS, NOW, admins, chain, content, machine, signed

from clan.mesh.chart import chart as charts
from clan.mesh.chart import mandate
from clan.mesh.chart.accept import MOST_MAPS, Held, Outcome, accept
from clan.mesh.chart.content import faults, folded
from clan.mesh.chart.forks import State, merged_chain
from clan.mesh.errors import MeshError
from clan.mesh.identity import prefix

if TYPE_CHECKING:
    import random

    from clan.mesh.chart.chart import Chart

START = signed(content("nas", "phone", "tv"), under=chain())
CLAN = prefix(START.chain.first_root)
NAMES = ("nas", "phone", "tv", "vps", "cam")
ACTS = st.tuples(
    st.sampled_from(sorted(ADMINS)),
    st.lists(st.integers(0, 20), min_size=1, max_size=2),
    st.sampled_from(["add", "remove", "list", "unlist", "merge"]),
    st.integers(0, 10),
)


def history(acts: list[tuple[str, list[int], str, int]]) -> list[Chart]:
    """Return the maps of a clan whose admins did this; what cannot be signed was not."""
    maps = [START]
    for who, before, act, which in acts:
        after = list(
            {id(maps[each % len(maps)]): maps[each % len(maps)] for each in before}.values()
        )
        by = ADMINS[who]
        said = after[0].content
        under = after[0].chain
        name = NAMES[which % len(NAMES)]
        left = {each.name: each for each in said.machines}
        admin = sorted(ADMINS)[which % len(ADMINS)]
        listed = {each.name for each in under.last.admins}
        try:
            if act == "merge":
                held = Held.of()
                for each in after:
                    held = accept(held, each).held
                said, after = held.view.content, list(held.heads)
                under = merged_chain(after, by)
            elif act == "add":
                left[name] = machine(name, tags=frozenset({who}))
            elif act == "remove":
                left.pop(name, None)
            elif act == "list":
                under = mandate.list_admins(under, admins(*{*listed, admin}), by)
            else:
                under = mandate.list_admins(under, admins(*(listed - {admin})), by)
            if act != "merge":
                after = after[:1]
                machines = tuple(left[each] for each in sorted(left))
                said = replace(said, machines=machines)
            maps.append(signed(said, by, under=under, after=after, made=NOW + len(maps)))
        except MeshError:
            continue  # not everybody may sign everything
    return maps


def settled(maps: list[Chart], order: random.Random) -> Held:
    """Offer all maps in some order, again and again, as neighbours do, until nothing changes."""
    held = Held.of()
    for _ in range(len(maps) + 2):
        order.shuffle(maps)
        changed = False
        for chart in maps:
            verdict = accept(held, chart)
            changed |= verdict.held is not held
            held = verdict.held
        if not changed:
            return held
    raise AssertionError("it never comes to rest")


@given(st.lists(ACTS, max_size=9), st.randoms(use_true_random=False))
def test_the_order_in_which_maps_come_does_not_matter(
    acts: list[tuple[str, list[int], str, int]], order: random.Random
) -> None:
    maps = history(acts)
    one, two = settled(list(maps), order), settled(list(maps), order)
    assert [each.hash for each in one.heads] == [each.hash for each in two.heads]
    assert one.view == two.view


@given(st.lists(ACTS, max_size=9), st.randoms(use_true_random=False))
def test_at_every_moment_what_holds_can_hold(
    acts: list[tuple[str, list[int], str, int]], order: random.Random
) -> None:
    maps = history(acts)
    order.shuffle(maps)
    held = Held.of()
    for chart in maps * 2:
        before = held
        verdict = accept(held, chart)
        held = verdict.held
        hashes = {each.hash for each in held.heads}
        in_force = verdict.outcome in {Outcome.NEWER, Outcome.FORK}
        assert (held.heads != before.heads) == in_force
        assert len(held.maps) <= MOST_MAPS
        assert list(held.heads) == sorted(held.heads, key=lambda each: each.order, reverse=True)
        for one in held.heads:
            assert not any(one.succeeds(other) for other in held.heads)
        if verdict.outcome is Outcome.OLDER:
            assert chart.hash not in hashes
        view = held.view
        revoked = {each for head in held.heads for each in head.content.removed}
        members = view.content.machines
        assert not {each.identity for each in members} & revoked
        assert len({folded(each.name) for each in members}) == len(members)
        assert faults(view.content, CLAN) == []
        if view.state is State.DISPUTED:
            for head in held.heads:
                theirs = {(each.name, each.identity) for each in head.content.machines}
                assert {(each.name, each.identity) for each in members} <= theirs


@given(st.lists(ACTS, max_size=9))
def test_every_map_that_was_signed_is_read_by_whoever_knows_the_first_root(
    acts: list[tuple[str, list[int], str, int]],
) -> None:
    for chart in history(acts):
        assert charts.read(chart.raw, chart.chain.first_root) == chart
