"""Sessions that have run out are forgotten, with all that WireGuard remembers of who had them.

WireGuard takes no handshake that is older than the last one. So a machine whose clock was ahead,
and was set right, would be refused by all that heard it meanwhile; none of them would notice, as
WireGuard says nothing of what it refuses. A peer that is made anew, once its session is good for
nothing any more, is taken with any time.

That an old handshake can be played again then gives nothing away: who plays it has no session by
it, and where a peer is looked for is set again when it is.
"""

from __future__ import annotations

import contextlib
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.agent.wireguard import Change

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.agent.wireguard import Peer, Wireguard

OVER = 185.0
"""Seconds after a handshake from which its session is good for nothing; WireGuard's own is 180."""
LOOK_EVERY = 15.0
"""Seconds, at least, between two looks."""


@dataclass(frozen=True, slots=True)
class _Session:
    handshake: float
    """By the clock of the day, which may jump: only whether it is the same one is asked."""
    since: float


class Sessions:
    """Those of this machine's interfaces."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, bytes], _Session] = {}
        self._at = -math.inf

    def due(self) -> float:
        """Return when there is something to look at; never while there is no session."""
        return self._at

    def heard(self, now: float) -> None:
        """Note that there is a session: something came by one."""
        self._at = min(self._at, now + OVER)

    def turn(self, interfaces: Iterable[Wireguard], now: float) -> None:
        """Forget those that have run out, if it is time to look."""
        if now < self._at:
            return
        before, self._known = self._known, {}
        for each in interfaces:
            with contextlib.suppress(OSError):  # it is going, or its daemon
                self._look(each, before, now)
        ends = [each.since + OVER for each in self._known.values()]
        self._at = max(min(ends, default=math.inf), now + LOOK_EVERY)

    def _look(
        self, wireguard: Wireguard, before: dict[tuple[str, bytes], _Session], now: float
    ) -> None:
        over = []
        for key, peer in wireguard.read().peers.items():
            if not peer.handshake:
                continue
            session = before.get((wireguard.name, key))
            if session is None or session.handshake != peer.handshake:
                age = time.time() - peer.handshake
                session = _Session(peer.handshake, now - min(max(0.0, age), OVER))
            if now - session.since >= OVER:
                over.append(_anew(key, peer))
            else:
                self._known[wireguard.name, key] = session
        if over:
            wireguard.change(over)


def _anew(key: bytes, peer: Peer) -> Change:
    return Change(
        key=key,
        endpoint=peer.endpoint,
        allowed=peer.allowed,
        keepalive=peer.keepalive or None,
        fresh=True,
    )
