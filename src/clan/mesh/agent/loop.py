"""The agent of a machine: it observes, has `step` decide, and carries out what is to be done.

One thread, no wait but for the next thing to happen; only others' firewalls are asked by another.
It may be killed at any moment: interfaces, addresses and routes stay as they are, and the next one
takes them up.
"""

from __future__ import annotations

import math
import select
import time
from functools import partial
from typing import TYPE_CHECKING

from clan.machine.system import StepError
from clan.mesh import wire
from clan.mesh.agent.answers import answer
from clan.mesh.agent.deciding import Deciding
from clan.mesh.agent.diary import Diary
from clan.mesh.agent.firewall import GROUP, TABLE, Watch
from clan.mesh.agent.gossip import Gossip
from clan.mesh.agent.hearing import INSIDE, Hearing
from clan.mesh.agent.here import Here
from clan.mesh.agent.interfaces import Interfaces
from clan.mesh.agent.kernel import Events, Kernel
from clan.mesh.agent.knowledge import Knowledge
from clan.mesh.agent.names import Names
from clan.mesh.agent.nearby import Nearby
from clan.mesh.agent.netlink import OverrunError
from clan.mesh.agent.nflog import FirstPackets
from clan.mesh.agent.outside import Outside
from clan.mesh.agent.relayed import Relayed
from clan.mesh.agent.renewal import Renewal
from clan.mesh.agent.report import Scene
from clan.mesh.agent.sessions import Sessions
from clan.mesh.agent.signals import Signals
from clan.mesh.agent.status import Status
from clan.mesh.agent.streams import Streams
from clan.mesh.agent.telling import Telling
from clan.mesh.agent.upkeep import Upkeep
from clan.mesh.agent.waiting import Waiting
from clan.mesh.exchange import (
    Call,
    Called,
    Counters,
    Decision,
    ReadCounters,
    Resumed,
    Send,
    SetEndpoint,
    SetKeepalive,
    SetRoute,
    Traffic,
)
from clan.mesh.hops import labels
from clan.mesh.hops.guide import Guide
from clan.mesh.pair import Pair
from clan.mesh.relay.table import TABLE as RELAY_TABLE
from clan.mesh.step import State
from clan.mesh.width import LADDER

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Address, IPv6Address

    from clan.mesh.agent.setting import Setting
    from clan.mesh.desire import Wish
    from clan.mesh.exchange import Action
    from clan.mesh.link import LinkId

LOOK_EVERY = 0.05
"""Seconds between two looks at this machine's network, when one change follows another."""
TRY_AGAIN = 5.0
"""Seconds until something that could not be had is tried again, and a new firewall is asked."""
WISH_EVERY = 0.1
"""Seconds between two reactions to what is told of others."""


class Agent:
    """The agent. `say` writes a line for people. Raises OSError, MeshError where it cannot be."""

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self._say = say
        self.known = known = Knowledge(setting)
        self._kernel = Kernel()
        self._events = Events()
        self._watch = Watch(TABLE, RELAY_TABLE)
        self._first = FirstPackets(GROUP)
        here = Here(self._kernel, setting.state / "slots", say, streams=setting.tls is not None)
        self._here = here
        self._interfaces = Interfaces(self._kernel, self.known.key.public, say)
        self._nearby = Nearby(self.known, say)
        self._status = Status(setting.socket)
        self.diary = Diary(setting)
        self._deciding = Deciding(
            desired=lambda: self._wish.desired,
            hear=self._hear,
            carry_out=self._carry_out,
            note=self.diary.note,
        )
        self._gossip = Gossip(self.known, say)
        self._outside = Outside(setting.line, self.known, self._here, say)
        self._signals = Signals(self.known, self._here, self._interfaces, self._outside, say)
        self._names = Names(self.known, self._here)
        self.relayed = Relayed(
            setting, known, here, self._interfaces, say, names=self._names, outside=self._outside
        )
        self._guide = Guide(self.known, self._interfaces, say, transit=setting.transit)
        self._upkeep = Upkeep(
            setting,
            self._kernel,
            say,
            known=self.known,
            here=self._here,
            interfaces=self._interfaces,
            nearby=self._nearby,
            signals=self._signals,
            relayed=self.relayed,
            guide=self._guide,
            names=self._names,
        )
        self._renewal = Renewal(self.known, self._here, self._gossip, say)
        self._streams = Streams(setting, self.known, self._here, say)
        self._sessions = Sessions()
        self._hearing = Hearing(
            self._interfaces,
            self._sessions,
            self._signals,
            self._guide,
            say=say,
            gone=self._look_soon,
        )
        self._seen = self._versions()
        self._probers: frozenset[int] = frozenset()
        self._telling = Telling()
        self._due = self._parts_due = -math.inf
        self._look_at = self._looked = -math.inf
        self._wish_at, self._wished = math.inf, -math.inf
        self._waiting = Waiting()
        self._last_fault = ""

    def close(self) -> None:
        """Let go of everything; what was made in the kernel stays."""
        own = (self._interfaces, self._nearby, self._gossip, self._outside, self._names)
        rest = (self._events, self._watch, self._first, self.relayed, self._kernel)
        for each in (*own, self.diary, self._status, *rest):
            each.close()

    def start(self) -> None:
        """Take up what an earlier process left, and go on from there."""
        self._look(first=True)
        self._deciding.decide()
        self._rest()

    def turn(self) -> None:
        """Wait for something to happen, and do what follows."""
        readable = self._wait()
        now = time.monotonic()
        self._notice(readable, now)
        if now >= self._look_at:
            self._deciding.is_moved = True
            self._look()
        self._deciding.decide(is_due=True)
        now = time.monotonic()
        is_news = bool(readable) or self._deciding.is_moved or now >= self._due
        if self._telling.is_time(now, is_news=is_news):
            self._tell(readable, now)
            self._rest()

    @property
    def _wish(self) -> Wish:
        return self._upkeep.wish

    @property
    def _state(self) -> State:
        return self._deciding.state

    # What there is.

    def _rest(self) -> None:
        """Note what to wait for, and until when: it stays so until somebody has something to do."""
        parts = (self._nearby, self._gossip, self._outside, self._names)
        more = (self._signals, self.relayed, self._streams, self._sessions, self._renewal)
        own = (self._events, self._watch, self._first, self._status, *self.relayed.sockets())
        self._parts_due = min(each.due() for each in (*parts, *more, self.known, self._guide))
        self._probers = frozenset(e.prober.fileno() for e in self._interfaces.up.values())
        readers = (*self._probers, *(each.fileno() for each in own))
        sockets = (pair for each in parts for pair in each.sockets())
        self._waiting.watch(dict.fromkeys(readers, select.POLLIN) | dict(sockets))

    def _wait(self) -> set[int]:
        """Wait until something can be read or is due; return what can be read, but for links."""
        self._due = min(self._look_at, self._wish_at, self._telling.due, self._parts_due)
        due = -math.inf if self._deciding.observed else min(self._state.wake, self._due)
        return self._waiting.wait(due) - self._probers

    def _notice(self, readable: set[int], now: float) -> None:
        """Take in what can be read, but for what comes by links: that has to be the last."""
        if self._waiting.has_slept():
            self._deciding.observed.append(Resumed(at=now))
            self._look_soon(now)
            self._nearby.ask(now)
        if not readable and now < self._due:
            return
        try:
            if self._events.fileno() in readable and self._is_news():
                self._look_soon(now)
            if self._watch.fileno() in readable and self._watch.gone():
                self._forget_tables(now)
            if self._watch.others_came():
                self._upkeep.forget_ports()
                self._look_soon(now + TRY_AGAIN)
        except OverrunError:
            self._forget_tables(now)
            self._upkeep.forget_ports()
        if self._first.fileno() in readable:
            self._told(self._first.addresses(), now)
        if self._nearby.hear(readable, now):
            self._wish_soon(now)
        self._deciding.observed += self._nearby.called
        self._nearby.called.clear()
        if self._status.fileno() in readable:
            self._status.turn(partial(answer, self))

    def _forget_tables(self, now: float) -> None:
        """Have the firewall's tables made anew: somebody took one away, or may have."""
        self._upkeep.forget_guard()
        self.relayed.forget_table()
        self._look_soon(now)

    def _is_news(self) -> bool:
        """Whether a change is somebody else's doing, and so may matter."""
        return any(event.port != self._kernel.port for event in self._events.read())

    def _look_soon(self, now: float) -> None:
        self._look_at = min(self._look_at, max(now, self._looked + LOOK_EVERY))

    def _told(self, addresses: list[IPv4Address | IPv6Address], now: float) -> None:
        """Note who talks, by the addresses in the first packets."""
        self._guide.told(addresses, self._wish, now)
        for name, member in self._wish.peers.items():
            if member.address in addresses or (member.alias and member.alias in addresses):
                self._deciding.observed.append(Traffic(peer=name, at=now))

    # What is wanted.

    def _look(self, *, first: bool = False) -> None:
        """Look at this machine's network, and have all that follows from it."""
        self._looked = time.monotonic()
        self._look_at = math.inf
        try:
            self._deciding.observed += self._here.look(self._looked)
            if not first:
                self._deciding.decide()  # what is lost is left before anything else is done
            self._here.settle(
                self._interfaces,
                relayed=self.known.has_relays,
                hops=labels.may_be(self.known.content.identities),
            )
            self._nearby.settle(
                self._here.attachments, self._here.slots, self._here.moved, self._looked
            )
            self._gossip.settle(self._interfaces.up)
            self._signals.forget(self._here.moved)
            if first:
                paths = self._upkeep.found(self._looked)
                self._deciding.state = State(
                    pairs={name: Pair(path=path, mtu=LADDER[0]) for name, path in paths.items()}
                )
            self._upkeep.settle(self._upkeep.desire(), self._state.pairs)
            self._look_at = min(self._look_at, self._here.due())
            if self._here.look_what_costs():
                self._look_soon(time.monotonic())
            self._last_fault = ""
        except (OSError, StepError) as fault:
            if str(fault) != self._last_fault:
                self._say(f"{fault}; trying again")
            self._last_fault = str(fault)
            self._look_at = time.monotonic() + TRY_AGAIN

    def _wish_soon(self, now: float) -> None:
        """Have what follows from something new about others: once for much that comes at once."""
        self._wish_at = min(self._wish_at, max(now, self._wished + WISH_EVERY))

    def _wish_again(self, now: float) -> None:
        self._wish_at, self._wished = math.inf, now
        try:
            self._upkeep.again(self._state.pairs)
        except (OSError, StepError):
            self._look_soon(now)  # which says what is the matter

    def _tell(self, readable: set[int], now: float) -> None:
        """Go on with what is told and asked, and have what follows from what is new."""
        self._deciding.is_moved = False
        self._outside.turn(readable, self._signals.here(), now)
        self._names.turn(readable, self._state.pairs, now)
        self._gossip.turn(self._interfaces.up, readable, now)
        self._signals.turn(self._wish, self._state.pairs, now)
        self._guide.turn(self._wish, self._state.pairs, now)
        self._deciding.observed += self.relayed.turn(readable, self._state.pairs, now)
        self._deciding.observed += self._renewal.turn(self._wish, self._state.pairs, now)
        if self._here.relayed != self.known.has_relays or self._here.outdated:
            self._look_soon(now)
        versions = self._versions()
        if versions != self._seen:
            before, self._seen = self._seen, versions
            self._wish_soon(now)
            if versions[0] != before[0]:
                self._wish_at = now  # who was removed is cut off at once
                self._gossip.carry(now)
                self._look_soon(now)
                self._nearby.ask(now)
        if now >= self._wish_at:
            self._wish_again(now)
            self._deciding.decide()
        self.known.keep_soon(now)
        self.diary.write()
        self._sessions.turn((each.wireguard for each in self._interfaces.up.values()), now)
        for name in self._gossip.wake(self._wish, self._state, now):
            self._deciding.observed.append(Called(peer=name, at=now))
        for each in (self._signals.observed, self._guide.observed):
            self._deciding.observed += each
            each.clear()
        self._deciding.observed += self._streams.turn(self._wish, self._state.pairs, now)
        self._deciding.decide()
        self._gossip.follow(self._wish, self._state, self._interfaces.up, now)
        self._nearby.turn(now)

    def _versions(self) -> tuple[object, ...]:
        """Return what changes with what is known of others; first, with the map."""
        parts = (self.known, self._signals, self.relayed, self._guide, self._names)
        return self.known.maps, *(each.version for each in parts)

    # What is to be done.

    def _hear(self, pairs: Mapping[str, Pair]) -> bool:
        """Take in what came by links; say whether there was more than what tells of them."""
        is_more = self._hearing.turn(self._wish, pairs)
        self._deciding.observed += self._hearing.observed
        self._hearing.observed.clear()
        return is_more

    def _carry_out(self, action: Action) -> None:
        try:
            match action:
                case Send(link=link, message=message, size=size):
                    data = wire.encode(message, size=max(0, size - INSIDE))
                    self._interfaces.send(link, data)
                case SetRoute(peer=peer, link=link, mtu=mtu):
                    self._upkeep.lead(peer, link, mtu)
                case SetEndpoint(link=link, endpoint=endpoint):
                    self.relayed.look(link, endpoint, time.monotonic())
                case SetKeepalive(link=link, every=every):
                    self._interfaces.hold(link, every)
                case ReadCounters(link=link):
                    self._count(link)
                case Call(peer=peer):
                    now = time.monotonic()
                    self._nearby.call(self._wish.peers[peer].identity, now)
                    self._signals.call(peer, self._wish, self._state.pairs, now)
                case Decision(peer=peer, what=what, why=why):
                    self._say(f"{peer}: {what}: {why}")
        except OSError as fault:
            # The interface is going, or its daemon: a look finds out, and makes it anew.
            self._say(f"{type(action).__name__}: {fault}")
            self._look_soon(time.monotonic() + LOOK_EVERY)

    def _count(self, link: LinkId) -> None:
        received = self._interfaces.received(link)
        if received is not None:
            now = time.monotonic()
            self._deciding.observed.append(Counters(link=link, received=received, at=now))

    # What is asked.

    def scene(self) -> Scene:
        """Return all that there is to see now. Raises OSError."""
        return Scene(
            wish=self._wish,
            state=self._state,
            held=self.known.held,
            attachments=self._here.attachments,
            slots=self._here.slots,
            seen=self._signals.seen(),
            mapped=self._outside.mapped,
            verified=self._outside.verified,
            endpoints=self._interfaces.endpoints(),
            has=self._gossip.has,
            why=self.diary.why,
            fault=self._last_fault,
            offers=self.relayed.offers,
            now=time.monotonic(),
        )

    def want(self, event: Traffic) -> None:
        """Have a peer looked for at once, as its traffic would."""
        self._deciding.observed.append(event)
