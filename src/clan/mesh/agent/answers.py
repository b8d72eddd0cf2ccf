"""What is answered on the status socket; the questions and shapes are in docs/reference/mesh.md."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Protocol

from clan.machine.system import StepError
from clan.mesh.agent import report
from clan.mesh.chart.canonical import base64_of
from clan.mesh.exchange import Traffic

if TYPE_CHECKING:
    from clan.mesh.agent.diary import Diary
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.relayed import Relayed
    from clan.mesh.agent.report import Scene

USUAL = 200
"""Decisions that are told to who does not say how many."""


class Asked(Protocol):
    """What is asked: the agent."""

    known: Knowledge
    diary: Diary
    relayed: Relayed

    def scene(self) -> Scene:
        """Return all that there is to see now. Raises OSError."""

    def want(self, event: Traffic) -> None:
        """Have a peer looked for at once, as its traffic would."""


def answer(agent: Asked, question: dict[str, Any]) -> dict[str, Any]:
    """Return the answer to a question: `error` in words where there is none."""
    try:
        return _answer(agent, question)
    except (OSError, StepError) as fault:
        return {"error": str(fault)}


def _answer(agent: Asked, question: dict[str, Any]) -> dict[str, Any]:
    asked, name = question.get("ask"), question.get("peer")
    match asked:
        case "status":
            return report.report(agent.scene())
        case "path" | "ping":
            scene = agent.scene()
            if not isinstance(name, str) or name not in scene.wish.peers:
                return {"error": f"no machine {name!r} may be talked to from here, by the map"}
            if asked == "ping":
                agent.want(Traffic(peer=name, at=time.monotonic()))
            return report.peer(name, scene)
        case "log":
            return _log(agent, name, question.get("last", USUAL))
        case "journal":
            return {"files": [str(each) for each in agent.diary.journals]}
        case "record":
            mine = agent.known.own_record
            return {"record": base64_of(mine.raw) if mine else None}
        case "outside":
            return {"tries": agent.relayed.hurry()}
        case "reload":
            agent.known.reload()  # the agent's turn does what follows
            return {}
    return {"error": f"this agent does not know {asked!r}"}


def _log(agent: Asked, peer: object, last: object) -> dict[str, Any]:
    if type(last) is not int or not (peer is None or isinstance(peer, str)):
        return {"error": "`last` is a number, and `peer` a name"}
    return {"decisions": agent.diary.decisions(peer, last)}
