"""What comes by links, handed to who it is for.

What tells of the links themselves is to be observed; all else is somebody's here. What came is in
`observed` until it is taken.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from clan.mesh import wire
from clan.mesh.exchange import Received
from clan.mesh.wire import Answer, Probe, Summary, Switch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from clan.mesh.agent.interfaces import Interface, Interfaces
    from clan.mesh.agent.probes import Heard
    from clan.mesh.agent.sessions import Sessions
    from clan.mesh.agent.signals import Signals
    from clan.mesh.desire import Wish
    from clan.mesh.hops.guide import Guide
    from clan.mesh.pair import Pair

INSIDE = 48
"""Bytes of the IPv6 and UDP headers of a message inside a link."""


class Hearing:
    """All links of this machine. `gone` is told when an interface was taken away."""

    def __init__(
        self,
        interfaces: Interfaces,
        sessions: Sessions,
        signals: Signals,
        guide: Guide,
        *,
        say: Callable[[str], None],
        gone: Callable[[float], None],
    ) -> None:
        self._interfaces = interfaces
        self._sessions = sessions
        self._signals = signals
        self._guide = guide
        self._say = say
        self._gone = gone
        self.observed: list[Received] = []

    def turn(self, wish: Wish, pairs: Mapping[str, Pair]) -> bool:
        """Take in what waits; say whether there was more than what tells of links."""
        is_more = False
        for each in self._interfaces.up.values():
            try:
                heard = each.prober.receive()
            except OSError:  # it was taken away
                self._gone(time.monotonic())
                continue
            for datagram in heard:
                is_more |= self._take(each, datagram, wish, pairs)
        return is_more

    def _take(
        self, each: Interface, datagram: Heard, wish: Wish, pairs: Mapping[str, Pair]
    ) -> bool:
        link, at = each.links.get(datagram.source), datagram.at
        if link is None:
            return False
        try:
            message = wire.decode(datagram.data)
        except wire.WireError as fault:
            self._say(f"{link}: {fault}")
            return False
        self._sessions.heard(at)
        is_more = self._guide.heard(link, each.own.slot.kind, at)
        match message:
            case Probe() | Answer() | Switch() | Summary():
                size = len(datagram.data) + INSIDE
                self.observed.append(Received(link=link, message=message, at=at, size=size))
                if isinstance(message, Answer):
                    self._signals.answered(link, wish, at)
                return is_more
            case None:  # of a later version
                return is_more
        if not self._signals.take(link, message, wish, pairs, at):
            self._guide.take(link, message, wish, at)
        return True
