"""What the agent wants of the process that keeps streams, written to a file for it.

It writes when that changes, and waits for nothing. An agent that begins anew goes on with what the
one before wanted, until it knows better: no stream ends with it.
"""

from __future__ import annotations

import contextlib
import math
from typing import TYPE_CHECKING

from clan.machine.layout import write
from clan.mesh.agent import marks
from clan.mesh.errors import MeshError
from clan.mesh.exchange import Called
from clan.mesh.link import Kind
from clan.mesh.tls import need, wants
from clan.mesh.tls.frames import Port
from clan.mesh.tls.told import Told
from clan.mesh.tls.wants import Wants

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clan.mesh.agent.here import Here
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.setting import Setting
    from clan.mesh.desire import Wish
    from clan.mesh.pair import Pair
    from clan.mesh.tls.wants import Relay

EVERY = 0.25
"""Seconds between two looks at what is needed."""
BLOCKED_AFTER = 3.0
"""Seconds without anybody outside after which UDP counts as blocked."""
ALONE_AFTER = 1.0
"""Seconds that a pair looks for other links first."""
LINGER = 60.0
"""Seconds that streams stay after the need for them: it may come back."""
WAKE_FIRST, WAKE_LAST = 1.0, 300.0
"""Seconds until relays are looked for by a new stream; doubled while nothing comes of it."""


class Streams:
    """This machine's; nothing at all where no machine of the clan takes streams."""

    def __init__(
        self, setting: Setting, known: Knowledge, here: Here, say: Callable[[str], None]
    ) -> None:
        self._told = setting.tls or Told()
        self._has_any = setting.tls is not None
        self._path = setting.state / wants.FILE
        self._known, self._here, self._say = known, here, say
        self._written = b""
        self._wish: Wish | None = None
        self._looked = -math.inf
        self._again = math.inf
        self._blocked: float | None = None
        self._alone: dict[str, float] = {}
        self._until = -math.inf
        self._needed: dict[str, float] = {}
        """Until when streams are for a peer, by its name."""
        self._begun = False
        self._wake_at, self._pause = math.inf, WAKE_FIRST

    def due(self) -> float:
        """Return when to look again though nothing happens."""
        return min(self._again, self._wake_at)

    def turn(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> list[Called]:
        """Look what is needed, and write it down; return relays to be looked for at once."""
        if not self._has_any:
            return []
        if wish is self._wish and now < self._looked + EVERY:
            self._again = min(self._again, self._looked + EVERY)
            return []
        self._wish, self._looked, self._again = wish, now, math.inf
        if not self._begun:
            self._begin(pairs, now)
        there = need.relays(
            self._known.content.machines, self._known.records, self._known.key.public
        )
        self._look(wish, pairs, now)
        found = self._streams(there, wish, pairs, now)
        self._write(found, wish)
        return self._wake(found, there, pairs, now)

    def _begin(self, pairs: Mapping[str, Pair], now: float) -> None:
        """Go on with what an earlier agent wanted."""
        self._begun = True
        with contextlib.suppress(FileNotFoundError, MeshError):
            self._written = self._path.read_bytes()
            if wants.read(self._written.strip(), str(self._path)).relays:
                self._until = now + LINGER
                self._needed = dict.fromkeys(pairs, now + LINGER)

    def _look(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> None:
        """Note since when streams have been needed, and until when they are to stay."""
        if not need.blocked(pairs, wish.kept, now):
            self._blocked = None
        elif self._blocked is None:
            self._blocked = now
        if self._blocked is not None and self._is_due(self._blocked + BLOCKED_AFTER, now):
            self._until = now + LINGER
        # Who takes streams is called by those that need one to talk to it.
        alone = [] if self._told.served else [n for n, pair in pairs.items() if need.alone(pair)]
        self._alone = {name: self._alone.get(name, now) for name in alone}
        for name, since in self._alone.items():
            if self._is_due(since + ALONE_AFTER, now):
                self._needed[name] = now + LINGER
        self._needed = {
            name: until for name, until in self._needed.items() if not self._is_due(until, now)
        }

    def _is_due(self, at: float, now: float) -> bool:
        """Whether it is time; if it is not, look again then."""
        if now < at:
            self._again = min(self._again, at)
        return now >= at

    def _streams(
        self, there: Mapping[str, Relay], wish: Wish, pairs: Mapping[str, Pair], now: float
    ) -> need.Streams:
        if not self._needed and self._is_due(self._until, now):
            return need.Streams()
        slots = [own.id for own in self._here.slots if own.slot.kind is Kind.TLS]
        held = need.held(pairs, there)
        return need.streams(there, slots, kept=wish.kept, held=held, peers=self._needed)

    def _write(self, found: need.Streams, wish: Wish) -> None:
        listen = self._told.listen
        wanted = Wants(
            slots=tuple(
                wants.Slot(
                    id=own.id,
                    port=own.port,
                    mark=marks.mark(own.number),
                    peers=tuple(
                        Port(wish.peers[link.peer].identity, link.their)
                        for link in sorted(wish.remotes)
                        if link.own == own.id
                    ),
                )
                for own in self._here.slots
                if own.slot.kind is Kind.TLS and (listen or own.id in found.slots)
            ),
            relays=found.relays,
            proxy=self._told.proxy,
            listen=listen,
        )
        data = wants.written(wanted)
        if data != self._written:
            try:
                write(self._path, data, 0o600)
            except OSError as fault:
                self._say(f"{self._path}: {fault}; trying again")
                self._again = self._looked + LINGER
            else:
                self._written = data

    def _wake(
        self,
        found: need.Streams,
        there: Mapping[str, Relay],
        pairs: Mapping[str, Pair],
        now: float,
    ) -> list[Called]:
        """Say which relays to look for: a pair without traffic looks once a minute by itself."""
        if not found.relays or need.held(pairs, there) is not None:
            self._wake_at, self._pause = math.inf, WAKE_FIRST
            return []
        if math.isinf(self._wake_at):
            self._wake_at = now + self._pause
        if now < self._wake_at:
            return []
        self._pause = min(2 * self._pause, WAKE_LAST)
        self._wake_at = now + self._pause
        called = [name for name, relay in there.items() if relay in found.relays and name in pairs]
        return [Called(peer=name, at=now) for name in called]
