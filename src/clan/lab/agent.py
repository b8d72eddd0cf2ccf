"""The lab's SSH key, which is root's on every machine, and the agent that holds it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clan.errors import LabError
from clan.lab.processes import start

if TYPE_CHECKING:
    from clan.lab.processes import Runner
    from clan.lab.state import State

_PATIENCE = 10.0
_POLL = 0.01


def begin(state: State) -> None:
    """Start the lab's ssh-agent; its socket is there a little later."""
    argv = ["ssh-agent", "-D", "-a", str(state.agent)]
    log = state.daemons / "agent.log"
    start(argv, state.group.child("daemons"), folder=state.daemons, log=log)


def add_key(state: State, run: Runner) -> str:
    """Make the lab's key, give it to the agent and return the public one.

    Raises LabError when the agent does not come up within 10 s.
    """
    key = state.folder / "id_ed25519"
    comment = f"lab {state.name}"
    run.step(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", str(key)])
    deadline = time.monotonic() + _PATIENCE
    while not state.agent.exists():
        if time.monotonic() > deadline:
            raise LabError("ssh-agent did not start", where=str(state.daemons / "agent.log"))
        time.sleep(_POLL)
    run.step(["ssh-add", "-q", str(key)], env={"SSH_AUTH_SOCK": str(state.agent)})
    return key.with_suffix(".pub").read_text().strip()
