"""The agent of a machine: it observes, has `step` decide, and carries out what is to be done.

One process, one thread, no wait but for the next thing to happen. It may be killed at any moment:
interfaces, addresses and routes stay as they are, and the next one takes them up.
"""

from __future__ import annotations

import math
import select
import time
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

from clan.machine.system import StepError
from clan.mesh import announce, identity, seal, slots, wire
from clan.mesh.agent import uplinks
from clan.mesh.agent.firewall import GROUP, Watch
from clan.mesh.agent.ground import Ground, Way
from clan.mesh.agent.interfaces import Interfaces, PortTakenError
from clan.mesh.agent.kernel import Events, Kernel
from clan.mesh.agent.lans import Lans
from clan.mesh.agent.netlink import OverrunError
from clan.mesh.agent.nflog import FirstPackets
from clan.mesh.agent.report import report
from clan.mesh.agent.status import Status
from clan.mesh.chart import links
from clan.mesh.chart.links import LinkRecord
from clan.mesh.chart.store import Store
from clan.mesh.desire import Known, Sight, Wish, desire
from clan.mesh.errors import MeshError
from clan.mesh.exchange import (
    Call,
    Called,
    Counters,
    Decision,
    Desired,
    ReadCounters,
    Received,
    Resumed,
    Send,
    SetEndpoint,
    SetRoute,
    Traffic,
    UplinkChanged,
)
from clan.mesh.pair import Pair
from clan.mesh.records import Records
from clan.mesh.step import State, step

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv4Address, IPv6Address

    from clan.mesh.agent.lan import Announcement, Lan
    from clan.mesh.agent.setting import Setting
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.exchange import Action, Event
    from clan.mesh.link import LinkId
    from clan.mesh.slots import Own

INSIDE = 48
"""Bytes of the IPv6 and UDP headers of a message inside a link."""
LOOK_EVERY = 0.05
"""Seconds between two looks at this machine's network, when one change follows another."""
TRY_AGAIN = 5.0
"""Seconds until something that could not be had is tried again."""
MOST_SIGHTS = 4
"""Places at which one machine is held to have been heard on one LAN."""
ASLEEP = 2.0
"""Seconds by which the clock that counts sleep gains on the other when the machine slept."""
ROUNDS = 4
"""Steps in a row that may follow from each other, before other things are looked at."""


class _Readable(Protocol):
    def fileno(self) -> int: ...


class Agent:
    """The agent. `say` writes a line for people. Raises OSError, MeshError where it cannot be."""

    def __init__(self, setting: Setting, say: Callable[[str], None]) -> None:
        self._setting = setting
        self._say = say
        self._key = identity.read(setting.identity)
        setting.state.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._store = Store(setting.state, setting.root)
        self._held = self._store.held()
        self._records = Records(setting.state / "records")
        self._known_slots = self._read_slots()
        self._own: tuple[Own, ...] = ()
        self._kernel = Kernel()
        self._events = Events()
        self._watch = Watch()
        self._first = FirstPackets(GROUP)
        self._interfaces = Interfaces(self._kernel, self._key.public, say)
        self._ground = Ground(self._kernel, setting.prefix, setting.state / "opened.json")
        self._lans = Lans(self._payload)
        self._status = Status(setting.socket)
        self._attachments: tuple[Attachment, ...] = ()
        self._metered: frozenset[str] = frozenset()
        self._sights: tuple[Sight, ...] = ()
        self._wish = Wish(desired=Desired(name=""))
        self._state = State()
        self._observed: list[Event] = []
        self._wanted: set[bytes] = set()
        self._look_at = -math.inf
        self._looked = -math.inf
        self._slept = _slept()
        self._last_fault = ""

    def close(self) -> None:
        """Let go of everything; what was made in the kernel stays."""
        self._interfaces.close()
        self._lans.close()
        for each in (self._events, self._watch, self._first, self._status, self._kernel):
            each.close()

    def start(self) -> None:
        """Take up what an earlier process left, and go on from there."""
        self._take_records()
        self._look()
        paths = self._interfaces.paths(self._wish)
        self._state = State(pairs={name: Pair(path=path) for name, path in paths.items()})
        self._decide()

    def turn(self) -> None:
        """Wait for something to happen, and do what follows."""
        readable = self._wait()
        now = time.monotonic()
        self._notice(readable, now)
        if now >= self._look_at:
            self._look()
        for interface in self._interfaces.up.values():
            self._hear(interface.own.id)
        self._decide()
        self._lans.turn(time.monotonic())

    def reload(self) -> None:
        """Look at the map on the disk anew: somebody gave this machine another one."""
        self._held = self._store.held()
        self._take_records()
        self._wish_again()
        self._lans.ask(time.monotonic())

    # What there is.

    def _wait(self) -> set[int]:
        """Wait until something can be read or is due; return what can be read."""
        readers: list[_Readable] = [self._events, self._watch, self._first, self._status]
        readers += [each for _, each in self._lans.sockets()]
        readers += [each.prober for each in self._interfaces.up.values()]
        poll = select.poll()
        for each in readers:
            poll.register(each.fileno(), select.POLLIN)
        due = min(self._state.wake, self._look_at, self._lans.due())
        left = max(0.0, due - time.monotonic())
        # Rounded up: woken a little too early, it would ask and find nothing to do.
        found = poll.poll(None if math.isinf(left) else math.ceil(left * 1000))
        return {descriptor for descriptor, _ in found}

    def _notice(self, readable: set[int], now: float) -> None:
        """Take in what can be read, but for what comes by links: that has to be the last."""
        slept = _slept()
        if slept - self._slept > ASLEEP:
            self._observed.append(Resumed(at=now))
            self._look_soon(now)
            self._lans.ask(now)
        self._slept = slept
        try:
            if self._events.fileno() in readable and self._is_news():
                self._look_soon(now)
            if self._watch.fileno() in readable and self._watch.gone():
                self._ground.forget_guard()
                self._look_soon(now)
        except OverrunError:
            self._ground.forget_guard()
            self._look_soon(now)
        if self._first.fileno() in readable:
            self._told(self._first.addresses(), now)
        for uplink, lan in list(self._lans.sockets()):
            if lan.fileno() in readable:
                self._overhear(uplink, lan, now)
        if self._status.fileno() in readable:
            self._status.turn(self._answer)

    def _is_news(self) -> bool:
        """Whether a change is somebody else's doing, and so may matter."""
        return any(event.port != self._kernel.port for event in self._events.read())

    def _look_soon(self, now: float) -> None:
        self._look_at = min(self._look_at, max(now, self._looked + LOOK_EVERY))

    def _told(self, addresses: list[IPv4Address | IPv6Address], now: float) -> None:
        """Note who talks, by the addresses in the first packets."""
        for name, member in self._wish.peers.items():
            if member.address in addresses or (member.alias and member.alias in addresses):
                self._observed.append(Traffic(peer=name, at=now))

    def _hear(self, own: str) -> None:
        """Take in what came by the links of an interface."""
        each = self._interfaces.up[own]
        by = {remote.address: link for link, remote in each.remotes.items()}
        try:
            heard = each.prober.receive()
        except OSError:  # it was taken away
            self._look_soon(time.monotonic())
            return
        for datagram in heard:
            link = by.get(datagram.source)
            if link is None:
                continue
            try:
                message = wire.decode(datagram.data)
            except wire.WireError as fault:
                self._say(f"{link}: {fault}")
                continue
            if message is not None:
                size = len(datagram.data) + INSIDE
                self._observed.append(
                    Received(link=link, message=message, at=datagram.at, size=size)
                )

    # What is wanted.

    def _look(self) -> None:
        """Look at this machine's network, and have all that follows from it."""
        self._looked = time.monotonic()
        self._look_at = math.inf
        try:
            before = self._attachments
            self._attachments = self._look_around()
            self._compare(before)
            self._decide()
            self._settle_slots()
            self._lans.settle(self._attachments, time.monotonic())
            self._publish()
            self._wish_again(anyway=True)
            metered = uplinks.metered()
            if metered != self._metered:
                self._metered = metered
                self._look_soon(time.monotonic())
            self._last_fault = ""
        except (OSError, StepError) as fault:
            if str(fault) != self._last_fault:
                self._say(f"{fault}; trying again")
            self._last_fault = str(fault)
            self._look_at = time.monotonic() + TRY_AGAIN

    def _look_around(self) -> tuple[Attachment, ...]:
        interfaces = self._kernel.interfaces().values()
        ours = {each.name for each in interfaces if each.name.startswith(slots.NAMES)}
        return tuple(
            uplinks.attachments(
                interfaces,
                self._kernel.addresses(),
                self._kernel.routes(),
                self._metered,
                ours,
            )
        )

    def _compare(self, before: tuple[Attachment, ...]) -> None:
        """Tell what became of uplinks, and forget who was heard on a LAN that is another one."""
        known = {each.name: each for each in before}
        now = time.monotonic()
        changed = set()
        for each in self._attachments:
            old = known.get(each.name)
            up = each.works and bool(each.addresses)
            was_up = old is not None and old.works and bool(old.addresses)
            other = old is not None and _where(old) != _where(each)
            if up != was_up or (up and other):
                self._observed.append(UplinkChanged(uplink=each.name, up=up, at=now))
            if other and up and old is not None and old.addresses:
                changed.add(each.name)
        names = {each.name for each in self._attachments}
        self._sights = tuple(
            each for each in self._sights if each.uplink in names and each.uplink not in changed
        )

    def _settle_slots(self) -> None:
        """Have an interface for each slot that there is now."""
        there = slots.present(self._known_slots, self._attachments)
        settled = slots.settle(self._known_slots, there, slots.drawn())
        self._remember(settled)
        for _ in range(ROUNDS):
            self._own = slots.in_use(self._known_slots, set(there))
            try:
                self._interfaces.have(self._own, self._attachments)
            except PortTakenError as fault:
                self._say(f"{fault.own.interface}: {fault}; it gets another one")
                fresh = next(slots.drawn())
                self._remember(slots.moved(self._known_slots, fault.own, fresh.port, ()))
            else:
                return

    def _remember(self, settled: tuple[Own, ...]) -> None:
        if settled != self._known_slots:
            slots.keep(self._setting.state / "slots", settled)
            self._known_slots = settled

    def _read_slots(self) -> tuple[Own, ...]:
        try:
            return slots.load(self._setting.state / "slots")
        except MeshError as fault:
            self._say(f"{fault}: all interfaces get new keys and ports")
            return ()

    def _take_records(self) -> None:
        content = self._held.view.content
        if self._records.take_all(content.machines):
            self._records.keep(content.identities | {self._key.public})

    def _publish(self) -> None:
        """Sign what others are to know of the interfaces, when it has changed."""
        mine = self._records.held.get(self._key.public)
        interfaces = tuple(own.published for own in self._own)
        if mine is not None and mine.interfaces == interfaces:
            return
        serial = max((mine.serial if mine else 0) + 1, int(time.time()))
        record = LinkRecord(identity=self._key.public, serial=serial, interfaces=interfaces)
        self._records.take(self._key.public, links.publish(record, self._key).raw)
        self._records.keep(self._held.view.content.identities | {self._key.public})
        self._lans.ask(time.monotonic())

    def _wish_again(self, *, anyway: bool = False) -> None:
        """Work out what is wanted now, and let in who is wanted. Raises OSError, StepError."""
        wish = desire(
            Known(
                identity=self._key.public,
                prefix=self._setting.prefix,
                view=self._held.view,
                records=self._records.held,
                own=self._own,
                attachments=self._attachments,
                sights=self._sights,
            )
        )
        if wish == self._wish and not anyway:
            return
        self._wish = wish
        self._interfaces.admit(wish, self._paths())
        self._ground.settle(wish, self._interfaces.up.values(), self._attachments, self._ways())

    def _paths(self) -> dict[str, LinkId]:
        return {name: pair.path for name, pair in self._state.pairs.items() if pair.path}

    def _ways(self) -> dict[str, Way]:
        """Return where the routes lead by what was decided last."""
        return {
            name: Way(index=self._interfaces.up[pair.path.own].index, mtu=pair.mtu)
            for name, pair in self._state.pairs.items()
            if pair.path is not None and pair.path.own in self._interfaces.up
        }

    # What others call out.

    def _payload(self, uplink: str, asks: bool, whole: bool) -> bytes | None:
        """Return what this machine calls out on an uplink's LAN."""
        secrets = self._held.view.content.secrets
        mine = self._records.held.get(self._key.public)
        top = self._held.top
        if not secrets or mine is None or top is None:
            return None
        own = (e for e in self._own if e.slot.uplink == uplink and e.slot.kind == "lan")
        call = announce.Call(
            identity=self._key.public,
            at=next((each.id for each in own), ""),
            serial=mine.serial,
            record=mine.raw if whole else b"",
            map=top.order,
            asks=asks,
            calls=tuple(sorted(self._wanted))[: announce.MOST_CALLED],
        )
        return seal.announce(secrets[0].key, announce.write(call))

    def _overhear(self, uplink: str, lan: Lan, now: float) -> None:
        changed = [self._take_call(uplink, each, now) for each in self._lans.heard(lan)]
        if any(changed):
            try:
                self._wish_again()
            except (OSError, StepError):
                self._look_soon(now)  # which says what is the matter

    def _take_call(self, uplink: str, announcement: Announcement, now: float) -> bool:
        """Take in what was called out; say whether somebody may be found elsewhere now."""
        content = self._held.view.content
        opened = seal.recognise(content.secrets, announcement.data, time.time())
        if opened is None or not opened.is_current or not opened.payload:
            return False
        try:
            call = announce.read(opened.payload)
            if call.identity == self._key.public or call.identity not in content.identities:
                return False
            newer = bool(call.record) and self._records.take(call.identity, call.record)
        except MeshError as fault:
            self._say(f"a call from {announcement.source}: {fault}")
            return False
        if newer:
            self._records.keep(content.identities | {self._key.public})
        held = self._records.held.get(call.identity)
        if call.asks:
            self._lans.answer(uplink, now)
        elif held is None or held.serial < call.serial:
            self._lans.ask(now)
        if self._key.public in call.calls:
            name = next(e.name for e in content.machines if e.identity == call.identity)
            self._observed.append(Called(peer=name, at=now))
        sight = Sight(
            identity=call.identity,
            uplink=uplink,
            interface=call.at,
            address=announcement.source,
            at=now,
        )
        return self._see(sight) or newer

    def _see(self, sight: Sight) -> bool:
        """Note where somebody was heard; say whether that is new."""
        same = [
            each
            for each in self._sights
            if (each.identity, each.uplink) == (sight.identity, sight.uplink)
        ]
        before = [replace(each, at=sight.at) for each in same]
        others = tuple(each for each in self._sights if each not in same)
        known = [each for each, as_now in zip(same, before, strict=True) if as_now != sight]
        self._sights = (sight, *known[: MOST_SIGHTS - 1], *others)
        return sight not in before

    # What is to be done.

    def _decide(self) -> None:
        """Have `step` say what follows from what was observed, and do it."""
        for _ in range(ROUNDS):
            now = time.monotonic()
            observed = sorted(self._observed, key=lambda event: event.at)
            self._observed = []
            is_new = self._wish.desired is not self._state.desired
            if not observed and not is_new and now < self._state.wake:
                return
            self._state, actions = step(self._state, self._wish.desired, observed, now)
            for action in actions:
                self._carry_out(action)

    def _carry_out(self, action: Action) -> None:
        try:
            match action:
                case Send(link=link, message=message, size=size):
                    data = wire.encode(message, size=max(0, size - INSIDE))
                    self._interfaces.send(link, data)
                case SetRoute(peer=peer, link=link, mtu=mtu):
                    index = self._interfaces.lead(link, self._wish.peers[peer])
                    self._ground.lead(self._wish, peer, Way(index=index, mtu=mtu))
                case SetEndpoint(link=link, endpoint=endpoint):
                    self._interfaces.look(link, endpoint)
                case ReadCounters(link=link):
                    received = self._interfaces.received(link)
                    if received is not None:
                        now = time.monotonic()
                        self._observed.append(Counters(link=link, received=received, at=now))
                case Call(peer=peer):
                    self._wanted.add(self._wish.peers[peer].identity)
                    self._lans.call(time.monotonic())
                    self._lans.turn(time.monotonic())
                    self._wanted.clear()
                case Decision(peer=peer, what=what, why=why):
                    self._say(f"{peer}: {what}: {why}")
        except OSError as fault:
            # The interface is going, or its daemon: a look finds out, and makes it anew.
            self._say(f"{type(action).__name__}: {fault}")
            self._look_soon(time.monotonic() + LOOK_EVERY)

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        match question.get("ask"):
            case "status":
                return report(self._wish, self._state, self._held, time.monotonic())
            case "reload":
                try:
                    self.reload()
                except (OSError, StepError) as fault:
                    return {"error": str(fault)}
                return {}
        return {"error": f"this agent does not know {question.get('ask')!r}"}


def _slept() -> float:
    """Return the seconds that this machine has slept since it was booted."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()


def _where(each: Attachment) -> object:
    """Return what says that an uplink is still in the same network."""
    return each.index, frozenset(each.addresses), {route.gateway for route in each.defaults}
