"""The agent's part for relays, between its loop and `clan.mesh.relay`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from clan.machine.system import StepError
from clan.mesh.agent.reach import way
from clan.mesh.exchange import Called
from clan.mesh.link import Kind
from clan.mesh.pair import Mode
from clan.mesh.places import RELAY_OPENED
from clan.mesh.relay.relaying import Around, Relaying

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Collection, Mapping

    from clan.mesh.agent.here import Here
    from clan.mesh.agent.interfaces import Interfaces
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.names import Names
    from clan.mesh.agent.nflog import LogGroup
    from clan.mesh.agent.outside import Outside
    from clan.mesh.agent.setting import Setting
    from clan.mesh.chart.links import Reached
    from clan.mesh.exchange import Event
    from clan.mesh.link import Endpoint, LinkId
    from clan.mesh.pair import Pair
    from clan.mesh.relay import offer

TRY_AGAIN = 5.0
"""Seconds until something that failed is tried again."""


class Relayed:
    """An agent's. Raises OSError where the kernel lacks what relays need."""

    def __init__(
        self,
        setting: Setting,
        known: Knowledge,
        here: Here,
        interfaces: Interfaces,
        say: Callable[[str], None],
        *,
        names: Names,
        outside: Outside,
    ) -> None:
        self._known = known
        self._names = names
        self._outside = outside
        self._here = here
        self._interfaces = interfaces
        self._say = say
        opened = setting.state / RELAY_OPENED
        self._relaying = Relaying(known.key, setting.prefix, setting.passing, opened, say)
        self._again = -math.inf
        self._settled: object = None

    def close(self) -> None:
        """Let go; what passes, passes."""
        self._relaying.close()

    def sockets(self) -> list[LogGroup | socket.socket]:
        """Return what to wait on."""
        return self._relaying.sockets()

    def due(self) -> float:
        """Return when `turn` has something to do."""
        return max(self._again, self._relaying.due())

    @property
    def version(self) -> object:
        """What changes with what others, or the links here, depend on."""
        return self._relaying.places, self._relaying.endpoints()

    @property
    def reached(self) -> tuple[Reached, ...]:
        """Where this machine offers to relay."""
        return self._relaying.places

    @property
    def offers(self) -> offer.State:
        """Where this machine may be a relay, and what is known of that."""
        return self._relaying.offers

    def hurry(self) -> int:
        """Have members try at once whether they reach this machine; return how often they will."""
        return self._relaying.hurry()

    def endpoints(self) -> dict[LinkId, Endpoint]:
        """Return where the datagrams of links that are relayed go."""
        return self._relaying.endpoints()

    def look(self, link: LinkId, endpoint: Endpoint, now: float) -> None:
        """Look for a link's peer, by way of a relay if it is such a link. Raises OSError."""
        up = self._interfaces.up.get(link.own)
        is_relayed = up is not None and up.own.slot.kind is Kind.RELAY
        if not is_relayed or self._relaying.look(link, now):
            self._interfaces.look(link, endpoint)

    def forget_table(self) -> None:
        """Note that somebody took the relay's table of the firewall away, or may have."""
        self._relaying.forget_table()
        self._settled = None

    def turn(self, readable: Collection[int], pairs: Mapping[str, Pair], now: float) -> list[Event]:
        """Register with relays, be one, go on with what passes now; return who called."""
        relaying = self._relaying
        try:
            self._settle(now)
            relaying.turn(readable, now)
        except (OSError, StepError) as fault:
            self._say(f"relaying: {fault}; trying again")
            self._again = now + TRY_AGAIN
        for link, endpoint in relaying.ready:
            self._interfaces.look(link, endpoint)
        called: list[Event] = [Called(peer=name, at=now) for name in relaying.called]
        awake = {
            name for name, pair in pairs.items() if pair.mode is not Mode.COLD or way(pair, now)
        }
        relaying.keep(awake | set(relaying.called))
        relaying.ready.clear()
        relaying.called.clear()
        return called

    def _settle(self, now: float) -> None:
        """Have what follows from a new map, and from what is around. Raises OSError, StepError."""
        around = Around(
            view=self._known.view,
            records=self._known.records,
            own=self._here.slots,
            attachments=self._here.attachments,
            nat64=self._names.nat64,
            mapped=self._outside.seats,
        )
        known = self._known.maps, self._known.version
        seen = known, around.own, around.attachments, around.nat64, around.mapped
        if seen != self._settled:
            self._relaying.settle(around, now)
            self._settled = seen
