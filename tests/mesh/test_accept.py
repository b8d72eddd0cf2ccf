"""A machine is offered maps: what it takes, what holds in a fork, and how a fork ends."""

from __future__ import annotations

import itertools
from dataclasses import replace
from ipaddress import IPv4Network
from typing import TYPE_CHECKING

import pytest
from tests.mesh.signers import (
    ALICE,
    BOB,
    CAROL,
    DAY,
    NOW,
    ROOT,
    admins,
    chain,
    content,
    key,
    machine,
    names,
    record,
    signed,
)

from clan.mesh.chart import accept as accepting
from clan.mesh.chart import chart as charts
from clan.mesh.chart import links, mandate
from clan.mesh.chart.accept import Held, Outcome, accept
from clan.mesh.chart.content import EVERYTHING, Content, Ports, Rule
from clan.mesh.chart.forks import State, merged_chain
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from clan.mesh.chart.chart import Chart

NEW_ROOT, THIEF = key("new root"), key("thief")
START = signed(content("nas", "phone", "tv"))


def offered(*maps: Chart, to: Held | None = None) -> Held:
    held = to or Held.of()
    for chart in maps:
        held = accept(held, chart).held
    return held


def outcome(held: Held, chart: Chart) -> Outcome:
    verdict = accept(held, chart)
    assert verdict.reason
    in_force = verdict.outcome in {Outcome.NEWER, Outcome.FORK}
    assert (verdict.held.heads != held.heads) == in_force
    return verdict.outcome


def leaving_out(after: Chart, by: object, *removed: str) -> Chart:
    left = [admin for admin in after.chain.last.admins if admin.name not in removed]
    under = mandate.list_admins(after.chain, left, by)  # type: ignore[arg-type]
    return signed(after.content, by, under=under, after=[after])  # type: ignore[arg-type]


def test_a_newer_map_is_taken_and_an_older_one_never() -> None:
    second = signed(content("nas", "tv"), BOB, after=[START])
    held = offered(START)
    assert outcome(held, START) is Outcome.SAME
    assert outcome(held, second) is Outcome.NEWER
    held = offered(START, second)
    assert held.heads == (second,)
    assert outcome(held, START) is Outcome.OLDER
    assert names(held.view.content) == ["nas", "tv"]
    assert held.view.state is State.CLEAR
    assert Held.of().view.state is State.NONE


def test_a_machine_that_was_away_takes_the_newest_at_once() -> None:
    chart = START
    for number in range(100):
        chart = signed(content("nas", "phone", f"m{number}"), BOB, after=[chart])
    assert outcome(offered(START), chart) is Outcome.NEWER
    assert outcome(offered(chart), START) is Outcome.OLDER


def test_another_clan_s_map_is_refused() -> None:
    under = mandate.found(NEW_ROOT, admins("alice"))
    other = signed(content("nas"), under=under)
    assert outcome(offered(START), other) is Outcome.REFUSED
    with pytest.raises(MeshError):
        charts.read(other.raw, ROOT.public)


def test_in_a_fork_what_either_removes_is_removed_and_what_either_adds_is_there() -> None:
    one = signed(content("nas", "phone", "tv", "vps"), ALICE, after=[START])
    two = signed(content("nas", "phone"), BOB, after=[START])
    for held in (offered(START, one, two), offered(two, START, one)):
        assert set(held.heads) == {one, two}
        assert held.view.state is State.FORKED
        assert names(held.view.content) == ["nas", "phone", "vps"]
        assert key("tv").public in held.view.content.removed
        assert "tv is removed" in held.view.differences
    verdict = accept(offered(START, one), two)
    assert verdict.outcome is Outcome.FORK
    assert "an admin has to merge" in verdict.reason


def test_an_admin_merges_by_signing_what_holds() -> None:
    one = signed(content("nas", "phone", "tv", "vps"), ALICE, after=[START])
    two = signed(content("nas", "phone"), BOB, after=[START])
    held = offered(START, one, two)
    merged = signed(held.view.content, CAROL, after=held.heads, made=NOW + DAY)
    for before in (held, offered(one), offered(two), offered(START), Held.of()):
        assert offered(merged, to=before).heads == (merged,)
    after = offered(merged, to=held)
    assert outcome(after, one) is outcome(after, two) is Outcome.OLDER
    # Whoever was removed on one branch alone knew the other's secret.
    assert merged.content.secrets[0] not in {*one.content.secrets, *two.content.secrets}


def test_in_a_fork_the_higher_map_s_word_holds_where_both_cannot() -> None:
    within = IPv4Network("10.70.0.0/24")
    twin = replace(machine("tv"), identity=key("another tv").public)
    low = signed(
        Content(
            machines=(
                machine("cam", alias=within[5], subnets={7, 8}),
                machine("nas", tags={"old"}, links=record("nas", 9)),
                twin,
            ),
            aliases=within,
        ),
        ALICE,
    )
    step = signed(content("nas"), BOB)
    high = signed(
        Content(
            machines=(
                machine("dish", alias=within[5], subnets={8}),
                machine("nas", tags={"new"}, links=record("nas", 3)),
                machine("tv"),
            ),
            rules=(Rule(sources=("all",), targets=("nas",)),),
            aliases=within,
        ),
        BOB,
        after=[step],
    )
    view = offered(low, step, high).view
    found = {each.name: each for each in view.content.machines}
    assert found["tv"].identity == key("tv").public
    assert (found["cam"].alias, found["cam"].subnets) == (None, frozenset({7}))
    assert (found["dish"].alias, found["dish"].subnets) == (within[5], frozenset({8}))
    assert found["nas"].tags == {"new"}
    assert links.serial(found["nas"].links) == 9
    assert len(view.differences) == 4
    signed(view.content, CAROL, after=view.heads)


def test_in_a_fork_an_alias_is_of_the_range_that_holds() -> None:
    ranges = [IPv4Network("10.70.0.0/24"), IPv4Network("10.80.0.0/24")]
    low, high = sorted(
        (
            signed(Content(machines=(machine(name, alias=within[9]),), aliases=within), by)
            for name, within, by in zip(("nas", "tv"), ranges, (ALICE, BOB), strict=True)
        ),
        key=lambda each: each.order,
    )
    view = offered(low, high).view
    assert view.content.aliases == high.content.aliases
    aliases = {each.identity: each.alias for each in view.content.machines}
    assert aliases[high.content.machines[0].identity] == high.content.machines[0].alias
    assert aliases[low.content.machines[0].identity] is None
    signed(view.content, CAROL, after=view.heads)


def test_in_a_fork_only_what_both_allow_is_open() -> None:
    ssh = Ports(protocol="tcp", first=22, last=22)
    some = Ports(protocol="tcp", first=1, last=1023)
    one = signed(replace(START.content, rules=(rule(some),)), ALICE, after=[START])
    two = signed(replace(START.content, rules=(rule(ssh),)), BOB, after=[START])
    open_ = signed(START.content, CAROL, after=[START], made=NOW + 1)
    nas, tv = START.content.machines[0], START.content.machines[2]
    assert offered(one, open_).view.allowed(nas, tv) in {(some,), ()}
    both = offered(one, two).view.allowed(nas, tv)
    assert set(both) <= {ssh}
    assert offered(open_).view.allowed(nas, tv) == (EVERYTHING,)
    assert Held.of().view.allowed(nas, tv) == ()


def rule(ports: Ports) -> Rule:
    return Rule(sources=("all",), targets=("all",), ports=(ports,))


def test_two_who_both_list_an_admin_are_merged_too() -> None:
    with_dave = mandate.list_admins(START.chain, [*admins(), *admins("alice", "dave")], ALICE)
    with_erin = mandate.list_admins(START.chain, admins("alice", "bob", "erin"), BOB)
    one = signed(START.content, ALICE, under=with_dave, after=[START])
    two = signed(START.content, BOB, under=with_erin, after=[START])
    # alice left bob out: her map takes bob's right away, so his counts for nothing.
    assert offered(START, one, two).heads == offered(two, one).heads == (one,)
    three = signed(
        START.content,
        ALICE,
        under=mandate.list_admins(START.chain, admins("alice", "bob", "carol", "dave"), ALICE),
        after=[START],
    )
    held = offered(START, two, three)
    assert held.view.state is State.FORKED
    under = merged_chain(held.heads, ALICE)
    merged = signed(held.view.content, ALICE, under=under, after=held.heads)
    listed = {admin.name for admin in merged.chain.last.admins}
    assert listed == {"alice", "bob", "dave", "erin"}  # carol was left out by bob
    for before in (held, offered(two), offered(three)):
        assert offered(merged, to=before).heads == (merged,)
    keeps_carol = mandate.list_admins(three.chain, admins("alice", "carol"), ALICE)
    with pytest.raises(MeshError, match="under other mandates"):
        signed(held.view.content, ALICE, under=keeps_carol, after=held.heads)
    with pytest.raises(MeshError, match="may not sign any"):
        merged_chain(held.heads, THIEF)


def test_a_branch_whose_signer_the_other_removes_counts_for_nothing() -> None:
    stolen = signed(content("nas", "phone", "tv", "wiretap"), BOB, after=[START])
    without_bob = leaving_out(START, ALICE, "bob")
    for held in (offered(START, stolen, without_bob), offered(START, without_bob, stolen)):
        assert held.heads == (without_bob,)
        assert names(held.view.content) == ["nas", "phone", "tv"]
    verdict = accept(offered(without_bob), stolen)
    assert verdict.outcome is Outcome.REFUSED
    assert "takes the right to sign away from bob" in verdict.reason


def test_a_stolen_key_lists_an_accomplice_in_vain() -> None:
    under = mandate.list_admins(START.chain, admins("alice", "bob", "carol", "thief"), BOB)
    stolen = signed(content("nas", "wiretap"), THIEF, under=under, after=[START])
    assert offered(START, stolen).heads == (stolen,)
    without_bob = leaving_out(START, ALICE, "bob")
    assert offered(START, stolen, without_bob).heads == (without_bob,)


def test_a_removed_admin_cannot_go_on_from_the_map_that_removed_them() -> None:
    without_bob = leaving_out(START, ALICE, "bob")
    with pytest.raises(MeshError, match="under other mandates"):
        signed(content("nas"), BOB, under=START.chain, after=[without_bob])
    with pytest.raises(MeshError, match="may not sign"):
        signed(content("nas"), BOB, after=[without_bob])


def test_who_remove_each_other_wait_for_the_root_and_a_thief_adds_nothing() -> None:
    one = leaving_out(START, ALICE, "bob")
    under = mandate.list_admins(START.chain, admins("bob", "carol"), BOB)
    wiretap = content("nas", "tv", "wiretap")
    two = signed(wiretap, BOB, under=under, after=[START])
    for held in (offered(START, one, two), offered(two, START, one)):
        assert held.view.state is State.DISPUTED
        assert names(held.view.content) == ["nas", "tv"]
        assert key("phone").public in held.view.content.removed
    assert "only the root" in accept(offered(one), two).reason
    held = offered(one, two)
    with pytest.raises(MeshError):
        signed(START.content, ALICE, under=one.chain, after=held.heads)
    epoch = mandate.begin_epoch(one.chain, ROOT, admins("alice"))
    ruled = signed(START.content, ALICE, under=epoch, after=held.heads)
    for before in (held, offered(one), offered(two), Held.of()):
        assert offered(ruled, to=before).heads == (ruled,)
    assert names(ruled.content) == ["nas", "phone", "tv"]
    assert key("wiretap").public in ruled.content.removed
    assert outcome(offered(ruled), two) is Outcome.OLDER


def test_in_a_dispute_a_name_that_changes_hands_is_nobody_s() -> None:
    one = leaving_out(START, ALICE, "bob")
    under = mandate.list_admins(START.chain, admins("bob"), BOB)
    swapped = (
        replace(machine("nas"), identity=key("tv").public),
        machine("phone", tags={"admin"}),
        replace(machine("tv"), identity=key("nas").public),
    )
    two = signed(Content(machines=swapped), BOB, under=under, after=[START])
    view = offered(one, two).view
    assert names(view.content) == ["phone"]
    assert view.content.machines[0].tags == frozenset()


def test_three_who_remove_each_other_in_a_ring_are_a_dispute() -> None:
    ring = [
        leaving_out(START, ALICE, "bob"),
        leaving_out(START, BOB, "carol"),
        leaving_out(START, CAROL, "alice"),
    ]
    for maps in itertools.permutations(ring):
        held = offered(*maps)
        assert held.view.state is State.DISPUTED
        assert set(held.heads) == set(ring)
        assert offered(*maps, to=held) is held


def test_a_maximal_serial_is_refused_and_leaves_room() -> None:
    highest = replace(START, serial=charts.HIGHEST, hash=b"highest")
    assert outcome(offered(START), highest) is Outcome.REFUSED
    assert outcome(Held.of(), highest) is Outcome.REFUSED
    epoch = mandate.begin_epoch(START.chain, ROOT, admins("alice"))
    beginning = replace(highest, chain=epoch)
    assert outcome(offered(START), beginning) is Outcome.REFUSED
    far = replace(START, serial=START.serial + accepting.LEAP, hash=b"far")
    assert outcome(offered(START), far) is Outcome.FORK


def test_a_map_that_forgets_a_removal_does_not_replace_the_one_that_made_it() -> None:
    second = signed(content("nas"), after=[START])
    forgetful = replace(
        second,
        serial=3,
        hash=b"forgetful",
        parents=(second.place,),
        content=replace(second.content, removed=frozenset()),
    )
    held = offered(START, second, forgetful)
    assert held.view.state is State.FORKED
    assert {key("tv").public, key("phone").public} <= held.view.content.removed


def test_a_machine_comes_back_when_an_admin_says_so() -> None:
    gone = signed(content("nas", "tv"), after=[START])
    back = signed(content("nas", "phone", "tv"), BOB, after=[gone])
    held = offered(START, gone, back)
    assert held.heads == (back,)
    assert names(held.view.content) == ["nas", "phone", "tv"]


def test_a_new_root_is_followed_and_the_old_one_no_more() -> None:
    epoch2 = mandate.begin_epoch(START.chain, ROOT, admins("alice"), NEW_ROOT)
    second = signed(content("nas"), under=epoch2, after=[START])
    assert offered(START, second).heads == (second,)
    by_the_old = mandate.begin_epoch(
        mandate.begin_epoch(START.chain, ROOT, admins("thief")), ROOT, admins("thief")
    )
    stolen = signed(content("nas", "wiretap"), THIEF, under=by_the_old)
    assert stolen.epoch > second.epoch
    verdict = accept(offered(second), stolen)
    assert verdict.outcome is Outcome.REFUSED
    assert "lost its right in epoch 2" in verdict.reason
    beside = signed(
        content("nas", "wiretap"),
        THIEF,
        under=mandate.begin_epoch(START.chain, ROOT, admins("thief")),
    )
    assert "so it was stolen" in accept(offered(second), beside).reason
    third = signed(content("nas"), under=mandate.begin_epoch(epoch2, NEW_ROOT, admins("alice")))
    assert offered(second, third).heads == (third,)
    assert offered(START, third).heads == (third,)


def test_an_epoch_that_was_begun_twice_by_mistake_goes_on() -> None:
    """The first try reached one machine before the laptop died."""
    first = signed(content("nas"), under=mandate.begin_epoch(START.chain, ROOT, admins("alice")))
    epoch2 = mandate.begin_epoch(START.chain, ROOT, admins("alice", "bob"))
    second = signed(content("nas", "tv"), BOB, under=epoch2)
    held = offered(START, first, second)
    assert held.view.state is State.FORKED
    merged = signed(
        held.view.content, ALICE, under=merged_chain(held.heads, ALICE), after=held.heads
    )
    assert offered(merged, to=held).heads == (merged,)
    third = signed(content("nas"), under=mandate.begin_epoch(epoch2, ROOT, admins("alice")))
    assert offered(first, third).heads == (third,)


def test_a_flood_of_branches_pushes_out_the_flooder_s_own() -> None:
    alices = signed(content("nas", "tv"), ALICE, after=[START])
    held = offered(START, alices)
    for number in range(30):
        held = offered(signed(content("nas", f"m{number}"), BOB, after=[START]), to=held)
        assert len(held.heads) <= accepting.MOST_MAPS
        assert alices in held.heads
    carols = signed(content("nas", "vps"), CAROL, after=[START])
    held = offered(carols, to=held)
    assert {alices, carols} <= set(held.heads)
    without_bob = leaving_out(alices, ALICE, "bob")
    held = offered(without_bob, to=held)
    assert set(held.heads) == {without_bob, carols}


def test_as_many_branches_as_there_is_room_for() -> None:
    many = admins(*(f"a{number}" for number in range(accepting.MOST_MAPS + 1)))
    start = signed(content("nas"), key("a0"), under=mandate.found(ROOT, many))
    branches = [
        signed(content("nas", admin.name), key(admin.name), after=[start]) for admin in many
    ]
    held = offered(start, *branches)
    highest = sorted(branches, key=lambda each: each.order, reverse=True)
    assert held.heads == tuple(highest[:-1])
    verdict = accept(held, highest[-1])
    assert verdict.outcome is Outcome.REFUSED
    assert verdict.held is held
    assert "too many branches" in verdict.reason
    merged = signed(held.view.content, key("a3"), after=held.heads)
    assert offered(merged, to=held).heads == (merged,)


def test_what_a_thief_signed_over_is_in_force_again_when_they_are_removed() -> None:
    """Else a thief could undo a removal by signing the next map after it."""
    gone = signed(content("nas", "tv"), ALICE, after=[START])
    over = signed(content("nas", "tv", "wiretap"), BOB, after=[gone])
    over = signed(content("nas", "tv", "wiretap", "more"), BOB, after=[over])
    without_bob = leaving_out(START, CAROL, "bob")  # carol had not heard of it yet
    for held in (offered(START, gone, over, without_bob), offered(without_bob, gone, over)):
        assert set(held.heads) == {gone, without_bob}
        assert names(held.view.content) == ["nas", "tv"]


def test_who_was_listed_while_a_machine_was_away_signs_for_it_too() -> None:
    alone = signed(content("nas"), under=chain("alice"))
    with_bob = mandate.list_admins(alone.chain, admins("alice", "bob"), ALICE)
    second = signed(content("nas"), BOB, under=with_bob, after=[alone])
    without_alice = mandate.list_admins(with_bob, admins("bob"), BOB)
    third = signed(content("nas"), BOB, under=without_alice, after=[second])
    assert offered(alone, third).heads == (third,)
