"""The machine's other services, which a generation may have stopped, or given a bad configuration.

Which ran, and since when, is noted before a switch. Going back starts again what does not run as it
did: a service that was restarted meanwhile has read the configuration that is now undone.
"""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LOGIN = frozenset({"ssh.service", "sshd.service", "ssh.socket", "sshd.socket"})
"""Started again whenever a generation is undone: a reload leaves no trace. Sessions outlive it."""
NETWORK = frozenset({"systemd-networkd.service", "NetworkManager.service"})
"""Started again where nobody came to confirm, as it may be their doing: they keep addresses."""
PASSING = re.compile(r"(user|user-runtime-dir|ssh|sshd|[a-z]*-?getty)@|run-|session-|clan-")
"""Services that come and go with those who use them, and our own."""


RUNS = Path("/run/systemd/units")
"""Where systemd (since 236) tells the journal of each run of a service: links `invocation:NAME`."""


def running(but: Iterable[str] = ()) -> dict[str, str]:
    """Return service or socket -> what names this run of it (systemd.exec(5), INVOCATION_ID).

    A socket has no such name: of it only is known that it is there. Asking systemd for all of it
    takes four times as long as this list.
    """
    leave_out = set(but)
    words = ["systemctl", "list-units", "--plain", "--no-legend", "--state=active"]
    found = {}
    for line in run([*words, "--type=service,socket"]).splitlines():
        name, _, _, sub, *_ = line.split()
        if sub != "exited" and not PASSING.match(name) and name not in leave_out:
            found[name] = _run_of(name)
    return found


def _run_of(name: str) -> str:
    try:
        return str((RUNS / f"invocation:{name}").readlink())
    except OSError:
        return ""


def restore(before: Mapping[str, str], *, unheard: bool) -> None:
    """Start again what does not run as it did. Raises StepError when something does not start.

    `unheard` means that nobody could log in, or came to.
    """
    now = running()
    wanted = LOGIN | NETWORK if unheard else LOGIN
    names = [name for name, run_of in before.items() if name in wanted or now.get(name) != run_of]
    if names:
        with contextlib.suppress(StepError):
            run(["systemctl", "reset-failed", *names])
        run(["systemctl", "restart", *names])
