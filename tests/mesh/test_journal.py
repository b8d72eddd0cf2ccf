"""A journal tells what was decided and why, and gives the same decisions once more."""

from __future__ import annotations

import json

import pytest
from tests.mesh.world import Node, Ping, two_ways

from clan.mesh import journal
from clan.mesh.exchange import Decision, Desired
from clan.mesh.journal import JournalError
from clan.mesh.step import State, step

STEPS = 300


def eventful() -> Node:
    """Return a machine with half a minute of cuts and returns behind it."""
    world, anna, _, _ = two_ways(1, loss=0.05)
    anna.log = []
    ping = Ping(world, "anna", "nas")
    world.run(4)
    world.pipe(anna.path("nas")).cut |= {"anna", "nas"}
    world.run(4)
    world.uplink("anna", anna.desired.peers["nas"].links[1].slot.uplink, up=False)
    world.run(4)
    ping.on = False
    world.run(60)
    return anna


def written(node: Node, *, first: int = 0) -> list[str]:
    """Return the journal of a machine from its step `first` on."""
    state, before = State(), Desired(name="")
    lines: list[str] = []
    assert node.log is not None
    for number, (desired, observed, now) in enumerate(node.log):
        if number == first:
            lines.append(journal.start(state, before))
        state, actions = step(state, desired, observed, now)
        if number >= first:
            lines += journal.record(before, desired, observed, now, actions)
        before = desired
    assert state == node.state
    return lines


@pytest.mark.parametrize("first", [0, STEPS])
def test_a_journal_gives_the_same_decisions_from_any_step_on(first: int) -> None:
    anna = eventful()
    lines = written(anna, first=first)
    replayed = list(journal.replay(lines))
    assert replayed[-1].state == anna.state
    assert all(step.recorded == step.again for step in replayed)
    decided = [d for step in replayed for d in step.again]
    assert decided == list(journal.decisions(lines))
    assert decided == [d for d in anna.decisions if d in decided]
    assert any("nothing heard" in d.why for d in decided) or first


def test_each_line_is_strict_json_and_each_decision_has_a_reason() -> None:
    def refuse(what: str) -> None:
        raise AssertionError(what)

    for line in written(eventful()):
        entry = json.loads(line, parse_constant=refuse)
        assert entry["kind"] in {"start", "want", "step", "decision"}
        if entry["kind"] == "decision":
            assert entry["why"]


def test_a_program_that_decides_otherwise_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    lines = written(eventful())
    monkeypatch.setattr("clan.mesh.choose.LEAST_SILENCE", 2.0)
    assert any(step.recorded != step.again for step in journal.replay(lines))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("{", "line 2: no JSON"),
        ("[]", "line 2: none of a journal's lines"),
        ('{"kind":"step","now":1.0,"observed":[{"":"Popen"}]}', "Popen is none of the mesh's"),
        ('{"kind":"step","now":1.0,"observed":[{"":"Traffic"}]}', "observed cannot be read"),
        ('{"kind":"step","now":1.0}', "observed cannot be read"),
        ('{"kind":"decision","at":1.0}', "a decision without 'peer'"),
    ],
)
def test_a_line_of_something_else_is_named(line: str, said: str) -> None:
    start = journal.start(State(), Desired(name="anna"))
    with pytest.raises(JournalError, match=said):
        list(journal.replay([start, line]))


def test_a_step_before_the_start_is_named() -> None:
    with pytest.raises(JournalError, match="line 1: a step before"):
        list(journal.replay(['{"kind":"step","now":1.0,"observed":[]}']))


def test_what_was_decided_reads_as_a_story() -> None:
    why = [f"{d.what}: {d.why}" for d in eventful().decisions]
    assert why[0] == "path nas/0000a001-0000b001: the likeliest, before anything is measured"
    assert any(w.startswith("path nas/0000a002-0000b002: nothing heard for") for w in why)
    assert all(isinstance(d, Decision) for d in eventful().decisions)
