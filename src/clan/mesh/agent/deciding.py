"""What an agent has `step` decide: by all that has come, and on from there by what follows."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clan.mesh.exchange import ReadCounters, Send
from clan.mesh.step import State, step

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from clan.mesh.exchange import Action, Desired, Event
    from clan.mesh.pair import Pair

ROUNDS = 4
"""Steps in a row that may follow from each other, before other things are looked at."""


class Deciding:
    """A machine's state, and what was observed since it was decided last.

    `desired` returns what is wanted now. `hear` adds to `observed` what has arrived by links, and
    says whether there was more than what tells of them. `carry_out` does an action; `note` is told
    of each step. `is_moved` says that something came, or was done, that other parts of the agent
    have to do with.
    """

    def __init__(
        self,
        *,
        desired: Callable[[], Desired],
        hear: Callable[[Mapping[str, Pair]], bool],
        carry_out: Callable[[Action], None],
        note: Callable[[State, State, Sequence[Event], float, Sequence[Action]], None],
    ) -> None:
        self._desired = desired
        self._hear = hear
        self._carry_out = carry_out
        self._note = note
        self.state = State()
        self.observed: list[Event] = []
        self.is_moved = False

    def decide(self, *, is_due: bool = False) -> None:
        """Have `step` say what follows from what was observed, and do it.

        Before each, what has arrived is taken in: what a step is not told of counts as silence.
        """
        for _ in range(ROUNDS):
            before, desired = self.state, self._desired()
            if not is_due and not self.observed and desired is before.desired:
                return
            is_due = False
            self.is_moved |= self._hear(before.pairs)
            now = time.monotonic()
            if not self.observed and desired is before.desired and now < before.wake:
                return
            observed = sorted(self.observed, key=lambda event: event.at)
            self.observed.clear()
            self.state, actions = step(before, desired, observed, now)
            self._note(before, self.state, observed, now, actions)
            for action in actions:
                self.is_moved |= not isinstance(action, Send | ReadCounters)
                self._carry_out(action)
