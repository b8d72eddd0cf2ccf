"""What this machine knows of its clan: its own key, the maps it holds, and everyone's interfaces.

All of it is verified before it is taken in, wherever it came from. Maps and this machine's own
record are on the disk at once, others' records soon: what is lost of those is heard again.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import identity
from clan.mesh.chart import links
from clan.mesh.chart.accept import Held, Outcome
from clan.mesh.chart.links import LinkRecord
from clan.mesh.chart.store import Store
from clan.mesh.clock import Notes
from clan.mesh.records import Records

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.mesh.agent.setting import Setting
    from clan.mesh.chart.accept import Verdict
    from clan.mesh.chart.content import Content, Machine
    from clan.mesh.chart.forks import View
    from clan.mesh.chart.links import PublishedInterface, Reached, Served

KEEP_WITHIN, KEEP_AGAIN = 0.5, 60.0
"""Seconds until others' records are on the disk, without which the next process would take no link
up, and until that is tried again."""


class Knowledge:
    """An instance's. Raises OSError, MeshError where it cannot be read."""

    def __init__(self, setting: Setting) -> None:
        self.key = identity.read(setting.identity)
        self.prefix = setting.prefix
        setting.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store = Store(setting.state, setting.root)
        self._records = Records(setting.state / "records")
        self.version = 0
        """Rises with everything new, to be told to others."""
        self.maps = 0
        """Rises with every change of the map."""
        self._keep_at = math.inf
        self._clock = Notes(setting.state)
        self.held: Held = Held.of()
        self.view: View = self.held.view
        self.reload()

    @property
    def content(self) -> Content:
        """What the map says; what holds, in a fork."""
        return self.view.content

    @property
    def records(self) -> Mapping[bytes, LinkRecord]:
        """The latest of each member, by identity."""
        return self._records.held

    @property
    def own_record(self) -> LinkRecord | None:
        """What this machine told last of its interfaces."""
        return self.records.get(self.key.public)

    def machine(self, identity: bytes) -> Machine | None:
        """Return a member by its identity."""
        return next((each for each in self.content.machines if each.identity == identity), None)

    def named(self, name: str) -> Machine | None:
        """Return a member by its name."""
        return next((each for each in self.content.machines if each.name == name), None)

    def reload(self) -> None:
        """Look at the disk anew: somebody may have given this machine another map.

        Raises OSError, MeshError.
        """
        self._hold(self._store.held())

    def offer(self, chart: bytes) -> Verdict:
        """Take in a map if it is to be had. Raises OSError, MeshError."""
        verdict = self._store.offer(chart)
        if verdict.outcome in {Outcome.NEWER, Outcome.FORK}:
            self._hold(verdict.held)
        return verdict

    def take(self, identity: bytes, record: bytes) -> bool:
        """Take in a member's record of interfaces; say whether it was newer. Raises MeshError.

        This machine's own is its own doing, and no other's to bring back.
        """
        if identity == self.key.public or identity not in self.content.identities:
            return False
        newer = self._records.take(identity, record)
        if newer:
            self.version += 1
            self._keep_at = min(self._keep_at, time.monotonic() + KEEP_WITHIN)
        return newer

    def due(self) -> float:
        """Return when `keep_soon` has something to do."""
        return min(self._keep_at, self._clock.due())

    def keep_soon(self, now: float) -> None:
        """Write down what was taken in some seconds ago, and now and then what time it is.

        On a full disk, try again later.
        """
        self._clock.turn(now)
        if now >= self._keep_at:
            try:
                self._keep()
            except OSError:
                self._keep_at = now + KEEP_AGAIN

    @property
    def has_relays(self) -> bool:
        """Whether another member offers itself as a relay."""
        others = self.content.identities - {self.key.public}
        return any(each.reached for key, each in self.records.items() if key in others)

    def publish(
        self,
        interfaces: Iterable[PublishedInterface],
        relays: Iterable[str],
        reached: Iterable[Reached] = (),
        served: Served | None = None,
        certificate: bytes = b"",
    ) -> bool:
        """Sign what others are to know of this machine; say whether it is new. Raises OSError."""
        mine = self.own_record
        told = LinkRecord(
            identity=self.key.public,
            # Above what was told before this disk was lost, if the clock goes right.
            serial=max((mine.serial if mine else 0) + 1, int(time.time())),
            interfaces=tuple(interfaces),
            relays=tuple(relays),
            reached=tuple(sorted(reached)),
            served=served,
            certificate=certificate,
        )
        if mine is not None and replace(told, serial=mine.serial) == mine:
            return False
        self._records.take(self.key.public, links.publish(told, self.key).raw)
        self.version += 1
        self._keep()
        return True

    def _hold(self, held: Held) -> None:
        if [each.hash for each in held.heads] != [each.hash for each in self.held.heads]:
            self.maps += 1
            self.version += 1
        self.held, self.view = held, held.view
        self._records.take_all(held.view.content.machines)
        self._keep()

    def _keep(self) -> None:
        self._keep_at = math.inf
        self._records.keep(self.content.identities | {self.key.public})
