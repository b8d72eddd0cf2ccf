"""What a user of two machines sees when something happens between them: how long nothing comes."""

from __future__ import annotations

from dataclasses import replace

import pytest
from tests.mesh.world import Node, Ping, Pipe, Queue, World, two_ways

from clan.mesh.ask import HOLD_EVERY, LONGEST_SEARCH
from clan.mesh.link import Endpoint, Kind, Uplink
from clan.mesh.pair import Mode

BOTH = {"anna", "nas"}
CUTS = 60


def gap_after_cut(
    seed: int,
    *,
    trip: float,
    jitter: float = 0.002,
    loss: float = 0.0,
    whose: frozenset[str] = frozenset(BOTH),
) -> float:
    """Return the gap in a 50/s ping when the path in use is cut without a word."""
    world, anna, _, _ = two_ways(seed, trip=trip, jitter=jitter, loss=loss)
    ping = Ping(world, "anna", "nas")
    world.run(1.5 + world.rng.random())
    cut = world.now
    path = anna.path("nas")
    world.pipe(path).cut |= whose
    world.run(1.5 + trip)
    assert anna.path("nas") != path
    return ping.gap(cut - 0.05, world.now - 0.1 - trip)


def p95(gaps: list[float]) -> float:
    return sorted(gaps)[round(0.95 * len(gaps)) - 1]


def moves(*nodes: Node, since: float) -> list[str]:
    return [f"{n.name}: {d.what}: {d.why}" for n in nodes for d in n.switches() if d.at >= since]


@pytest.mark.parametrize(
    ("trip", "jitter", "loss", "most"),
    [
        (0.02, 0.002, 0.0, 0.5),
        (0.02, 0.01, 0.01, 0.5),
        (0.15, 0.005, 0.0, 0.5 + 2 * 0.15),
        (0.15, 0.02, 0.01, 0.5 + 2 * 0.15),
    ],
)
def test_a_silent_cut_is_a_short_gap(trip: float, jitter: float, loss: float, most: float) -> None:
    gaps = [gap_after_cut(s, trip=trip, jitter=jitter, loss=loss) for s in range(CUTS)]
    assert p95(gaps) <= most


@pytest.mark.parametrize("deaf", sorted(BOTH))
def test_a_cut_of_one_direction_is_left_by_both_ends(deaf: str) -> None:
    gaps = [gap_after_cut(s, trip=0.02, whose=frozenset({deaf})) for s in range(20)]
    assert p95(gaps) <= 0.5


@pytest.mark.parametrize(("trip", "most"), [(0.02, 0.5), (0.15, 0.8)])
@pytest.mark.parametrize("idle", [600, 3600])
def test_a_session_that_was_idle_moves_as_fast(trip: float, most: float, idle: float) -> None:
    gaps = []
    for seed in range(5):
        world, anna, _, _ = two_ways(seed, trip=trip)
        before = Ping(world, "anna", "nas")
        world.run(5)
        before.on = False
        world.run(idle)
        assert anna.state.pairs["nas"].mode is (Mode.SLOW if idle < 900 else Mode.COLD)
        ping = Ping(world, "anna", "nas")
        world.run(1)
        cut = world.now
        world.pipe(anna.path("nas")).cut |= BOTH
        world.run(2)
        gaps.append(ping.gap(cut - 0.05, world.now - 0.1 - trip))
    assert max(gaps) <= most


def test_a_path_that_died_unnoticed_while_idle_is_left_at_the_first_packet() -> None:
    world, anna, _, _ = two_ways(1)
    Ping(world, "anna", "nas").on = False
    world.run(5)
    world.run(3600)
    world.pipe(anna.path("nas")).cut |= BOTH
    start = world.now
    ping = Ping(world, "anna", "nas")
    world.run(2)
    assert ping.replies[0] - start <= 0.6


@pytest.mark.parametrize("trip", [0.02, 0.15])
@pytest.mark.parametrize("whose", sorted(BOTH))
def test_a_lost_carrier_costs_little_more_than_a_round_trip(trip: float, whose: str) -> None:
    for seed in range(8):
        world, anna, _, _ = two_ways(seed, trip=trip)
        ping = Ping(world, "anna", "nas")
        world.run(2 + world.rng.random())
        lost = world.now
        assert anna.path("nas").own == "0000a001"
        world.uplink(whose, "eth0", up=False, after=0.03)
        world.run(2)
        assert ping.gap(lost - 0.05, world.now - 0.1 - trip) <= 0.13 + trip


def test_that_nothing_is_heard_any_more_is_said_once() -> None:
    world, anna, nas, pipes = two_ways(1)
    Ping(world, "anna", "nas")
    world.run(5)
    cut = world.now
    for pipe in pipes:
        pipe.cut |= BOTH
    world.run(30)
    for node in (anna, nas):
        said = [each.what for each in node.decisions if each.at >= cut]
        assert said.count("no link lives") == 1
    for pipe in pipes:
        pipe.cut -= BOTH
    mended = world.now
    world.run(30)
    assert any(d.what.endswith(" lives") for d in anna.decisions if d.at >= mended)


def delay(world: World, *nodes: Node, about: float) -> None:
    """Let these agents run only now and then, as on a computer that does far too much."""
    for node in nodes:
        node.frozen_until = world.now + about * (0.5 + world.rng.random())
    world.after(about, lambda: delay(world, *nodes, about=about))


@pytest.mark.parametrize("trip", [0.02, 0.5])
@pytest.mark.parametrize("late", [0.1, 0.3, 1.0])
def test_an_agent_that_always_is_late_leaves_a_dead_path_and_no_other(
    late: float, trip: float
) -> None:
    for seed in range(3):
        world, anna, nas, _ = two_ways(seed, trip=trip, jitter=trip / 10)
        ping = Ping(world, "anna", "nas")
        delay(world, anna, nas, about=late)
        world.run(20)
        start = world.now
        world.run(60)
        assert moves(anna, nas, since=start) == []
        cut = world.now
        world.pipe(anna.path("nas")).cut |= BOTH
        world.run(30)
        assert ping.gap(cut, world.now - 1) < 15


def test_a_planned_move_loses_nothing() -> None:
    world, anna, nas, _ = two_ways(3)
    ping = Ping(world, "anna", "nas")
    world.run(5)
    for avoid, own in (("eth0", "0000a002"), ("wlan0", "0000a001")):
        anna.want(replace(anna.desired, avoid=frozenset({avoid})))
        world.run(6)
        assert (anna.path("nas").own, nas.path("anna").their) == (own, own)
    ping.on = False
    world.run(1)
    assert len(ping.replies) == ping.sent


@pytest.mark.parametrize(
    ("seed", "trip", "where", "seconds"), [(122, 0.02, "nas", 600), (125, 0.15, "anna", 120)]
)
def test_a_congested_uplink_that_both_paths_share_moves_nobody(
    seed: int, trip: float, where: str, seconds: float
) -> None:
    world, anna, nas, pipes = two_ways(seed, trip=trip, loss=0.05)
    queue = Queue(world.rng)
    for pipe in pipes:
        pipe.queues = {where: queue}
    Ping(world, "anna", "nas")
    world.run(5)
    start = world.now
    world.run(seconds)
    assert [m for m in moves(anna, nas, since=start) if "it lives" not in m] == []


def test_a_third_of_all_packets_lost_is_left_for_a_clean_link_once() -> None:
    world, anna, nas, _ = two_ways(4)
    Ping(world, "anna", "nas")
    world.run(5)
    start = world.now
    world.pipe(anna.path("nas")).loss = 0.3
    world.run(90)
    assert len(moves(anna, nas, since=start)) == 2
    assert "lost alone" in moves(anna, since=start)[0]


def test_a_third_of_all_packets_lost_on_both_links_moves_nobody() -> None:
    world, anna, nas, pipes = two_ways(4)
    Ping(world, "anna", "nas")
    world.run(5)
    start = world.now
    for pipe in pipes:
        pipe.loss = 0.3
    world.run(300)
    assert moves(anna, nas, since=start) == []


def test_packets_grow_as_far_as_the_link_takes_them_and_shrink_when_it_takes_less() -> None:
    world, anna, nas, pipes = two_ways(5)
    ping = Ping(world, "anna", "nas", size=1300)
    world.run(5)
    assert anna.routes["nas"][1] == nas.routes["anna"][1] == 1420
    for pipe in pipes:
        pipe.widest = 1290
    narrowed = world.now
    world.run(15)
    assert anna.routes["nas"][1] == nas.routes["anna"][1] == 1280
    assert moves(anna, nas, since=narrowed) == []
    assert ping.too_big > 0
    for node in (anna, nas):
        shrunk = next(d for d in node.decisions if d.what.startswith("packets of 1280"))
        assert shrunk.at - narrowed <= 4


def test_a_link_on_which_only_pings_pass_is_left() -> None:
    world, anna, nas, _ = two_ways(5)
    Ping(world, "anna", "nas")
    world.run(5)
    path = anna.path("nas")
    world.pipe(path).widest = 1000
    world.run(10)
    assert anna.path("nas") != path
    assert nas.path("anna").own == anna.path("nas").their


def test_who_went_away_for_ten_minutes_and_comes_back_looks_everywhere_at_once() -> None:
    world, anna, nas, _ = two_ways(6)
    ping = Ping(world, "anna", "nas")
    world.run(5)
    ping.on = False
    nas.frozen_until = world.now + 600
    world.run(599.9)
    path = nas.path("anna")
    world.pipe(path).cut |= BOTH
    world.run(1.5)
    assert nas.path("anna") != path
    assert anna.path("nas").their == nas.path("anna").own


def test_a_sleeper_costs_little_even_if_someone_keeps_calling_and_is_back_within_seconds() -> None:
    world, anna, nas, pipes = two_ways(6)
    ping = Ping(world, "anna", "nas")
    world.run(5)
    nas.frozen_until = world.now + 600
    for pipe in pipes:
        pipe.cut |= BOTH
    before, steps = world.bytes["anna"], anna.steps
    world.run(600)
    unanswered_pings = 600 * 50 * 206
    assert world.bytes["anna"] - before - unanswered_pings < 500_000
    assert anna.steps - steps < 1200
    for pipe in pipes:
        pipe.cut.clear()
    back = world.now
    world.run(10)
    assert next(t for t in ping.replies if t > back) - back <= 6


def test_nothing_is_sent_to_a_sleeper_whom_nobody_wants() -> None:
    world, anna, nas, pipes = two_ways(7)
    ping = Ping(world, "anna", "nas")
    world.run(5)
    ping.on = False
    nas.frozen_until = world.now + 10_000
    for pipe in pipes:
        pipe.cut |= BOTH
    world.run(300)
    before = world.bytes["anna"]
    world.run(3600)
    assert world.bytes["anna"] == before
    assert anna.state.pairs["nas"].mode is Mode.COLD


def test_a_translation_that_rebinds_costs_a_probe_and_no_switch() -> None:
    world, anna, nas, _ = two_ways(8)
    ping = Ping(world, "anna", "nas")
    world.run(5)
    start = world.now
    pipe = world.pipe(anna.path("nas"))
    pipe.behind, pipe.memory = "anna", 30.0
    pipe.opened = -1e9
    world.run(10)
    assert ping.gap(start, world.now - 0.1) <= 0.25
    assert moves(anna, nas, since=start) == []


def test_a_slow_pair_holds_open_what_forgets_after_thirty_seconds() -> None:
    world = World(9)
    wired = Uplink(name="eth0", index=2)
    anna, _ = world.node("anna", wired), world.node("nas", wired)
    pipe = Pipe(delay=0.01, behind="anna", memory=30.0)
    world.join(
        "anna", "nas", own="0000a001", their="0000b001", uplink="eth0", their_uplink="eth0",
        pipe=pipe, lifetime=30.0,
    )  # fmt: skip
    world.start()
    ping = Ping(world, "anna", "nas")
    world.run(5)
    ping.on = False
    world.run(800)
    assert world.now - pipe.opened <= 30
    assert anna.state.pairs["nas"].mode is Mode.SLOW
    start = world.now
    back = Ping(world, "nas", "anna")
    world.run(1)
    assert back.replies[0] - start <= 0.1


def lan_and_internet(seed: int) -> tuple[World, Node, Node]:
    world = World(seed)
    wired, radio = Uplink(name="eth0", index=2), Uplink(name="wwan0", index=3, metered=True)
    anna, nas = world.node("anna", wired, radio), world.node("nas", wired)
    for n, uplink, kind, delay in (
        (1, "eth0", Kind.LAN, 0.0005),
        (2, "wwan0", Kind.INTERNET, 0.02),
    ):
        world.join(
            "anna", "nas", own=f"0000a00{n}", their=f"0000b00{n}", uplink=uplink,
            their_uplink="eth0", pipe=Pipe(delay=delay), kind=kind,
        )  # fmt: skip
    world.start()
    return world, anna, nas


def test_one_goes_back_to_the_lan_after_a_time_that_doubles_with_each_loss() -> None:
    world, anna, nas = lan_and_internet(10)
    Ping(world, "anna", "nas")
    world.run(3)
    waits = []
    for _ in range(4):
        assert anna.path("nas").own == "0000a001"
        world.uplink("anna", "eth0", up=False)
        world.run(3)
        assert anna.path("nas").own == nas.path("anna").their == "0000a002"
        world.uplink("anna", "eth0", up=True)
        back = world.now
        world.run(60)
        waits.append(next(d.at for d in anna.switches() if d.at > back) - back)
    assert [round(wait / 5) for wait in waits] == [1, 2, 4, 8]


def test_a_link_that_flaps_all_day_is_left_alone_most_of_the_time() -> None:
    world, anna, nas = lan_and_internet(11)
    Ping(world, "anna", "nas")
    world.run(3)
    start = world.now
    lan = world.pipe(anna.path("nas"))
    for _ in range(15):
        lan.cut |= BOTH
        world.run(5)
        lan.cut.clear()
        world.run(15)
    assert len(moves(anna, since=start)) <= 6
    del nas


def test_the_right_place_is_found_among_several() -> None:
    world = World(12)
    wired = Uplink(name="eth0", index=2)
    anna, nas = world.node("anna", wired), world.node("nas", wired)
    places = tuple(Endpoint(host=f"192.0.2.{n}", port=51820) for n in range(3))
    pipe = Pipe(delay=0.01, where={"anna": places[2], "nas": places[2]})
    world.join(
        "anna", "nas", own="0000a001", their="0000b001", uplink="eth0", their_uplink="eth0",
        pipe=pipe, endpoints=places,
    )  # fmt: skip
    world.start()
    start = world.now
    ping = Ping(world, "anna", "nas")
    world.run(10)
    assert ping.replies[0] - start <= 6
    assert world.tunnel(nas, nas.path("anna")).place == places[2]
    del anna


def test_whoever_is_wanted_and_not_heard_is_called() -> None:
    world = World(13)
    wired = Uplink(name="eth0", index=2)
    anna, nas = world.node("anna", wired), world.node("nas", wired)
    pipe = Pipe(delay=0.01, behind="nas", memory=30.0)
    world.join(
        "anna", "nas", own="0000a001", their="0000b001", uplink="eth0", their_uplink="eth0",
        pipe=pipe,
    )  # fmt: skip
    world.start()
    start = world.now
    ping = Ping(world, "anna", "nas")
    world.run(10)
    assert nas.state.pairs["anna"].mode is Mode.FAST
    assert ping.replies[0] - start <= 3
    del anna


def test_whoever_is_reached_by_a_detour_is_called_for_a_straight_way() -> None:
    world = World(14)
    wired = Uplink(name="eth0", index=2)
    anna, nas = world.node("anna", wired), world.node("nas", wired)
    straight = world.join(
        "anna", "nas", own="0000a001", their="0000b001", uplink="eth0", their_uplink="eth0",
        kind=Kind.INTERNET, pipe=Pipe(delay=0.01, cut=set(BOTH)),
    )  # fmt: skip
    world.join(
        "anna", "nas", own="0000a002", their="0000b002", uplink="eth0", their_uplink="eth0",
        kind=Kind.RELAY, pipe=Pipe(delay=0.01),
    )  # fmt: skip
    world.start()
    Ping(world, "anna", "nas")
    world.run(30)
    assert anna.path("nas").own == "0000a002"
    # After 5, 10 and 20 seconds: it costs others something.
    assert 2 <= anna.state.pairs["nas"].calls <= 4
    straight.cut.clear()
    world.run(25)
    assert anna.path("nas").own == "0000a001"
    assert nas.path("anna").own == "0000b001"
    calls = anna.state.pairs["nas"].calls
    world.run(60)
    assert anna.state.pairs["nas"].calls == calls


@pytest.mark.parametrize("kept", [True, False])
def test_who_holds_calls_is_looked_for_until_a_link_leads_straight_there(*, kept: bool) -> None:
    """And that is held open beside the detour, as whoever is in between may go."""
    world = World(16)
    wired = Uplink(name="eth0", index=2)
    anna, nas = world.node("anna", wired), world.node("nas", wired)
    straight = world.join(
        "anna", "nas", own="0000a001", their="0000b001", uplink="eth0", their_uplink="eth0",
        pipe=Pipe(delay=0.01, cut=set(BOTH), behind="anna", memory=30.0), lifetime=30.0,
        kept=("anna",) if kept else (),
    )  # fmt: skip
    world.join(
        "anna", "nas", own="0000a002", their="0000b002", uplink="eth0", their_uplink="eth0",
        kind=Kind.RELAY, pipe=Pipe(delay=0.01), lifetime=30.0,
    )  # fmt: skip
    world.start()
    world.run(600)
    assert anna.state.pairs["nas"].mode is (Mode.KEPT if kept else Mode.COLD)
    assert (anna.path("nas").own == "0000a002") is kept
    straight.cut.clear()
    world.run(2 * LONGEST_SEARCH)
    (link,) = [x for x in nas.state.pairs["anna"].links.values() if x.link.id.own == "0000b001"]
    assert (world.now - link.health.heard <= HOLD_EVERY + 1) is kept
    assert (world.now - straight.opened <= 30) is kept


def test_a_wrong_guess_is_no_loss_to_wait_after() -> None:
    world = World(15)
    wired = Uplink(name="eth0", index=2)
    anna, nas = world.node("anna", wired), world.node("nas", wired)
    straight = world.join(
        "anna", "nas", own="0000a001", their="0000b001", uplink="eth0", their_uplink="eth0",
        kind=Kind.INTERNET, pipe=Pipe(delay=0.01, cut=set(BOTH)),
    )  # fmt: skip
    world.join(
        "anna", "nas", own="0000a002", their="0000b002", uplink="eth0", their_uplink="eth0",
        kind=Kind.RELAY, pipe=Pipe(delay=0.01),
    )  # fmt: skip
    world.start()
    Ping(world, "anna", "nas")
    world.run(1)
    assert anna.path("nas").own == "0000a002"
    assert all(each.failures == 0 for each in anna.state.pairs["nas"].links.values())
    straight.cut.clear()
    world.run(15)
    assert anna.path("nas").own == "0000a001"
    del nas


def test_a_path_lost_for_one_peer_is_doubted_for_all_on_its_uplink() -> None:
    world = World(14)
    wired, radio = Uplink(name="eth0", index=2), Uplink(name="wlan0", index=3)
    names = ["anna", "bert", "cleo", "dora", "emil"]
    nodes = [world.node(name, wired, radio) for name in names]
    pipes = []
    for peer, other in enumerate(names[1:]):
        for n, uplink in ((1, "eth0"), (2, "wlan0")):
            pipe = world.join(
                "anna", other, own=f"000{n}a00{peer}", their=f"000{n}b00{peer}", uplink=uplink,
                their_uplink=uplink, pipe=Pipe(delay=0.01 + 0.001 * n, jitter=0.002),
            )  # fmt: skip
            if n == 1:
                pipes.append(pipe)
    world.start()
    pings = [Ping(world, "anna", other) for other in names[1:]]
    world.run(3)
    cut = world.now
    for pipe in pipes:
        pipe.cut |= set(names)
    world.run(2)
    assert all(nodes[0].path(other).own.startswith("0002") for other in names[1:])
    assert max(ping.gap(cut - 0.05, world.now - 0.2) for ping in pings) <= 0.5


def test_both_ends_agree_after_both_chose_at_once() -> None:
    for seed in range(10):
        world, anna, nas, pipes = two_ways(seed, loss=0.2)
        third = world.join(
            "anna", "nas", own="0000a003", their="0000b003", uplink="eth0", their_uplink="wlan0",
            pipe=Pipe(delay=0.012, loss=0.2),
        )  # fmt: skip
        world.start()
        Ping(world, "anna", "nas")
        world.run(3)
        world.pipe(anna.path("nas")).cut |= BOTH
        anna.want(replace(anna.desired, avoid=frozenset({"eth0"})))
        nas.want(replace(nas.desired, avoid=frozenset({"wlan0"})))
        start = world.now
        world.run(20)
        assert len(moves(anna, nas, since=start)) <= 12
        assert (anna.path("nas").own, anna.path("nas").their) == (
            nas.path("anna").their,
            nas.path("anna").own,
        )
        assert anna.state.pairs["nas"].choice.number == nas.state.pairs["anna"].choice.number
        del pipes, third
