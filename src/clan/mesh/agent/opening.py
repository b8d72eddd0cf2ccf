"""Others' firewalls are asked to let the mesh in by a thread, and nobody waits.

ufw and firewalld take half a second for each word, and ufw wants one for each port of each link.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from typing import TYPE_CHECKING

from clan.machine.system import StepError
from clan.mesh.agent.firewall import let_in

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Ports = list[tuple[str, int, str]]

TRY_AGAIN = 5.0
"""Seconds until a firewall that refused is asked again."""


class Opening:
    """This machine's; `record` is where what was opened is written down."""

    def __init__(self, record: Path, say: Callable[[str], None]) -> None:
        self._record = record
        self._say = say
        self._wanted: queue.SimpleQueue[Ports] = queue.SimpleQueue()
        self._is_begun = False

    def want(self, ports: Ports) -> None:
        """Have these ports let in, and no more of ours, as soon as can be."""
        self._wanted.put(ports)
        if not self._is_begun:
            self._is_begun = True
            threading.Thread(target=self._work, daemon=True).start()

    def _work(self) -> None:
        said = ""
        ports = self._wanted.get()
        while True:
            while not self._wanted.empty():
                ports = self._wanted.get()
            try:
                let_in(ports, record=self._record)
            except (OSError, StepError) as fault:
                if str(fault) != said:
                    self._say(f"{fault}; trying again")
                said = str(fault)
                with contextlib.suppress(queue.Empty):
                    ports = self._wanted.get(timeout=TRY_AGAIN)
            else:
                said = ""
                ports = self._wanted.get()
