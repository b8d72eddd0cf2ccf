"""What an agent does about ways over several members: it seeks them, tells of its own neighbours.

As long as nobody seeks a way, nothing is said. Whoever has traffic for a machine that no link leads
to seeks one: it says so in its list, and that goes from neighbour to neighbour. Who hears of it
says whom it reaches itself, and wakes those that may be nearer to the one who is sought. What was
found is where the link over other members is looked for; it is measured, chosen and left as any
other link is.
"""

from __future__ import annotations

import contextlib
import hashlib
import math
import random
import time
from dataclasses import dataclass, replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING

from clan.mesh import wire
from clan.mesh.errors import MeshError
from clan.mesh.exchange import Called, Traffic
from clan.mesh.hops import labels, lists
from clan.mesh.hops.flood import Flood
from clan.mesh.hops.forward import Passage, Passing
from clan.mesh.hops.graph import Graph, holds, ways
from clan.mesh.hops.lists import NeighbourList
from clan.mesh.hops.reached import neighbour, reached
from clan.mesh.hops.saying import Saying
from clan.mesh.hops.seeking import Seeking
from clan.mesh.link import Endpoint, Kind
from clan.mesh.pair import FAST_FOR, Mode
from clan.mesh.wire import Neighbours

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from clan.mesh.agent.interfaces import Interfaces
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.desire import Wish
    from clan.mesh.link import LinkId
    from clan.mesh.pair import Pair
    from clan.mesh.wire import Message

LOOK_EVERY = 0.1
"""Seconds between two looks at who is reached, and who is not."""
PATIENCE, FIRST_PATIENCE = 0.5, 2.0
"""Seconds that a machine's own links are given before others are asked; the second if none of them
has answered lately: machines that all call one in the same moment take it a while."""
LATELY = 60.0
"""Seconds."""
LIFE = 150
"""Seconds that a list holds."""
SOUGHT_FOR = 60.0
"""Seconds after which one who is sought in vain is sought as seldom as others are spoken of."""
MOST_WOKEN = 8
"""Members that are woken at once, in case that one of them is nearer to who is sought."""
COPIES = 2
"""About how many of those who were told a list by others are told it again: datagrams are lost."""


@dataclass(frozen=True, slots=True)
class Around:
    """Who there is, by the map that holds now: members' labels, and the machine's own."""

    labels: Mapping[bytes, int]
    names: Mapping[int, str]
    own: int


class Guide:
    """This machine's. What is to be observed is in `observed` until it is taken."""

    def __init__(
        self,
        known: Knowledge,
        interfaces: Interfaces,
        say: Callable[[str], None],
        *,
        transit: bool,
    ) -> None:
        self._known = known
        self._interfaces = interfaces
        self._say = say
        self._transit = transit
        self._prefix = labels.prefix(known.prefix)
        self._flood = Flood(known.key.public)
        self._graph = Graph()
        self._passing = Passing(say)
        self._expires: float | None = None
        self._is_news = False
        self._saying = Saying()
        self._reached: dict[str, LinkId] = {}
        self._wanting: dict[str, float] = {}
        self._heard: dict[str, float] = {}
        self._seeking = Seeking()
        self._rounds = 0
        self._looked = -math.inf
        self.found: dict[str, tuple[IPv6Address, ...]] = {}
        """Ways to those to whom one is sought or used, the best first; perhaps none."""
        self.observed: list[Called | Traffic] = []
        self.version = 0
        """Rises when there are other ways."""

    def due(self) -> float:
        """Return when there is something to do."""
        if self._wanting or self._is_news:
            return self._looked + LOOK_EVERY
        if self._saying.last is None:
            return math.inf
        due = min(self._saying.due(), self._seeking.due(), self._expires or math.inf)
        return max(self._looked + LOOK_EVERY, due)

    def heard(self, link: LinkId, kind: Kind, now: float) -> bool:
        """Note a packet: who is heard by way of others may be answered so. Say if that is new."""
        if kind is not Kind.HOPS:
            return False
        self._heard[link.peer] = now
        if link.peer in self.found:
            return False
        self.found[link.peer] = ()
        self.version += 1
        return True

    def settle(self, wish: Wish) -> None:
        """Have the kernel pass on what is to be passed on now."""
        passage = None
        if self._transit and wish.member is not None and wish.member.ways is not None:
            up = sorted(self._interfaces.up.values(), key=lambda each: each.index)
            passage = Passage(
                ways=self._prefix,
                label=self._around(wish).own,
                interfaces=tuple(
                    (each.own.interface, each.index)
                    for each in up
                    if each.own.slot.kind is not Kind.HOPS and not each.uplink.metered
                ),
            )
        self._passing.have(passage)

    def forget_passage(self) -> None:
        """Note that somebody may have taken the kernel's rules away."""
        self._passing.forget()

    def remember(self, paths: Mapping[str, LinkId], now: float) -> None:
        """Take up the links that an earlier process used: who is reached so now goes on to be."""
        for link in paths.values():
            if link.own in self._interfaces.up:
                self.heard(link, self._interfaces.up[link.own].own.slot.kind, now)

    def take(self, link: LinkId, message: Message, wish: Wish, now: float) -> bool:
        """Take in a message if it is a list, and say whether it is."""
        if not isinstance(message, Neighbours):
            return False
        around, peer = self._around(wish), wish.peers[link.peer]
        try:
            news = self._flood.hear(message.data, peer.identity, around.labels, now)
        except MeshError as fault:
            self._say(f"{link.peer}: {fault}")
            return True
        if news.shown is not None:
            self._send(link, news.shown)
        if news.taken is not None:
            self._is_news = True
            self._hand_on(news.taken, link.peer, peer.identity, around)
            self._seeking.said(around.labels[news.taken.identity], news.taken.sought)
        return True

    def told(self, addresses: Iterable[object], wish: Wish, now: float) -> None:
        """Note whose packets are passed on here, by the addresses of the first ones."""
        around = self._around(wish)
        for each in addresses:
            if isinstance(each, IPv6Address):
                hops = labels.read(self._prefix, each)
                label = next((label for label in hops if label != around.own), 0)
                if label in around.names:
                    self.observed.append(Traffic(peer=around.names[label], at=now))

    def turn(self, wish: Wish, pairs: Mapping[str, Pair], now: float) -> None:
        """Do what is due."""
        if now < self._looked + LOOK_EVERY:
            return
        # Nobody is late because this machine was too busy to look.
        busy = max(0.0, now - self._looked - 2 * LOOK_EVERY)
        self._wanting = {name: since + busy for name, since in self._wanting.items()}
        self._looked = now
        if wish.member is None:
            self._wanting, self._is_news = {}, False
            self._rest({}, now)
            return
        around = self._around(wish)
        # A newer map may have come since the pairs were made.
        there = set(around.names.values())
        pairs = {name: pair for name, pair in pairs.items() if name in there}
        sought = self._sought(pairs, now)
        self._flood.forget(around.labels, now)
        if not sought and not any(said.sought for said in self._flood.lists(now)):
            if self._is_news:
                self._find(wish, pairs, sought, around, now)
            self._rest(pairs, now)
            return
        before, self._reached = self._reached, dict(reached(pairs, now))
        self._speak(self._list(wish, pairs, sought, around), around, now)
        fresh = self._reached.keys() - before.keys()
        for said in self._flood.lists(now) if fresh else ():
            label = around.labels.get(said.identity, around.own)
            for name in fresh - self._near(label, around):
                self._send(self._reached[name], said)
        self._find(wish, pairs, sought, around, now)
        self._wake_others(wish, around, now)

    def _around(self, wish: Wish) -> Around:
        found = labels.labels(self._known.content.identities | {self._known.key.public})
        own = found[self._known.key.public]
        members = {each.identity: name for name, each in wish.peers.items()}
        return Around(
            labels={who: label for who, label in found.items() if label != own},
            names={found[who]: name for who, name in members.items() if who in found},
            own=own,
        )

    # Who is sought, and who is reached.

    def _sought(self, pairs: Mapping[str, Pair], now: float) -> set[str]:
        """Return to whom there is traffic and no link of this machine's own."""
        waiting = {}
        sought = set()
        for name, pair in pairs.items():
            direct = [each for each in pair.links.values() if each.link.slot.kind is not Kind.HOPS]
            # Only traffic is a reason: to wake somebody who may help is none to seek that one.
            wanted = pair.mode is Mode.FAST and now < pair.traffic + FAST_FOR
            if not wanted or any(each.alive_since is not None for each in direct):
                continue
            waiting[name] = self._wanting.get(name, now)
            hopeful = any(each.link.endpoints for each in direct)
            lately = any(now < each.health.answered + LATELY for each in direct)
            patience = PATIENCE if lately else FIRST_PATIENCE
            if not hopeful or now >= waiting[name] + patience:
                sought.add(name)
        self._wanting = waiting
        return sought

    def _list(
        self, wish: Wish, pairs: Mapping[str, Pair], sought: Iterable[str], around: Around
    ) -> NeighbourList:
        """Return what this machine has to say."""
        names = {name: label for label, name in around.names.items()}
        neighbours = (
            self._saying.steady(neighbour(names[name], pairs[name].links[link], wish.desired))
            for name, link in self._reached.items()
        )
        return NeighbourList(
            identity=self._known.key.public,
            serial=1,
            life=LIFE,
            transit=self._passing.passes,
            neighbours=tuple(sorted(neighbours)),
            sought=tuple(sorted(names[each] for each in sought))[: lists.MOST_SOUGHT],
        )

    def _speak(self, said: NeighbourList, around: Around, now: float) -> None:
        """Tell the neighbours, if it is another list than before or time to repeat it."""
        vain = any(now < self._wanting[n] + SOUGHT_FOR and not self.found.get(n)
                   for n in self._wanting)  # fmt: skip
        if not self._saying.is_time(said, now, in_vain=vain):
            return
        serial = max(self._flood.own_serial + 1, time.time_ns() // 1_000_000)
        signed = lists.write(replace(said, serial=serial), self._known.key)
        self._saying.say(signed, now)
        self._is_news = True
        self._seeking.said(around.own, signed.sought)
        self._flood.put(signed, now)
        for link in self._reached.values():
            self._send(link, signed)

    def _wake_others(self, wish: Wish, around: Around, now: float) -> None:
        """Wake who is sought in vain, and some that may know more."""
        may_be = {
            name: around.labels[wish.peers[name].identity]
            for name, peer in wish.desired.peers.items()
            if name not in self._reached
            and wish.peers[name].identity in around.labels  # a newer map may have come
            and any(each.slot.kind is not Kind.HOPS and each.endpoints for each in peer.links)
        }
        members = {**around.labels, self._known.key.public: around.own}
        sought, too = self._seeking.whom(
            (
                (members[said.identity], each)
                for said in self._flood.lists(now)
                for each in said.sought
                if said.identity in members and each != around.own
            ),
            self._graph,
            {label for label, name in around.names.items() if name in self._reached},
            may_be.values(),
            now,
        )
        self._rounds += too

        def place(name: str) -> bytes:
            drawn = self._known.key.public + wish.peers[name].identity + bytes([self._rounds % 256])
            return hashlib.sha256(drawn).digest()

        names = [name for name, label in may_be.items() if label in sought]
        if too:
            names += sorted(may_be.keys() - set(names), key=place)[:MOST_WOKEN]
        self.observed += [Called(peer=name, at=now) for name in names]

    # Where they are.

    def _find(
        self,
        wish: Wish,
        pairs: Mapping[str, Pair],
        sought: Iterable[str],
        around: Around,
        now: float,
    ) -> None:
        """Work out the ways, if anything is new, and let links that lost theirs take another."""
        wanted = {*sought, *self._used(pairs, now)}
        expired = self._expires is not None and now >= self._expires
        if not self._is_news and not expired and wanted == self.found.keys():
            return
        self._is_news, self._expires = False, self._flood.expires(now)
        self._graph = self._flood.graph({**around.labels, self._known.key.public: around.own}, now)
        names = {name: label for label, name in around.names.items()}
        found: dict[str, tuple[IPv6Address, ...]] = {}
        for name in wanted:
            made = [
                labels.address(self._prefix, way[1:])
                for way in ways(self._graph, around.own, names[name])
            ]
            found[name] = tuple(made)
            if made:
                self._aim(name, made[0], wish, around)
        if found != self.found:
            self.found = found
            self.version += 1

    def _used(self, pairs: Mapping[str, Pair], now: float) -> Iterator[str]:
        """Yield to whom a way is used, or was until lately."""
        for name, pair in pairs.items():
            path = pair.links.get(pair.path) if pair.path else None
            uses = (
                path is not None
                and path.link.slot.kind is Kind.HOPS
                and bool(path.link.endpoints)
                and pair.mode is not Mode.COLD
            )
            if uses or now < self._heard.get(name, -math.inf) + LIFE:
                yield name

    def _aim(self, name: str, way: IPv6Address, wish: Wish, around: Around) -> None:
        """Send a link's packets another way, if theirs is none any more."""
        for link, remote in wish.remotes.items():
            up = self._interfaces.up.get(link.own)
            if link.peer != name or up is None or up.own.slot.kind is not Kind.HOPS:
                continue
            with contextlib.suppress(OSError):  # it is going, and will be made anew
                now_at = self._interfaces.outer(link)
                if now_at is None:
                    continue
                taken = labels.read(self._prefix, IPv6Address(now_at.host))
                if not holds(self._graph, (around.own, *taken)):
                    self._interfaces.aim(link, Endpoint(host=str(way), port=remote.port))

    def _rest(self, pairs: Mapping[str, Pair], now: float) -> None:
        """Say no more, and forget ways that are not used."""
        self._saying.stop()
        self._reached = {}
        self._seeking = Seeking()
        self._graph = Graph()
        used = set(self._used(pairs, now))
        if self.found.keys() - used:
            self.found = {name: them for name, them in self.found.items() if name in used}
            self.version += 1

    def _hand_on(self, said: NeighbourList, by: str, identity: bytes, around: Around) -> None:
        """Tell neighbours what one of them told; few of those whom that one or its author told."""
        tellers = (around.labels.get(each, 0) for each in (said.identity, identity))
        told = set[str]().union(*(self._near(label, around) for label in tellers))
        for name, link in self._reached.items():
            # Spreads, guards nothing.
            is_told = name in told and random.random() * len(told) >= COPIES  # noqa: S311
            if name != by and not is_told:
                self._send(link, said)

    def _near(self, label: int, around: Around) -> set[str]:
        """Return the names of a member's neighbours, which were told what it tells: both say so."""
        near = self._graph.edges.get(label, {})
        return {around.names[each] for each in near if each in around.names}

    def _send(self, link: LinkId, said: NeighbourList) -> None:
        self._interfaces.send(link, wire.encode(Neighbours(data=said.raw)))
