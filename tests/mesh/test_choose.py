"""Which link is best, as tables."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.mesh import choose
from clan.mesh.exchange import Desired
from clan.mesh.link import Kind, Link, LinkId, Slot, Uplink
from clan.mesh.measure import Health
from clan.mesh.pair import Standing
from clan.mesh.width import Width
from clan.mesh.wire import About

DESIRED = Desired(
    name="anna",
    uplinks={
        "eth0": Uplink(name="eth0", index=2),
        "wlan0": Uplink(name="wlan0", index=3),
        "wwan0": Uplink(name="wwan0", index=4, metered=True),
    },
)


def standing(
    kind: Kind = Kind.INTERNET,
    *,
    uplink: str = "eth0",
    trip: float = 0.02,
    loss: float = 0.0,
    narrow: bool = False,
    cut: bool = False,
    theirs: float = 0.0,
    usable: bool = True,
    failures: int = 0,
    alive: float = 0.0,
    rounds: tuple[float | None, ...] = (),
    own: str = "00000001",
) -> Standing:
    link = LinkId(peer="nas", own=own, their="00000002")
    return Standing(
        link=Link(id=link, slot=Slot(uplink=uplink, family=6, kind=kind), cut=cut),
        health=Health(round_trip=trip, loss=loss, rounds=tuple(enumerate(rounds, 1))),
        width=Width(narrow=narrow),
        about=About(own="00000002", their="00000001", penalty=theirs, usable=usable),
        alive_since=alive,
        failures=failures,
        failed_at=0.0,
    )


@pytest.mark.parametrize(
    ("better", "worse"),
    [
        (standing(Kind.LAN, trip=0.004), standing(Kind.INTERNET, trip=0.001)),
        (standing(trip=0.02), standing(Kind.RELAY, trip=0.02)),
        (standing(Kind.RELAY, trip=0.03), standing(trip=0.2)),
        (standing(Kind.OVERLAY), standing(Kind.TLS)),
        (standing(Kind.HOPS), standing(Kind.OVERLAY, cut=True)),
        (standing(trip=0.06), standing(trip=0.02, loss=0.05)),
        (standing(Kind.TLS, trip=0.3), standing(narrow=True)),
        (standing(Kind.TLS, trip=0.3), standing(uplink="wwan0")),
        (standing(trip=0.3), standing(theirs=1.0)),
    ],
)
def test_what_costs_less(better: Standing, worse: Standing) -> None:
    assert choose.cost(better, DESIRED) < choose.cost(worse, DESIRED)


@pytest.mark.parametrize(
    ("failures", "seconds"), [(0, 0), (1, 5), (2, 10), (3, 20), (7, 320), (8, 600), (60, 600)]
)
def test_the_stable_time_doubles_with_each_loss(failures: int, seconds: float) -> None:
    assert choose.hold(standing(failures=failures), 1.0) == seconds


def test_a_loss_is_forgiven_in_the_end() -> None:
    assert choose.hold(standing(failures=5), choose.FORGIVEN_AFTER + 1) == 0


@pytest.mark.parametrize(
    ("path", "other", "moves"),
    [
        ((0.05,) * 8, (0.02,) * 8, True),
        ((0.05,) * 3, (0.02,) * 3, False),  # too few rounds
        ((0.025,) * 8, (0.02,) * 8, False),  # too little gain
        ((0.5, 0.9, 1.0, 0.4) * 4, (0.49, 0.91, 0.98, 0.41) * 4, False),  # one queue
        ((0.02, 0.09) * 8, (0.05, 0.03) * 8, False),  # now this, now that
        ((0.006, 0.032, 0.014, 0.023), (0.001, 0.002, 0.002, 0.003), False),  # a busy moment
        ((None,) * 20 + (0.02,) * 20, (0.02,) * 40, True),
        ((None,) * 20 + (0.02,) * 20, (None,) * 20 + (0.02,) * 20, False),
        ((None,) * 6 + (0.02,) * 30, (0.02,) * 36, False),  # could be chance
    ],
)
def test_a_path_that_works_is_left_for_a_clear_gain_only(
    path: tuple[float | None, ...], other: tuple[float | None, ...], moves: bool
) -> None:
    here, there = standing(rounds=path), standing(uplink="wlan0", rounds=other)
    assert bool(choose.better(here, there, DESIRED, 100.0)) is moves


def test_one_goes_back_only_after_the_stable_time() -> None:
    path = standing(rounds=(0.05,) * 8)
    lan = standing(Kind.LAN, rounds=(0.001,) * 8, failures=3, alive=100.0)
    assert not choose.better(path, lan, DESIRED, 119.0)
    assert "after 20 s without a loss" in choose.better(path, lan, DESIRED, 120.0)


def test_a_path_that_only_pings_pass_is_left_for_what_was_lost_lately() -> None:
    path, narrow = (standing(rounds=(0.02,) * 8, narrow=each) for each in (False, True))
    for_now = standing(Kind.RELAY, rounds=(0.05,) * 8, failures=5, alive=100.0)
    assert not choose.better(path, for_now, DESIRED, 105.0)
    assert "after 5 s without a loss" in choose.better(narrow, for_now, DESIRED, 105.0)
    as_narrow = standing(Kind.LAN, rounds=(0.02,) * 8, failures=5, alive=100.0, narrow=True)
    assert not choose.better(narrow, as_narrow, DESIRED, 105.0)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1))
def test_the_next_number_is_newer_than_all_it_follows(one: int, other: int) -> None:
    following = choose.next_number(one)
    assert following
    assert choose.newer(following, one)
    assert not choose.newer(one, following)
    assert not (choose.newer(one, other) and choose.newer(other, one))


def test_a_standby_has_an_uplink_of_its_own_and_costs_no_other_member() -> None:
    path = standing(own="00000001")
    near = standing(Kind.RELAY, own="00000003")
    apart = standing(Kind.RELAY, own="00000004", uplink="wlan0")
    over = standing(Kind.HOPS, own="00000005", uplink="hops")

    def held(*links: Standing) -> list[Standing]:
        return choose.worth_holding(path.link.id, (path, *links), DESIRED)

    assert held(over) == [path]
    assert held(over, near) == [path, near]
    assert held(over, near, apart) == [path, apart]


def test_a_standby_of_a_detour_leads_straight_there() -> None:
    path = standing(Kind.RELAY, own="00000001")
    straight = standing(Kind.INTERNET, own="00000002")
    apart = standing(Kind.RELAY, own="00000003", uplink="wlan0")
    held = choose.worth_holding(path.link.id, (path, apart, straight), DESIRED)
    assert held == [path, straight]
