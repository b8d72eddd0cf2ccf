"""Maps and records of interfaces go from machine to machine, inside links.

Who meets a peer on a path that lives, and whoever has something new, opens a connection by it: a
digest from both ends, then what is missing. WireGuard says who is at the other end. A map that came
is also carried to some of those with whom nothing is open: they are woken, a few at a time.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.mesh import digest
from clan.mesh.agent.interfaces import PORT
from clan.mesh.agent.reach import way
from clan.mesh.agent.stream import Stream, listener
from clan.mesh.chart.accept import Outcome
from clan.mesh.errors import MeshError
from clan.mesh.slots import inside

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Container, Iterator, Mapping

    from clan.mesh.agent.interfaces import Interface
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.desire import Wish
    from clan.mesh.digest import Digest
    from clan.mesh.link import LinkId
    from clan.mesh.step import State

PATIENCE = 20.0
"""Seconds that a conversation may take."""
MOST_AT_ONCE = 32
MOST_OF_ONE = 2
"""Conversations that one peer may have open."""
AGAIN = 5.0
"""Seconds until a conversation that failed is tried again."""
WOKEN_AT_ONCE, WOKEN_FOR_ONE = 2, 4
"""Peers that are woken for a map: each time, and in all. Each of them wakes others in turn."""
WAKE_EVERY = 2.0
SELDOM = 3600.0
"""Seconds without any conversation after which some peer is woken for one."""


@dataclass(kw_only=True)
class _Talk:
    """A conversation with a peer, by name."""

    peer: str
    identity: bytes
    stream: Stream
    told: int
    """What this end had when it sent its digest, by `Knowledge.version`."""
    maps: int
    """Which map that was, by `Knowledge.maps`: a new one waits for no conversation to end."""
    heard_end: bool = False


@dataclass(kw_only=True)
class _Carry:
    """A map that is carried to those with whom nothing is open."""

    at: float = math.inf
    left: int = 0
    woken: set[str] = field(default_factory=set)


class Gossip:
    """All of this machine's conversations."""

    def __init__(self, known: Knowledge, say: Callable[[str], None]) -> None:
        self._known = known
        self._say = say
        self._listeners: dict[str, tuple[int, socket.socket]] = {}
        self._talks: list[_Talk] = []
        self._told: dict[str, int] = {}
        self._again: dict[str, float] = {}
        self._carry = _Carry(at=time.monotonic() + SELDOM, left=1)
        self._offered: list[bytes] = []
        self._confirmed: dict[bytes, tuple[int, int]] = {}
        self.knows: dict[bytes, int] = {}
        """Which of this machine's own records members have, by serial, as they say themselves."""
        self.has: dict[bytes, tuple[int, int]] = {}
        """Which map, by epoch and serial, members have at least, as they or others say."""

    def close(self) -> None:
        """End all of it."""
        for each in self._talks:
            each.stream.close()
        for _, waiting in self._listeners.values():
            waiting.close()

    def sockets(self) -> Iterator[tuple[int, int]]:
        """Yield the descriptors to wait on, each with the events to wait for."""
        for _, waiting in self._listeners.values():
            yield waiting.fileno(), 1
        for each in self._talks:
            yield each.stream.fileno(), each.stream.events

    def due(self) -> float:
        """Return when `turn` or `follow` has something to do."""
        deadlines = [each.stream.deadline for each in self._talks]
        return min([self._carry.at, *self._again.values(), *deadlines], default=math.inf)

    def settle(self, up: Mapping[str, Interface]) -> None:
        """Listen on these interfaces, and no other."""
        for id_ in [i for i, (index, _) in self._listeners.items()
                    if i not in up or up[i].index != index]:  # fmt: skip
            self._listeners.pop(id_)[1].close()
        for id_, each in up.items():
            if id_ not in self._listeners:
                address = str(inside(self._known.key.public, id_))
                with contextlib.suppress(OSError):  # it is going
                    made = listener(each.own.interface, (address, PORT, 0, each.index))
                    self._listeners[id_] = (each.index, made)

    def carry(self, now: float) -> None:
        """Bring a map that is new to those too with whom nothing is open."""
        after = random.uniform(0.5, 1.5) * WAKE_EVERY  # noqa: S311 (spreads, guards nothing)
        self._carry = _Carry(at=now + after, left=WOKEN_FOR_ONE)

    def follow(self, wish: Wish, state: State, up: Mapping[str, Interface], now: float) -> None:
        """Open conversations with those who live and were not told all."""
        # Also of those to whom there is nothing to say by now: what is due for ever ends no wait.
        self._again = {name: at for name, at in self._again.items() if now < at}
        for name, pair in state.pairs.items():
            link = way(pair, now)
            if link is None:
                self._told.pop(name, None)
                continue
            busy = len(self._talks) >= MOST_AT_ONCE or any(
                t.peer == name and t.maps == self._known.maps for t in self._talks
            )
            is_told = self._told.get(name) == self._known.version
            if not (busy or is_told or name in self._again):
                self._open(link, wish, up, now)

    def wake(self, wish: Wish, state: State, now: float) -> list[str]:
        """Return whom to wake now, for a map or because nobody was talked to for long."""
        top = self._known.held.top
        if now < self._carry.at:
            return []
        if top is None:
            self._carry.at = now + SELDOM
            return []
        cold = [name for name, pair in state.pairs.items() if pair.links and not way(pair, now)]
        lacks = [
            name
            for name in cold
            if name not in self._carry.woken
            and self._confirmed.get(wish.peers[name].identity, (0, 0)) < (top.epoch, top.serial)
        ]
        chosen = random.sample(lacks, min(len(lacks), WOKEN_AT_ONCE, self._carry.left))
        self._carry.woken |= set(chosen)
        self._carry.left -= len(chosen)
        self._carry.at = now + WAKE_EVERY
        if not chosen:
            self._carry = _Carry(at=now + SELDOM * random.uniform(0.8, 1.2), left=1)  # noqa: S311
        return chosen

    def turn(self, up: Mapping[str, Interface], ready: Container[int], now: float) -> bool:
        """Go on with what can go on; say whether something new was taken in."""
        news = False
        for id_, (_, waiting) in list(self._listeners.items()):
            if waiting.fileno() in ready and id_ in up:
                self._accept(up[id_], waiting, now)
        for each in list(self._talks):
            if each.stream.fileno() not in ready and now < each.stream.deadline:
                continue
            try:
                news = self._go_on(each, now) or news
            except (OSError, MeshError) as fault:
                self._end(each)
                self._again[each.peer] = now + AGAIN
                if isinstance(fault, MeshError):
                    self._say(f"{each.peer}: what it tells is refused: {fault}")
        return news

    def _open(self, link: LinkId, wish: Wish, up: Mapping[str, Interface], now: float) -> None:
        each = up.get(link.own)
        remote = each.remotes.get(link) if each else None
        if each is None or remote is None:
            return
        try:
            to = (str(remote.address), PORT, 0, each.index)
            stream = Stream.connect(each.own.interface, to, now + PATIENCE, digest.LARGEST)
        except OSError:
            self._again[link.peer] = now + AGAIN
            return
        self._begin(link.peer, wish.peers[link.peer].identity, stream)

    def _accept(self, each: Interface, waiting: socket.socket, now: float) -> None:
        """Begin the conversations that others have opened. In a turn many may have, and no more."""
        for _ in range(MOST_AT_ONCE):
            try:
                made, source = waiting.accept()
            except OSError:  # there are no more
                return
            link = each.links.get(source[0].partition("%")[0])
            who = self._known.named(link.peer) if link else None
            open_ = sum(link is not None and t.peer == link.peer for t in self._talks)
            if (
                link is None
                or who is None
                or open_ >= MOST_OF_ONE
                or len(self._talks) >= 2 * MOST_AT_ONCE
            ):
                made.close()
                continue
            self._begin(link.peer, who.identity, Stream(made, now + PATIENCE, digest.LARGEST))

    def _begin(self, peer: str, identity: bytes, stream: Stream) -> None:
        mine = digest.of(self._known.held, self._known.records, self._all_have())
        stream.write(digest.frame(digest.DIGEST, digest.write(mine)))
        self._talks.append(
            _Talk(
                peer=peer,
                identity=identity,
                stream=stream,
                told=self._known.version,
                maps=self._known.maps,
            )
        )

    def _all_have(self) -> dict[bytes, tuple[int, int]]:
        members = self._known.content.identities
        top = self._known.held.top
        found = {who: what for who, what in self.has.items() if who in members}
        if top is not None:
            found[self._known.key.public] = (top.epoch, top.serial)
        return found

    def _go_on(self, talk: _Talk, now: float) -> bool:
        """Read and answer. Raises OSError, MeshError where it is over before its end."""
        if now >= talk.stream.deadline:
            raise TimeoutError
        talk.stream.turn()
        news = False
        while (taken := digest.take(talk.stream.read)) is not None:
            kind, body, talk.stream.read = taken
            knows_all = talk.told == self._known.version
            news = self._take(talk, kind, body) or news
            if knows_all:  # and what is new now, as it came from there
                talk.told = self._known.version
        if talk.heard_end and talk.stream.is_written:
            self._told[talk.peer] = talk.told
            self._end(talk)
        elif talk.stream.ended:
            raise ConnectionResetError
        return news

    def _take(self, talk: _Talk, kind: int, body: bytes) -> bool:
        if kind == digest.DIGEST:
            theirs = digest.read(body)
            self._note(talk.identity, theirs)
            for part in digest.missing(theirs, self._known.held, self._known.records):
                talk.stream.write(part)
            talk.stream.write(digest.frame(digest.END))
        elif kind == digest.MAP:
            told = hashlib.sha256(body).digest()
            if told in self._offered:  # others were as fast: it need not be read again
                return False
            self._offered = [told, *self._offered[: MOST_OF_ONE * MOST_AT_ONCE]]
            verdict = self._known.offer(body)
            taken = verdict.outcome in {Outcome.NEWER, Outcome.FORK}
            if taken or verdict.outcome is Outcome.REFUSED:
                self._say(f"{talk.peer} told a map: {verdict.outcome.value}: {verdict.reason}")
            return taken
        elif kind == digest.RECORD:
            return self._known.take(body[:32], body[32:])
        else:
            talk.heard_end = True
        return False

    def _note(self, sender: bytes, theirs: Digest) -> None:
        """Note who has which map; the sender's word of others is good for being shown alone."""
        own = theirs.has.get(sender)
        if own is not None:
            self._confirmed[sender] = own
        self.knows[sender] = theirs.records.get(self._known.key.public, (0, b""))[0]
        for who, has in theirs.has.items():
            if who in self._known.content.identities and who != self._known.key.public:
                self.has[who] = max(has, self.has.get(who, (0, 0)))

    def _end(self, talk: _Talk) -> None:
        talk.stream.close()
        self._talks.remove(talk)
