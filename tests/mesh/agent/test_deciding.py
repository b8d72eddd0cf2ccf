"""An agent decides by all that has come: what arrived while it acted is no silence."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.mesh.world import two_ways

from clan.mesh.agent.deciding import Deciding
from clan.mesh.exchange import Send, Traffic

if TYPE_CHECKING:
    from collections.abc import Mapping

    import pytest

    from clan.mesh.exchange import Action
    from clan.mesh.pair import Pair


class Slow:
    """Who hears and acts for an agent, and has its time: each act takes a while."""

    def __init__(self) -> None:
        self.now = 0.0
        self.heard = 0
        self.steps: list[int] = []
        self.deciding: Deciding

    def monotonic(self) -> float:
        return self.now

    def hear(self, _: Mapping[str, Pair]) -> bool:
        self.heard += 1
        return False

    def note(self, *_: object) -> None:
        self.steps.append(self.heard)

    def act(self, action: Action) -> None:
        self.now += 0.05
        if isinstance(action, Send) and len(self.steps) == 1:
            self.deciding.observed.append(Traffic(peer="nas", at=self.now))


def test_before_each_step_what_has_come_is_taken_in(monkeypatch: pytest.MonkeyPatch) -> None:
    _, anna, _, _ = two_ways(1)
    slow = Slow()
    monkeypatch.setattr("clan.mesh.agent.deciding.time", slow)
    deciding = slow.deciding = Deciding(
        desired=lambda: anna.desired, hear=slow.hear, carry_out=slow.act, note=slow.note
    )
    deciding.state = anna.state
    deciding.observed.append(Traffic(peer="nas", at=0.0))
    deciding.decide(is_due=True)
    # A step for what came, one for what that brought about: both after all that had arrived. What
    # is due by then is not among what it goes on with: that is silence, which has to be heard.
    assert slow.steps == [1, 2]
    assert deciding.state.wake <= slow.now
    deciding.decide()
    assert len(slow.steps) == 2
    deciding.decide(is_due=True)
    assert slow.steps == [1, 2, 3]
