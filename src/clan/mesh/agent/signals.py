"""Holes are opened from both sides: what others see of this machine, and who is asked to open them.

Those to whom a link is kept open tell where this machine's packets come from. Whoever is wanted and
not heard is sent a signal with that by members that both reach, first those that it keeps a link
open to; it opens holes, and answers in the same way. A signal is handed on once, from its sender to
its receiver.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh import signal, wire
from clan.mesh.agent import knocks
from clan.mesh.agent.reach import is_fresh, way, ways
from clan.mesh.candidates import Said
from clan.mesh.errors import MeshError
from clan.mesh.exchange import Called
from clan.mesh.link import Endpoint, Kind
from clan.mesh.signal import Place, Signal
from clan.mesh.wire import Knock, Letter, Seen, Where

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterator, Mapping

    from clan.mesh.agent.here import Here
    from clan.mesh.agent.interfaces import Interfaces
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.outside import Outside
    from clan.mesh.desire import Wish
    from clan.mesh.link import LinkId
    from clan.mesh.pair import Pair
    from clan.mesh.wire import Message

ASK_EVERY, ASK_AGAIN = 0.5, 600.0
"""Seconds between two questions where this machine is seen: while that is not known, and after."""
CARRIERS = 3
"""Members that a signal is given to."""
AGAIN = (0.25, 0.75, 1.5, 3.0)
"""Seconds after which a signal is given anew to a peer that was not heard since: members that hand
it on may have to wake first, or this machine to learn where it is seen."""
MOST_IN_A_ROW, PER_SECOND = 20, 2.0
"""Signals of one sender that are looked at: so many at once, and then so many a second."""
MOST_PLACES = 3
"""Places at which one interface is held to be."""
GOOD_FOR = 600.0
"""Seconds that a place is tried for."""
MOST_SEEN = 4096


@dataclass(slots=True)
class _Calling:
    since: float
    again: list[float]


@dataclass(slots=True)
class _Budget:
    left: float
    at: float


class Signals:
    """This machine's. What is to be observed is in `observed` until it is taken."""

    def __init__(
        self,
        known: Knowledge,
        here: Here,
        interfaces: Interfaces,
        outside: Outside,
        say: Callable[[str], None],
    ) -> None:
        self._known = known
        self._here = here
        self._interfaces = interfaces
        self._outside = outside
        self._say = say
        self._own: dict[str, list[Said]] = {}
        self._others: dict[tuple[bytes, str], list[Said]] = {}
        self._asked: dict[str, float] = {}
        self._calls: dict[str, _Calling] = {}
        self._budgets: dict[bytes, _Budget] = {}
        self._numbers: dict[bytes, int] = {}
        self.observed: list[Called] = []
        self.version = 0
        """Rises when somebody may be found elsewhere."""

    def due(self) -> float:
        """Return when a signal is to be given anew."""
        return min((each.again[0] for each in self._calls.values()), default=math.inf)

    def places(self, now: float) -> dict[tuple[bytes, str], tuple[Said, ...]]:
        """Return where others' interfaces may be, by identity and id, the latest first."""
        self._others = {
            key: kept
            for key, them in self._others.items()
            if (kept := [each for each in them if now - each.at < GOOD_FOR])
        }
        return {key: tuple(them) for key, them in self._others.items()}

    def seen(self) -> dict[str, tuple[Endpoint, ...]]:
        """Return where others see this machine's interfaces, by their ids, the latest first."""
        return {own: tuple(each.endpoint for each in them) for own, them in self._own.items()}

    def forget(self, uplinks: Collection[str]) -> None:
        """Forget where this machine was seen by uplinks that are elsewhere now."""
        for own in self._here.slots:
            if own.slot.uplink in uplinks:
                self._own.pop(own.id, None)

    def answered(self, link: LinkId, wish: Wish, now: float) -> None:
        """Ask one to whom a link is kept open, and who is there now, where this machine is seen."""
        up = self._interfaces.up.get(link.own)
        if link.peer not in wish.kept or up is None or up.own.slot.kind is not Kind.INTERNET:
            return
        last = max((each.at for each in self._own.get(link.own, [])), default=-math.inf)
        if now - last > ASK_AGAIN and now - self._asked.get(link.own, -math.inf) > ASK_EVERY:
            self._asked[link.own] = now
            self._send(link, Where())

    def take(
        self, link: LinkId, message: Message, wish: Wish, pairs: Mapping[str, Pair], now: float
    ) -> bool:
        """Take in a message if it is of a kind that is known here, and say whether it is."""
        match message:
            case Where():
                self._tell(link)
                return True
            case Seen(endpoint=endpoint) if link.peer in wish.kept:
                self._own[link.own] = _with(self._own.get(link.own, []), endpoint, now)
                return True
            case Seen():
                return True
            case Knock():
                if self._may(wish.peers[link.peer].identity, now):
                    knocks.knock(message)
                return True
            case Letter(data=data):
                self._letter(link, data, wish, pairs, now)
                return True
        return False

    def call(self, peer: str, wish: Wish, pairs: Mapping[str, Pair], now: float) -> None:
        """Ask a peer to open holes, now and again; wake the members that can hand that on."""
        keeps = self._keeps(wish, peer)
        self.observed += [Called(peer=name, at=now) for name in keeps if name in pairs]
        self._ask_all(wish, pairs, now)
        self._give(peer, wish, pairs, now)
        if peer in wish.peers:
            self._outside.beacon.want(wish.peers[peer].identity, now)
        self._calls[peer] = _Calling(since=now, again=[now + after for after in AGAIN])

    def turn(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> None:
        """Give signals anew where it is time to, and take in what was found without."""
        while self._outside.beacon.heard:
            said = self._outside.beacon.heard.pop()
            if said.number > self._numbers.get(said.sender, 0):
                self._note(said, now)
        # A server whose place all know is outside of whatever router this machine is behind.
        ways = [link for name in wish.kept if name in pairs and (link := way(pairs[name], now))]
        if ways:
            for endpoint, number in self._outside.knocks(now):
                for each in ways:  # one of them may not have the version of IP that leads there
                    self._send(each, Knock(endpoint=endpoint, number=number))
        for peer, call in list(self._calls.items()):
            if call.again[0] > now:
                continue
            call.again.pop(0)
            links = pairs[peer].links.values() if peer in pairs else ()
            heard = any(each.health.heard > call.since for each in links)
            if not heard:
                self._give(peer, wish, pairs, now)
            if heard or not call.again:
                del self._calls[peer]

    def _keeps(self, wish: Wish, peer: str) -> tuple[str, ...]:
        """Return to whom a peer keeps a link open, as it says."""
        member = wish.peers.get(peer)
        record = self._known.records.get(member.identity) if member else None
        return record.relays if record else ()

    def _give(self, peer: str, wish: Wish, pairs: Mapping[str, Pair], now: float) -> None:
        """Give a signal for a peer to itself, if it can be, and to some that may reach it."""
        member = wish.peers.get(peer)
        if member is None:
            return
        letter = self._letter_to(member.identity, answers=False)
        first, mine = self._keeps(wish, peer), wish.kept
        names = dict.fromkeys([peer, *first, *mine, *pairs])
        found = (ways(pairs[name], now) for name in names if name in pairs)
        for links in itertools.islice(filter(None, found), CARRIERS):
            for link in links:
                self._send(link, letter)

    def _letter_to(self, identity: bytes, *, answers: bool) -> Letter:
        said = Signal(
            sender=self._known.key.public,
            to=identity,
            number=time.time_ns() // 1_000_000,
            answers=answers,
            places=tuple(self.here())[: signal.MOST],
        )
        return Letter(data=signal.write(said, self._known.key))

    def here(self) -> Iterator[Place]:
        """Yield where this machine's interfaces are.

        As routers say, who let in anybody there; as others see them; as this machine does itself.
        """
        internet = [own for own in self._here.slots if own.slot.kind is Kind.INTERNET]
        internet.sort(key=lambda own: own.leaving)
        for own in internet:
            if own.id in self._outside.mapped:
                yield Place(interface=own.id, endpoint=self._outside.mapped[own.id])
        for own in internet:
            for seen in self._own.get(own.id, []):
                yield Place(interface=own.id, endpoint=seen.endpoint)
        uplinks = {each.name: each for each in self._here.attachments}
        for own in internet:
            attached = uplinks.get(own.slot.uplink)
            for each in attached.addresses if attached else ():
                if each.version == own.slot.family and not each.is_link_local:
                    endpoint = Endpoint(host=str(each.ip), port=own.port)
                    if all(endpoint != seen.endpoint for seen in self._own.get(own.id, [])):
                        yield Place(interface=own.id, endpoint=endpoint)

    def _letter(
        self, link: LinkId, data: bytes, wish: Wish, pairs: Mapping[str, Pair], now: float
    ) -> None:
        if not self._may(wish.peers[link.peer].identity, now):
            return
        try:
            said = signal.read(data)
        except MeshError as fault:
            self._say(f"{link.peer}: {fault}")
            return
        names = {member.identity: name for name, member in wish.peers.items()}
        sender, to = names.get(said.sender), names.get(said.to)
        if sender is not None and said.to == self._known.key.public:
            self._ask_all(wish, pairs, now)
            self._for_me(sender, said, link, now)
        elif sender == link.peer and to is not None and to in pairs:
            onward = ways(pairs[to], now)
            for each in onward:
                self._send(each, Letter(data=data))
            if onward and not is_fresh(pairs[to], onward[0], now):
                # It may be in vain. It is given anew soon, and goes where one is found by then.
                self.observed.append(Called(peer=to, at=now))

    def _for_me(self, sender: str, said: Signal, link: LinkId, now: float) -> None:
        # The same one comes by several members.
        if self._numbers.get(said.sender) == said.number:
            return
        self._note(said, now)
        self.observed.append(Called(peer=sender, at=now))
        if not said.answers:
            self._send(link, self._letter_to(said.sender, answers=True))

    def _note(self, said: Signal, now: float) -> None:
        self._numbers[said.sender] = said.number
        for place in reversed(said.places):
            key = (said.sender, place.interface)
            if len(self._others) < MOST_SEEN or key in self._others:
                self._others[key] = _with(self._others.get(key, []), place.endpoint, now)
        self.version += 1

    def _may(self, sender: bytes, now: float) -> bool:
        """Say whether another letter from somebody is looked at now."""
        budget = self._budgets.setdefault(sender, _Budget(MOST_IN_A_ROW, now))
        budget.left = min(MOST_IN_A_ROW, budget.left + (now - budget.at) * PER_SECOND) - 1
        budget.at = now
        budget.left = max(-1.0, budget.left)
        return budget.left >= 0

    def _ask_all(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> None:
        """Ask where this machine is seen now: what is given next is to be right."""
        ways = (way(pairs[name], now) for name in wish.kept if name in pairs)
        for link in ways:
            if link is not None and now - self._asked.get(link.own, -math.inf) > ASK_EVERY:
                self._asked[link.own] = now
                self._send(link, Where())

    def _tell(self, link: LinkId) -> None:
        with contextlib.suppress(OSError):
            endpoint = self._interfaces.outer(link)
            if endpoint is not None:
                self._send(link, Seen(endpoint=endpoint))

    def _send(self, link: LinkId, message: Message) -> None:
        self._interfaces.send(link, wire.encode(message))


def _with(known: list[Said], endpoint: Endpoint, now: float) -> list[Said]:
    others = [each for each in known if each.endpoint != endpoint]
    return [Said(endpoint, now), *others][:MOST_PLACES]
