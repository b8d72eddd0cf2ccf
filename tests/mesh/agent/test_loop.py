"""An agent decides by all that has come: what arrived while it acted is no silence."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

from tests.mesh.world import two_ways

from clan.mesh.agent.loop import Agent
from clan.mesh.exchange import Send, Traffic

if TYPE_CHECKING:
    import pytest

    from clan.mesh.exchange import Action, Event


class Slow:
    """Where an agent has its time from, and what it hears: all that it does takes a while."""

    def __init__(self) -> None:
        self.now = 0.0
        self.observed: list[Event] = []
        self.heard = 0

    def monotonic(self) -> float:
        return self.now

    def turn(self, *_: object) -> bool:
        self.heard += 1
        return False


def test_before_each_step_what_has_come_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    _, anna, _, _ = two_ways(1)
    slow, steps = Slow(), list[tuple[float, int]]()
    agent = cast("Any", Agent.__new__(Agent))
    monkeypatch.setattr("clan.mesh.agent.loop.time", slow)
    agent._upkeep = SimpleNamespace(wish=SimpleNamespace(desired=anna.desired))
    agent._hearing, agent._is_moved, agent._state = slow, False, anna.state
    agent._observed = [Traffic(peer="nas", at=0.0)]
    agent.diary = SimpleNamespace(note=lambda *said: steps.append((said[3], slow.heard)))

    def act(action: Action) -> None:
        slow.now += 0.05
        if isinstance(action, Send) and len(steps) == 1:
            agent._observed.append(Traffic(peer="nas", at=slow.now))

    agent._carry_out = act
    agent._decide(is_due=True)
    # A step for what came, one for what that brought about: both after all that had arrived. What
    # is due by then is not among what it goes on with: that is silence, which has to be heard.
    assert [heard for _, heard in steps] == [1, 2]
    assert agent._state.wake <= slow.now
    agent._decide()
    assert len(steps) == 2
    agent._decide(is_due=True)
    assert [heard for _, heard in steps] == [1, 2, 3]
