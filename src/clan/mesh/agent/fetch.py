"""The map over a LAN, for those whose maps are too old to shake hands: asking, and answering.

A request is called out sealed, and signed by the asker's identity (`seal`). While it is open, the
asker listens for TCP on that LAN; a member with a newer map that lists the asker connects, after a
moment by which others may be first, and sends the map sealed to that request. Nothing else is ever
read or said there, so a stranger's machine finds a closed port but for some seconds, and then one
that says nothing.
"""

from __future__ import annotations

import contextlib
import math
import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh import seal
from clan.mesh.agent.lan import PORT
from clan.mesh.agent.stream import Stream, listener
from clan.mesh.chart.accept import Outcome
from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Container, Iterator
    from ipaddress import IPv4Address, IPv6Address

    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.seal import Question

OPEN_FOR = 10.0
"""Seconds that a question is open."""
ASK_EVERY = 3.0
"""Seconds between two questions on one LAN."""
ANSWER_WITHIN = 0.5
"""Seconds in which one who could answer does: whoever has the map by then is not answered."""
MOST = 4
"""Answers that are on their way, in either direction."""
LONGEST = 4 << 20
"""Bytes of an answer: anybody on the LAN can make this machine hold so many for a moment."""
PATIENCE = 10.0


@dataclass(kw_only=True)
class _Place:
    """An uplink's LAN on which something was asked."""

    name: str
    index: int
    asked: float = -math.inf
    question: Question | None = None
    waiting: socket.socket | None = None


@dataclass(frozen=True, kw_only=True)
class _Promise:
    """An answer that is due."""

    at: float
    uplink: str
    index: int
    to: IPv4Address | IPv6Address
    request: seal.Request


class Fetch:
    """All questions and answers. `send(uplink, data)` calls something out on a LAN."""

    def __init__(
        self, known: Knowledge, send: Callable[[str, bytes], None], say: Callable[[str], None]
    ) -> None:
        self._known = known
        self._send = send
        self._say = say
        self._places: dict[str, _Place] = {}
        self._promises: list[_Promise] = []
        self._answers: list[Stream] = []
        self._coming: list[tuple[Question, Stream]] = []

    def close(self) -> None:
        """Let go of all of it."""
        for place in self._places.values():
            _shut(place)
        for each in (*self._answers, *(stream for _, stream in self._coming)):
            each.close()

    def sockets(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, each with the events to wait for."""
        for place in self._places.values():
            if place.waiting is not None:
                yield place.waiting.fileno(), 1
        for each in (*self._answers, *(stream for _, stream in self._coming)):
            yield each.fileno(), each.events

    def due(self) -> float:
        """Return when `turn` has something to do."""
        times = [each.at for each in self._promises]
        times += [each.asked + OPEN_FOR for each in self._places.values() if each.waiting]
        times += [s.deadline for s in (*self._answers, *(stream for _, stream in self._coming))]
        return min(times, default=math.inf)

    def ask(self, uplink: str, index: int, now: float) -> None:
        """Ask on a LAN whether somebody has a newer map, unless that is asked there now."""
        secrets = self._known.content.secrets
        place = self._places.setdefault(uplink, _Place(name=uplink, index=index))
        if not secrets or now < place.asked + ASK_EVERY:
            return
        _shut(place)
        place.asked, place.index = now, index
        place.question, data = seal.ask(self._known.key, secrets[0].key, self._known.held.top)
        with contextlib.suppress(OSError):
            place.waiting = listener(uplink, ("::", PORT, 0, 0))
            self._send(uplink, data)

    def asked(
        self, uplink: str, index: int, who: IPv4Address | IPv6Address, request: bytes, now: float
    ) -> None:
        """Take a request that was recognised. Raises MeshError for one that is none."""
        read = seal.read_request(request)
        top = self._known.held.top
        if top is None or read.has >= top.order or self._known.machine(read.identity) is None:
            return
        if read.identity == self._known.key.public or len(self._promises) >= MOST:
            return
        self._promises = [e for e in self._promises if e.request.identity != read.identity]
        at = now + random.uniform(0, ANSWER_WITHIN)  # noqa: S311 (spreads, guards nothing)
        self._promises.append(_Promise(at=at, uplink=uplink, index=index, to=who, request=read))

    def satisfied(self, identity: bytes, has: tuple[int, int, bytes]) -> None:
        """Note which map somebody has now: others may have answered."""
        top = self._known.held.top
        if top is not None and has >= top.order:
            self._promises = [e for e in self._promises if e.request.identity != identity]

    def turn(self, ready: Container[int], now: float) -> bool:
        """Go on with what can go on; say whether a newer map was taken in."""
        for promise in [each for each in self._promises if each.at <= now]:
            self._promises.remove(promise)
            self._answer(promise, now)
        self._answers = [each for each in self._answers if self._sends(each, ready, now)]
        for place in self._places.values():
            if place.waiting is not None and place.waiting.fileno() in ready:
                self._accept(place, now)
            if place.waiting is not None and now >= place.asked + OPEN_FOR:
                _shut(place)
        news = False
        for question, stream in list(self._coming):
            going = self._go_on(stream, ready, now)
            if not going or stream.ended:
                self._coming.remove((question, stream))
            if going and stream.ended:
                stream.close()
                news = self._take(question, stream.read) or news
        return news

    def _answer(self, promise: _Promise, now: float) -> None:
        top = self._known.held.top
        if top is None or len(self._answers) >= MOST:
            return
        data = seal.answer(promise.request, self._known.content.identities, top.raw)
        if data is None:
            return
        zone = promise.index if promise.to.is_link_local else 0
        with contextlib.suppress(OSError):
            to = (str(promise.to), PORT, 0, zone)
            stream = Stream.connect(promise.uplink, to, now + PATIENCE, 0)
            stream.write(data)
            self._answers.append(stream)

    def _accept(self, place: _Place, now: float) -> None:
        if place.waiting is None or place.question is None:
            return
        with contextlib.suppress(OSError):
            made, _ = place.waiting.accept()
            if len(self._coming) >= MOST:
                made.close()
                return
            stream = Stream(made, now + PATIENCE, LONGEST)
            self._coming.append((place.question, stream))

    def _go_on(self, stream: Stream, ready: Container[int], now: float) -> bool:
        """Read and write what can be; close it and say no where it is over."""
        try:
            if now >= stream.deadline:
                raise TimeoutError
            if stream.fileno() in ready:
                stream.turn()
        except OSError:
            stream.close()
            return False
        return True

    def _sends(self, stream: Stream, ready: Container[int], now: float) -> bool:
        """Go on with an answer; close it and say no when all of it was sent."""
        if not self._go_on(stream, ready, now):
            return False
        if stream.is_written:
            stream.close()
        return not stream.is_written

    def _take(self, question: Question, data: bytes) -> bool:
        try:
            verdict = self._known.offer(seal.open_answer(question, data))
        except (MeshError, OSError) as fault:
            self._say(f"an answer on a LAN: {fault}")
            return False
        self._say(f"a map from a LAN: {verdict.outcome.value}: {verdict.reason}")
        return verdict.outcome in {Outcome.NEWER, Outcome.FORK}


def _shut(place: _Place) -> None:
    if place.waiting is not None:
        place.waiting.close()
    place.waiting = place.question = None
