"""An agent that says of all members that they are its neighbours, for next to nothing.

What it is to pass on it drops. It is a member: its links work, and its lists are signed.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import __main__
from clan.mesh.hops import forward, guide
from clan.mesh.hops.lists import Neighbour, NeighbourList

if TYPE_CHECKING:
    from clan.mesh.hops.forward import Passage

honest_list, honest_rules = guide.Guide._list, forward.ruleset


def lie(own: guide.Guide, *about: object) -> NeighbourList:
    everyone = about[-1]
    assert isinstance(everyone, guide.Around)
    said = honest_list(own, *about)  # type: ignore[arg-type]
    made_up = (Neighbour(label=label, cost=1) for label in everyone.labels.values())
    return replace(said, neighbours=tuple(sorted(made_up)))


def swallow(passage: Passage | None) -> str:
    return honest_rules(passage).replace("fwd to ", 'counter drop comment "not to "')


guide.Guide._list = lie  # type: ignore[assignment,method-assign]
forward.ruleset = swallow
__main__.main()
