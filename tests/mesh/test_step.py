"""Whatever happens, a step keeps its promises: one path a peer, no storm, no surprise twice."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from clan.mesh import ask
from clan.mesh.exchange import (
    Action,
    Called,
    Counters,
    Desired,
    Event,
    Peer,
    Received,
    Resumed,
    Send,
    SetRoute,
    Traffic,
    UplinkChanged,
)
from clan.mesh.link import Endpoint, Kind, Link, LinkId, Slot, Uplink
from clan.mesh.step import State, step
from clan.mesh.wire import About, Answer, Choice, Message, Probe, Reason, Summary, Switch, encode

UPLINKS = ["eth0", "wlan0", "wwan0"]
LINKS = [
    Link(
        id=LinkId(peer=peer, own=f"0000000{own}", their=f"0000000{their}"),
        slot=Slot(uplink=UPLINKS[own], family=6, kind=kind),
        endpoints=(Endpoint(host="2001:db8::1", port=7),),
        lifetime=30.0,
    )
    for peer in ("bert", "zoe")
    for own, their, kind in ((0, 1, Kind.LAN), (1, 1, Kind.INTERNET), (2, 2, Kind.RELAY))
]
IDS = st.sampled_from(["00000000", "00000001", "00000002", "ffffffff"])
CHOICES = st.builds(Choice, number=st.integers(0, 2**32 - 1), own=IDS, their=IDS)
MESSAGES: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Probe,
        sequence=st.integers(0, 50),
        every=st.sampled_from([0.0, 0.1, 25.0, 65.535]),
        busy=st.booleans(),
        choice=CHOICES,
    ),
    st.builds(
        Answer,
        sequence=st.integers(0, 50),
        received=st.just(0),
        sent=st.integers(0, 2**32 - 1),
        choice=CHOICES,
    ),
    st.builds(Switch, choice=CHOICES, reason=st.sampled_from(Reason)),
    st.builds(
        Summary,
        links=st.lists(
            st.builds(About, own=IDS, their=IDS, penalty=st.floats(0, 65), usable=st.booleans()),
            max_size=4,
        ).map(tuple),
    ),
)
PEERS = st.sampled_from(["bert", "zoe", "stranger"])
LINK_IDS = st.sampled_from([link.id for link in LINKS])
WISHES = st.builds(
    lambda kept, links, uplinks, avoid: Desired(
        name="mia",
        peers={
            peer: Peer(links=tuple(x for x in links if x.id.peer == peer), kept=kept)
            for peer in ("bert", "zoe")
        },
        uplinks={name: Uplink(name=name, index=1) for name in uplinks},
        avoid=frozenset(avoid),
    ),
    st.booleans(),
    st.lists(st.sampled_from(LINKS), unique=True),
    st.sets(st.sampled_from(UPLINKS)),
    st.sets(st.sampled_from(UPLINKS)),
)


def events(at: float) -> st.SearchStrategy[Event]:
    now = st.just(at)
    return st.one_of(
        st.builds(
            Received, link=LINK_IDS, message=MESSAGES, at=now, size=st.sampled_from([88, 1280])
        ),
        st.builds(Counters, link=LINK_IDS, received=st.integers(0, 10**6), at=now),
        st.builds(UplinkChanged, uplink=st.sampled_from(UPLINKS), up=st.booleans(), at=now),
        st.builds(Traffic, peer=PEERS, at=now),
        st.builds(Called, peer=PEERS, at=now),
        st.builds(Resumed, at=now),
    )


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_each_peer_has_one_path_and_every_timer_is_ahead(
    data: st.DataObject,
) -> None:
    state, desired, now = State(), data.draw(WISHES), 100.0
    routes: dict[str, LinkId] = {}
    for _ in range(data.draw(st.integers(1, 25))):
        if data.draw(st.booleans()):
            now = max(now, state.wake) if state.wake < 1e9 else now + 1
        else:
            now += data.draw(st.sampled_from([0.0, 0.01, 0.3, 7.0, 1000.0]))
        if data.draw(st.integers(0, 9)) == 0:
            desired = data.draw(WISHES)
        observed = data.draw(st.lists(events(now), max_size=3))
        before = state
        state, actions = step(before, desired, observed, now)
        assert step(before, desired, observed, now) == (state, actions)
        assert state.wake > now
        check(state, desired, actions, routes)


def check(
    state: State, desired: Desired, actions: tuple[Action, ...], routes: dict[str, LinkId]
) -> None:
    known = {link.id for peer in desired.peers.values() for link in peer.links}
    for action in actions:
        if isinstance(action, SetRoute):
            routes[action.peer] = action.link
        if isinstance(action, Send):
            assert action.link in known
            assert len(encode(action.message)) <= 1232
    for name, peer in desired.peers.items():
        path = state.pairs[name].path
        assert (path is not None) == bool(peer.links)
        if path is not None:
            assert path in known
            assert routes[name] == path
    # Three events at most for each of two pairs: answers, a round, announcements.
    assert sum(isinstance(action, Send) for action in actions) <= 2 * 3 * (ask.MOST_ASKED + 6)


def test_what_concerns_nobody_changes_nothing() -> None:
    desired = Desired(name="mia", peers={"bert": Peer(links=tuple(LINKS[:3]))})
    state, _ = step(State(), desired, (), 1.0)
    after, actions = step(state, desired, (Traffic(peer="stranger", at=2.0),), 2.0)
    assert (after, actions) == (state, ())


def test_a_machine_that_nobody_talks_to_never_wakes() -> None:
    desired = Desired(
        name="mia",
        peers={"bert": Peer(links=tuple(LINKS[:3])), "zoe": Peer(links=tuple(LINKS[3:]))},
        uplinks={name: Uplink(name=name, index=1) for name in UPLINKS},
    )
    state, actions = step(State(), desired, (), 1.0)
    assert state.wake == float("inf")
    assert [type(a).__name__ for a in actions] == ["SetRoute", "Decision"] * 2


def test_a_link_that_the_map_drops_is_left_and_one_it_adds_is_used() -> None:
    uplinks = {name: Uplink(name=name, index=1) for name in UPLINKS}
    first = Desired(name="mia", peers={"bert": Peer(links=(LINKS[0],))}, uplinks=uplinks)
    state, _ = step(State(), first, (), 1.0)
    second = Desired(name="mia", peers={"bert": Peer(links=(LINKS[2],))}, uplinks=uplinks)
    state, actions = step(state, second, (), 2.0)
    assert [a.link for a in actions if isinstance(a, SetRoute)] == [LINKS[2].id]
    state, _ = step(state, Desired(name="mia", uplinks=uplinks), (), 3.0)
    assert state.pairs == {}
