"""What the agent has the DHT told, and whom it looks for there, if it is switched on.

A machine that is wanted and not heard is looked for while it is wanted. What is found is where it
says that it may be, as in a signal.
"""

from __future__ import annotations

import math
import time
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError
from clan.mesh.outside import blind, seam
from clan.mesh.outside.address import is_outside
from clan.mesh.outside.seam import Search

if TYPE_CHECKING:
    from collections.abc import Callable

    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.signal import Place, Signal

AGAIN = 3000.0
"""Seconds until the same is put again: it lasts for two hours (BEP 44)."""
SOONEST = 10.0
"""Seconds between two things that are put."""
WANTED = 60.0
"""Seconds that somebody is looked for after each call."""


class Beacon:
    """This machine's."""

    def __init__(self, known: Knowledge, say: Callable[[str], None]) -> None:
        self._known = known
        self._say = say
        self._wanted: dict[bytes, float] = {}
        self._put: tuple[bytes, bytes] | None = None
        self._said: object = None
        self._put_at = -math.inf
        self._renew_at = math.inf
        self._of: object = None
        self._line = b""
        self._keys: dict[bytes, bytes] = {}
        self.heard: list[Signal] = []
        """What was found, until it is taken."""

    def want(self, identity: bytes, now: float) -> None:
        """Look for a member."""
        self._wanted[identity] = now + WANTED

    def due(self) -> float:
        """Return when something else is to be put or looked for."""
        return min([self._renew_at, *self._wanted.values()])

    def search(
        self, places: tuple[Place, ...], attachments: tuple[Attachment, ...], now: float
    ) -> bytes:
        """Return the line that says what is to be done now."""
        self._wanted = {key: until for key, until in self._wanted.items() if now < until}
        secrets = self._known.content.secrets
        of = secrets[:1], places, attachments, frozenset(self._wanted)
        if of == self._of and now < self._renew_at:
            return self._line
        self._of = of
        # Who pays for bytes does not pay for this; and no address of the clan's is given away.
        sources = {
            str(address.ip)
            for each in attachments
            if each.works and each.defaults and not each.metered
            for address in each.addresses
            if not address.is_link_local
        }
        if secrets:
            self._renew(secrets[0].key, places, now)
        self._keys = self._keys_of_wanted() if secrets else {}
        found = Search(sources=tuple(sorted(sources)), put=self._put, get=tuple(sorted(self._keys)))
        self._line = seam.search(found)
        return self._line

    def take(self, line: bytes) -> None:
        """Take in what was found. Raises MeshError."""
        for public, value in seam.read_got(line).items():
            identity = self._keys.get(public)
            if identity not in self._wanted:
                continue
            try:
                secret = self._known.content.secrets[0]
                self.heard.append(blind.read(secret, identity, value, time.time()))
            except MeshError as fault:
                self._say(f"{fault}")

    def _renew(self, secret: bytes, places: tuple[Place, ...], now: float) -> None:
        """Put what is new, soon, and the same now and then."""
        # Who finds this is far away; and what is on a LAN is nobody's business.
        places = tuple(each for each in places if is_outside(ip_address(each.endpoint.host)))
        said = secret, int(time.time() // blind.DAY), places
        if not places or (said == self._said and now < self._put_at + AGAIN):
            self._renew_at = self._put_at + AGAIN if places else math.inf
            return
        if now < self._put_at + SOONEST:
            self._renew_at = self._put_at + SOONEST
            return
        self._said, self._put_at, self._renew_at = said, now, now + AGAIN
        key = blind.item(secret, self._known.key.public, said[1])
        number = time.time_ns() // 1_000_000
        self._put = key.seed, blind.write(secret, self._known.key, number, places)

    def _keys_of_wanted(self) -> dict[bytes, bytes]:
        """Return the identities of those wanted by the keys of their items."""
        secret = self._known.content.secrets[0].key
        return {
            blind.item(secret, identity, day).public: identity
            for identity in self._wanted
            for day in blind.days(time.time())
        }
