"""Where this machine is: the networks that it is attached to, and the slots that they give.

It looks at what the kernel has, says what has become of uplinks, and keeps what each slot was given
on the disk. Interfaces are made elsewhere, from these slots.
"""

from __future__ import annotations

import math
import time
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.mesh import slots
from clan.mesh.agent import uplinks
from clan.mesh.agent.interfaces import PortTakenError
from clan.mesh.agent.overlays import Overlays
from clan.mesh.errors import MeshError
from clan.mesh.exchange import UplinkChanged

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from pathlib import Path

    from clan.mesh.agent.interfaces import Interfaces
    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.link import Slot
    from clan.mesh.slots import Own

LINGER = 60.0
"""Seconds for which a slot stays whose uplink lost an address or a route: another may be on its
way, and the interface need not be made anew for it."""
TRIES = 4
"""Ports in a row that somebody else may have."""


class Here:
    """This machine's; `file` is where its slots are remembered.

    `streams` says whether somebody in the clan takes streams.
    """

    def __init__(
        self, kernel: Kernel, file: Path, say: Callable[[str], None], *, streams: bool = False
    ) -> None:
        self._kernel = kernel
        self._streams = streams
        self._file = file
        self._say = say
        self._metered: frozenset[str] = frozenset()
        self._remembered = self._read()
        self._overlays = Overlays(kernel)
        self._wanted: dict[Slot, float] = {}
        self.relayed = False
        """Whether there are slots for relays."""
        self.attachments: tuple[Attachment, ...] = ()
        self.slots: tuple[Own, ...] = ()
        """Those in use, by their ids."""
        self.outdated = False
        """Whether `slots` are not those to be in use, and `settle` is needed."""
        self.moved: frozenset[str] = frozenset()
        """Uplinks that the last look found in another network than the one before."""

    def look(self, now: float) -> list[UplinkChanged]:
        """Look at the kernel's interfaces, and say what became of uplinks. Raises OSError."""
        before = {each.name: each for each in self.attachments}
        interfaces = self._kernel.interfaces().values()
        ours = {each.name for each in interfaces if each.name.startswith(slots.NAMES)}
        there = uplinks.attachments(
            interfaces, self._kernel.addresses(), self._kernel.routes(), self._metered, ours
        )
        self.attachments = tuple(self._overlays.look(there))
        changed, moved = [], set()
        for each in self.attachments:
            old = before.get(each.name)
            up, was_up = _is_up(each), old is not None and _is_up(old)
            other = old is not None and _where(old) != _where(each)
            if up != was_up or (up and other):
                changed.append(UplinkChanged(uplink=each.name, up=up, at=now))
            if other and up and old is not None and old.addresses:
                moved.add(each.name)
        self.moved = frozenset(moved | before.keys() - {each.name for each in self.attachments})
        return changed

    def due(self) -> float:
        """Return when a slot stays no longer; it is in use longer, so `settle` finds out."""
        wanted = set(self._slots())
        stay = [at + LINGER for slot, at in self._wanted.items() if slot not in wanted]
        return min(stay, default=math.inf)

    def look_what_costs(self) -> bool:
        """Ask what is metered; say whether that is another answer than the last time."""
        before, self._metered = self._metered, uplinks.metered()
        return before != self._metered

    def settle(self, interfaces: Interfaces, *, relayed: bool = False, hops: bool = False) -> None:
        """Have an interface for each slot that there is now. Raises OSError, StepError.

        `relayed` says whether there are relays, `hops` whether there are members enough for one to
        be in the middle.
        """
        self.relayed = relayed
        self.outdated = False
        now = time.monotonic()
        self._wanted |= dict.fromkeys(self._slots(), now)
        self._wanted = {each: at for each, at in self._wanted.items() if now - at < LINGER}
        there = slots.present(
            self._remembered,
            self.attachments,
            self._wanted.keys(),
            relayed=self.relayed,
            streams=self._streams,
        )
        there += [slots.HOPS] if hops else []
        today = int(time.time())
        self._remember(slots.settle(self._remembered, there, slots.drawn(), today=today))
        for _ in range(TRIES):
            self.slots = slots.in_use(self._remembered, set(there))
            try:
                interfaces.have(self.slots, (*self.attachments, uplinks.HOPS))
            except PortTakenError as fault:
                self._say(f"{fault.own.interface}: {fault}; it gets another one")
                fresh = next(slots.drawn())
                self._remember(slots.moved(self._remembered, fault.own, fresh.port, ()))
            else:
                return

    def renew(self) -> float:
        """Give a slot in use another key, if one has served its time; else return in how long.

        0 if one did: `settle` makes an interface of it. Raises OSError.
        """
        today = int(time.time())
        there = {own.slot for own in self.slots}
        own = slots.outlived(self._remembered, there, today)
        if own is None:
            ages = [today - own.drawn for own in self.slots]
            return max(0.0, slots.KEY_LIFE - max(ages, default=0))
        fresh = next(slots.drawn())
        self._remember(slots.replaced(self._remembered, own, fresh, today=today))
        self.outdated = True
        return 0.0

    def note_told(self, own: Own, told: Collection[bytes]) -> frozenset[bytes]:
        """Note who has heard that a slot has another one than this; return all who ever have.

        Raises OSError.
        """
        before = next((each.told for each in self._remembered if each.id == own.id), own.told)
        after = before | frozenset(told)
        self._remember(
            tuple(
                replace(each, told=after) if each.id == own.id else each
                for each in self._remembered
            )
        )
        return after

    def forget(self, own: Own) -> None:
        """Let go what was leaving. Raises OSError."""
        self._remember(slots.without(self._remembered, own))
        self.outdated = True

    def _slots(self) -> list[Slot]:
        return slots.wanted(self.attachments, relayed=self.relayed, streams=self._streams)

    def _remember(self, settled: tuple[Own, ...]) -> None:
        if settled != self._remembered:
            slots.keep(self._file, settled)
            self._remembered = settled

    def _read(self) -> tuple[Own, ...]:
        try:
            return slots.load(self._file)
        except MeshError as fault:
            self._say(f"{fault}: all interfaces get new keys and ports")
            return ()


def _is_up(each: Attachment) -> bool:
    return each.works and bool(each.addresses)


def _where(each: Attachment) -> object:
    """Return what says that an uplink is still in the same network."""
    return each.index, frozenset(each.addresses), {route.gateway for route in each.defaults}
