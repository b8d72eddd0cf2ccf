"""What the mesh costs a machine that does nothing, counted on the simulated wire."""

from __future__ import annotations

import time

import pytest
from tests.mesh.world import Ping, Pipe, World, two_ways

from clan.mesh.exchange import Received
from clan.mesh.link import Uplink
from clan.mesh.pair import FAST_FOR, Mode
from clan.mesh.wire import Probe

MONTH = 30.44 * 86400
A_STEP = 0.002
"""Seconds of a slow computer's core that a step, its messages and system calls are taken to cost:
twenty times what the step alone takes here."""


def fleet() -> World:
    """Return a machine with 29 peers, two of which are relays that hold calls for it."""
    world = World(1)
    wired, radio = Uplink(name="eth0", index=2), Uplink(name="wlan0", index=3)
    world.node("mia", wired, radio)
    for n in range(29):
        peer = f"peer{n:02}"
        world.node(peer, wired)
        for way, uplink in ((1, "eth0"), (2, "wlan0")):
            world.join(
                "mia", peer, own=f"000{way}a0{n:02}", their=f"000{way}b0{n:02}", uplink=uplink,
                their_uplink="eth0", pipe=Pipe(delay=0.01, behind="mia", memory=30.0),
                lifetime=30.0, kept=("mia",) if n < 2 else (),
            )  # fmt: skip
    world.start()
    return world


def test_an_idle_month_with_29_peers_costs_less_than_100_mb_and_a_hundredth_of_a_core() -> None:
    world = fleet()
    world.run(600)
    mia = world.nodes["mia"]
    modes = [pair.mode for pair in mia.state.pairs.values()]
    assert (modes.count(Mode.KEPT), modes.count(Mode.COLD)) == (2, 27)
    before, steps = world.bytes["mia"], mia.steps
    hours = 2
    world.run(hours * 3600)
    month = (world.bytes["mia"] - before) / (hours * 3600) * MONTH
    assert 10e6 < month < 100e6
    assert (mia.steps - steps) / (hours * 3600) * A_STEP < 0.01
    assert sum(world.bytes[f"peer{n:02}"] for n in range(2, 29)) == 0
    start = world.now
    ping = Ping(world, "peer00", "mia")
    world.run(1)
    assert ping.replies[0] - start < 0.1


def test_a_pair_that_talked_goes_slow_and_then_cold() -> None:
    world = fleet()
    ping = Ping(world, "mia", "peer05")
    world.run(10)
    ping.on = False
    seen = []
    for _ in range(100):
        world.run(10)
        mode = world.nodes["mia"].state.pairs["peer05"].mode
        if mode not in seen:
            seen.append(mode)
    assert seen == [Mode.FAST, Mode.SLOW, Mode.COLD]
    before = world.bytes["peer05"]
    world.run(3600)
    assert world.bytes["peer05"] == before


def test_a_pair_that_talks_costs_less_than_a_hundred_kilobit_a_second() -> None:
    world = fleet()
    ping = Ping(world, "mia", "peer05", every=1.0)
    world.run(10)
    before = world.bytes["peer05"]
    world.run(20)
    assert (world.bytes["peer05"] - before) * 8 / 20 < 100_000
    assert ping.replies


@pytest.mark.parametrize("deaf", ["nas", "anna", "nas anna"])
@pytest.mark.parametrize("before", [0.6, 0.3, 0.1])
def test_a_lost_word_that_a_pair_goes_to_sleep_keeps_nobody_awake(deaf: str, before: float) -> None:
    """Who was promised a question ten times a second doubts the path for the want of it."""
    world, anna, nas, pipes = two_ways(7)
    ping = Ping(world, "anna", "nas")
    world.run(5)
    ping.on = False
    world.run(FAST_FOR - before)
    for pipe in pipes:
        pipe.cut |= set(deaf.split())
    world.run(before + 0.4)
    for pipe in pipes:
        pipe.cut.clear()
    world.run(30)
    sent = sum(world.bytes.values())
    world.run(600)
    # A question a minute on each of two links, and its answer.
    assert sum(world.bytes.values()) - sent < 30_000
    assert anna.state.pairs["nas"].doubt is None
    assert nas.state.pairs["anna"].doubt is None


def server(talking: int) -> World:
    """Return 29 machines of which so many talk to one, for a while already."""
    world = fleet()
    for n in range(talking):
        Ping(world, f"peer{n:02}", "mia", every=1.0)
    world.run(20)
    return world


def test_a_machine_that_all_talk_to_hears_about_as_much_as_one_that_ten_do() -> None:
    heard = {}
    for talking in (10, 29):
        world = server(talking)
        mia = world.nodes["mia"]
        mia.log = []
        world.run(30)
        events = (event for _, observed, _ in mia.log for event in observed)
        heard[talking] = sum(isinstance(event, Received) for event in events) / 30
    assert 200 < heard[29] < 1.5 * heard[10], heard


def test_who_talks_to_such_a_machine_asks_no_more_often_than_it_does() -> None:
    world = server(29)
    mia, peer = world.nodes["mia"], world.nodes["peer20"]
    peer.log, mia.decisions = [], []
    world.run(30)
    asked = {}
    for name, pair in (("mia", mia.state.pairs["peer20"]), ("peer20", peer.state.pairs["mia"])):
        path = pair.links[pair.path] if pair.path else None
        assert path is not None
        assert pair.doubt is None
        asked[name] = path.health.promise
    # The peer was promised a question each 0.29 s, and mia goes by the same.
    assert asked == {"mia": pytest.approx(0.29), "peer20": pytest.approx(0.29)}
    probes = [
        event
        for _, observed, _ in peer.log
        for event in observed
        if isinstance(event, Received) and isinstance(event.message, Probe)
    ]
    assert len(probes) < 30 * (1 / 0.29 + 2 / 2.9) * 1.2
    assert not mia.switches()


def test_where_many_talk_a_path_that_is_cut_is_left_nevertheless() -> None:
    gaps = []
    for n in (3, 11, 20, 28):
        world = server(29)
        ping = Ping(world, f"peer{n:02}", "mia")
        world.run(3)
        node = world.nodes[f"peer{n:02}"]
        world.pipe(node.path("mia")).cut |= {"mia", node.name}
        cut = world.now
        world.run(5)
        gaps.append(ping.gap(cut - 1, world.now))
    assert 0.2 < max(gaps) < 1.0, gaps


def test_when_the_many_have_gone_the_one_left_is_asked_as_often_as_ever() -> None:
    world = fleet()
    others = [Ping(world, f"peer{n:02}", "mia", every=1.0) for n in range(28)]
    Ping(world, "peer28", "mia", every=1.0)
    world.run(20)
    for ping in others:
        ping.on = False
    world.run(FAST_FOR + 10)
    for one, other in (("mia", "peer28"), ("peer28", "mia")):
        pair = world.nodes[one].state.pairs[other]
        assert pair.path is not None
        assert pair.links[pair.path].health.promise == pytest.approx(0.1)
        assert pair.doubt is None


def test_the_two_ends_of_a_pair_ask_in_the_same_breath() -> None:
    for seed in range(8):
        world, anna, nas, _ = two_ways(seed, jitter=0.0)
        anna.log, nas.log = [], []
        Ping(world, "anna", "nas")
        world.run(5 + seed * 0.0137)  # whichever end woke first, and however they stand
        begun = world.now
        world.run(10)
        steps = {
            name: [observed for _, observed, now in node.log or () if now > begun]
            for name, node in (("anna", anna), ("nas", nas))
        }
        # A question of its own and one that comes with an answer; but for rounds, once a second.
        assert 150 <= len(steps["anna"]) < 260
        assert 150 <= len(steps["nas"]) < 260
        # It is asked no less often by that.
        asked = [
            event
            for observed in steps["anna"]
            for event in observed
            if isinstance(event, Received)
            and isinstance(event.message, Probe)
            and event.link == anna.path("nas")
        ]
        assert 95 <= len(asked) < 125


def rounds_in_doubt(seed: int, *, hung: bool) -> tuple[int, int]:
    """How often each end asks on the standby in 0.4 s, from its doubt on, while the path is cut.

    The end that leads may hang then.
    """
    world, anna, nas, pipes = two_ways(seed, jitter=0.0)
    Ping(world, "anna", "nas")
    world.run(5 + seed * 0.0137)
    pipe = world.pipe(anna.path("nas"))
    pipe.cut |= {"anna", "nas"}
    if hung:
        anna.frozen_until = world.now + 2
    # Nothing gets through, so that nothing is decided, but for what the one that leads asks.
    (standby,) = [each for each in pipes if each is not pipe]
    standby.cut.add("nas")
    while nas.state.pairs["anna"].doubt is None:
        world.run(0.01)
    before = anna.state.pairs["nas"].sequence, nas.state.pairs["anna"].sequence
    world.run(0.4)
    after = anna.state.pairs["nas"].sequence, nas.state.pairs["anna"].sequence
    # Each round asks on both links.
    return (after[0] - before[0]) // 2, (after[1] - before[1]) // 2


def test_of_two_in_doubt_the_one_that_leads_finds_out() -> None:
    for seed in range(8):
        leads, other = rounds_in_doubt(seed, hung=False)
        assert 16 <= leads <= 21
        assert 3 <= other <= 6


def test_where_the_one_that_leads_says_nothing_the_other_finds_out() -> None:
    for seed in range(8):
        leads, other = rounds_in_doubt(seed, hung=True)
        assert leads == 0
        assert 16 <= other <= 21


def test_a_step_takes_well_under_a_millisecond() -> None:
    world = fleet()
    Ping(world, "mia", "peer05")
    world.run(3)
    steps, began = sum(n.steps for n in world.nodes.values()), time.process_time()
    world.run(10)
    taken = sum(n.steps for n in world.nodes.values()) - steps
    assert (time.process_time() - began) / taken < A_STEP
