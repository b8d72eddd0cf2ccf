"""What is written down of the agent: a journal to replay, and what was decided, for people.

    RUN/mesh-INSTANCE.journal   all that was observed and decided, as `mesh/journal.py` writes it;
                                in memory, as it grows with every probe; some steps at a time
    STATE/log                   each decision with the time of day, one JSON line each; on the disk

Either is begun anew at its bound, and the one before is kept beside it with `.before`. What cannot
be written is not worth stopping for.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from typing import TYPE_CHECKING, Any

from clan.mesh import journal
from clan.mesh.exchange import Decision

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from clan.mesh.agent.setting import Setting
    from clan.mesh.exchange import Action, Event
    from clan.mesh.step import State

LONGEST_JOURNAL = 2 << 20
LONGEST_LOG = 1 << 20
MOST = 2000
"""Decisions that are told at once."""
MOST_NOTED = 64
"""Steps that are kept until somebody has time to write them."""


_Step = tuple["State", "State", "Sequence[Event]", float, "Sequence[Action]"]
"""The state before and after, what was observed, when, and what was to be done."""


class Diary:
    """An instance's."""

    def __init__(self, setting: Setting) -> None:
        self._journal = _Pages(setting.journal, LONGEST_JOURNAL)
        self._log = _Pages(setting.state / "log", LONGEST_LOG)
        self._begun = False
        self._noted: list[_Step] = []
        self.why: dict[str, str] = {}
        """Why each peer's path is what it is."""

    def close(self) -> None:
        """Write no more."""
        self.write()
        self._journal.close()
        self._log.close()

    @property
    def journals(self) -> list[Path]:
        """The files that hold the journal now, the older first."""
        self.write()
        return [each for each in self._journal.files if each.exists()]

    def note(
        self,
        before: State,
        after: State,
        observed: Sequence[Event],
        now: float,
        actions: Sequence[Action],
    ) -> None:
        """Note a step, for `write`; what was decided is written down at once."""
        self._noted.append((before, after, observed, now, actions))
        if len(self._noted) >= MOST_NOTED:
            self.write()
        decisions = [each for each in actions if isinstance(each, Decision)]
        if not decisions:
            return
        for each in decisions:
            if each.what.startswith("path "):
                self.why[each.peer] = each.why
        if self._log.is_full:
            self._log.turn()
        at = time.time()
        self._log.write(
            json.dumps({"at": round(at, 3), "peer": each.peer, "what": each.what, "why": each.why})
            for each in decisions
        )

    def write(self) -> None:
        """Write down the steps that were noted: together, as that costs a part of one by one."""
        if not self._noted:
            return
        lines: list[str] = []
        if not self._begun or self._journal.is_full:
            first = self._noted[0][0]
            self._journal.turn()
            self._begun, lines = True, [journal.start(first, first.desired)]
        for before, after, observed, now, actions in self._noted:
            lines += journal.record(before.desired, after.desired, observed, now, actions)
        self._noted.clear()
        self._journal.write(lines)

    def decisions(self, peer: str | None, last: int) -> list[dict[str, Any]]:
        """Return the last decisions, of one peer or all, the oldest first."""
        found: deque[dict[str, Any]] = deque(maxlen=max(1, min(last, MOST)))
        for line in self._log.lines():
            with contextlib.suppress(ValueError, TypeError, KeyError):
                entry = json.loads(line)
                if peer is None or entry["peer"] == peer:
                    found.append(entry)
        return list(found)


class _Pages:
    """A file that lines are added to, and the one before it."""

    def __init__(self, path: Path, longest: int) -> None:
        self._path = path
        self._longest = longest
        self._descriptor: int | None = None
        self._size = 0

    @property
    def files(self) -> tuple[Path, Path]:
        return self._path.with_name(f"{self._path.name}.before"), self._path

    @property
    def is_full(self) -> bool:
        return self._size >= self._longest

    def close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def turn(self) -> None:
        """Begin a new page."""
        self.close()
        with contextlib.suppress(OSError):
            self._path.replace(self.files[0])

    def write(self, lines: Iterator[str] | Sequence[str]) -> None:
        data = "".join(f"{line}\n" for line in lines).encode()
        with contextlib.suppress(OSError):
            if self._descriptor is None:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND
                self._descriptor = os.open(self._path, flags, 0o600)
                self._size = os.fstat(self._descriptor).st_size
            self._size += os.write(self._descriptor, data)

    def lines(self) -> Iterator[str]:
        for each in self.files:
            with (
                contextlib.suppress(OSError),
                each.open(encoding="utf-8", errors="replace") as file,
            ):
                yield from file
