"""A small network on no computer: it stands where the real world stands, behind `exchange`.

Links with delay, jitter, loss, queues, cuts in one direction or both, translations that forget,
and WireGuard's sessions: a handshake before data, retried after five seconds, renewed after two
minutes. Messages cross it as the bytes that `wire` makes. Deterministic by its seed.
"""

from __future__ import annotations

import heapq
import itertools
import math
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from clan.mesh import wire
from clan.mesh.exchange import (
    TRAFFIC_EVERY,
    Action,
    Call,
    Called,
    Counters,
    Decision,
    Desired,
    Event,
    Peer,
    ReadCounters,
    Received,
    Send,
    SetEndpoint,
    SetKeepalive,
    SetRoute,
    Traffic,
    UplinkChanged,
)
from clan.mesh.link import Endpoint, Kind, Link, LinkId, Slot, Uplink
from clan.mesh.step import State, step

if TYPE_CHECKING:
    from collections.abc import Callable

INSIDE = 48
"""IPv6 and UDP headers of a message inside a link."""
OUTSIDE = 32 + 8 + 40 + 14
"""What WireGuard, UDP, IPv6 and Ethernet put around it."""
INITIATION, RESPONSE, KEEPALIVE = 148 + 62, 92 + 62, 32 + 62
RETRY, RENEW, REJECT = 5.0, 120.0, 180.0


def on_the_wire(inner: int) -> int:
    """Return the bytes on an Ethernet for a packet inside: WireGuard pads it to 16."""
    return -(-inner // 16) * 16 + OUTSIDE


class Queue:
    """A congested uplink: other people's packets fill and drain a queue of at most a second."""

    def __init__(self, rng: random.Random, *, most: float = 1.0) -> None:
        self.rng = rng
        self.most = most
        self.length = 0.5 * most
        self.at = 0.0
        self.until = 0.0
        self.rate = 1.0

    def enter(self, now: float) -> float | None:
        """Return how long a packet that enters now waits; None if the queue is full."""
        while self.at < now:
            end = min(now, self.until)
            self.length = min(self.most, max(0.0, self.length + (self.rate - 1) * (end - self.at)))
            self.at = end
            if self.at >= self.until:
                # From draining to a burst that fills the whole queue in an eighth of a second.
                self.rate = self.rng.choice([0.3, 0.7, 0.95, 1.0, 1.05, 1.5, 3.0, 9.0])
                self.until = self.at + self.rng.expovariate(1.0)
        full = self.length >= self.most and self.rate > 1
        if full and self.rng.random() < 1 - 1 / self.rate:
            return None
        return self.length


@dataclass
class Pipe:
    """What lies between the two ends of a link."""

    delay: float
    """One way, in seconds."""
    jitter: float = 0.0
    loss: float = 0.0
    """Of packets, in each direction."""
    cut: set[str] = field(default_factory=set)
    """Senders whose packets vanish."""
    widest: int = 9000
    """Bytes of packets inside that pass; larger ones vanish without a word."""
    queues: dict[str, Queue] = field(default_factory=dict)
    """By sender."""
    behind: str = ""
    """An end that is behind a translation: it has to send before it can be sent to."""
    memory: float = math.inf
    """Seconds for which the translation remembers."""
    opened: float = -math.inf
    where: dict[str, Endpoint] = field(default_factory=dict)
    """By sender: the only place where the other end is to be found."""
    last: dict[str, float] = field(default_factory=dict)

    def cross(self, world: World, sender: str, inner: int) -> float | None:
        """Return when a packet sent now arrives, or None."""
        now, rng = world.now, world.rng
        if sender == self.behind:
            self.opened = now
        elif self.behind and now - self.opened > self.memory:
            return None
        queue = self.queues.get(sender)
        wait = queue.enter(now) if queue else 0.0
        if wait is None or sender in self.cut or inner > self.widest or rng.random() < self.loss:
            return None
        arrives = now + self.delay + wait + rng.random() * self.jitter
        arrives = max(arrives, self.last.get(sender, 0.0) + 1e-6)
        self.last[sender] = arrives
        return arrives


@dataclass
class Tunnel:
    """WireGuard's session on one link, as one end sees it."""

    since: float = -math.inf
    tried: float = -math.inf
    waiting: list[tuple[object, int]] = field(default_factory=list)
    received: int = 0
    began: bool = False
    keepalive: int = 0
    sent: float = -math.inf
    place: Endpoint | None = None


class Node:
    """A machine: its agent's state, its route to each peer and its tunnels."""

    def __init__(self, world: World, name: str) -> None:
        self.world = world
        self.name = name
        self.state = State()
        self.desired = Desired(name=name)
        self.routes: dict[str, tuple[LinkId, int]] = {}
        self.tunnels: dict[LinkId, Tunnel] = {}
        self.events: list[Event] = []
        self.noticed: dict[str, float] = {}
        self.decisions: list[Decision] = []
        self.steps = 0
        self.frozen_until = 0.0
        self.log: list[tuple[Desired, tuple[Event, ...], float]] | None = None
        self._due = math.inf
        self._runs = math.inf

    def tell(self, event: Event) -> None:
        self.events.append(event)
        self._run_at(self.world.now + 0.0005)

    def want(self, desired: Desired) -> None:
        self.desired = desired
        self._run_at(self.world.now)

    def notice(self, peer: str) -> None:
        if self.world.now - self.noticed.get(peer, -math.inf) >= TRAFFIC_EVERY:
            self.noticed[peer] = self.world.now
            self.tell(Traffic(peer=peer, at=self.world.now))

    def path(self, peer: str) -> LinkId:
        return self.routes[peer][0]

    def switches(self) -> list[Decision]:
        return [d for d in self.decisions if d.what.startswith("path ")]

    def _run_at(self, at: float) -> None:
        at = max(at, self.frozen_until, self.world.now)
        if at < self._runs:
            self._runs = at
            self.world.at(at, self._run)

    def _run(self) -> None:
        now = self.world.now
        if now < self._runs or self._runs == math.inf:
            return
        self._runs = math.inf
        if now < self.frozen_until:
            self._run_at(self.frozen_until)
            return
        observed, self.events = tuple(self.events), []
        if self.log is not None:
            self.log.append((self.desired, observed, now))
        self.state, actions = step(self.state, self.desired, observed, now)
        self.steps += 1
        for action in actions:
            self._act(action)
        if self.state.wake < math.inf:
            self._run_at(self.state.wake)

    def _act(self, action: Action) -> None:
        world = self.world
        match action:
            case Send():
                data = wire.encode(action.message, size=max(0, action.size - INSIDE))
                world.send(self, action.link, data, len(data) + INSIDE)
            case SetRoute():
                self.routes[action.peer] = (action.link, action.mtu)
            case SetEndpoint():
                tunnel = world.tunnel(self, action.link)
                tunnel.place = action.endpoint
                if world.now - tunnel.since > REJECT:
                    tunnel.tried = -math.inf
            case SetKeepalive():
                tunnel = world.tunnel(self, action.link)
                tunnel.keepalive = action.every
                if action.every:
                    world.hold(self, action.link, action.every)
            case ReadCounters():
                received = world.tunnel(self, action.link).received
                self.tell(Counters(link=action.link, received=received, at=world.now))
            case Call():
                event = Called(peer=self.name, at=world.now + 0.1)
                world.after(0.1, lambda: world.nodes[action.peer].tell(event))
            case Decision():
                self.decisions.append(action)


class World:
    """Machines, links and a clock."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.nodes: dict[str, Node] = {}
        self.pipes: dict[tuple[str, str], Pipe] = {}
        self.bytes: dict[str, int] = {}
        self._heap: list[tuple[float, int, Callable[[], None]]] = []
        self._count = 0

    def at(self, when: float, what: Callable[[], None]) -> None:
        self._count += 1
        heapq.heappush(self._heap, (when, self._count, what))

    def after(self, seconds: float, what: Callable[[], None]) -> None:
        self.at(self.now + seconds, what)

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while self._heap and self._heap[0][0] <= end:
            self.now, _, what = heapq.heappop(self._heap)
            what()
        self.now = end

    def node(self, name: str, *uplinks: Uplink) -> Node:
        node = self.nodes[name] = Node(self, name)
        self.bytes[name] = 0
        node.desired = Desired(name=name, uplinks={u.name: u for u in uplinks})
        return node

    def join(
        self,
        one: str,
        other: str,
        *,
        own: str,
        their: str,
        uplink: str,
        their_uplink: str,
        pipe: Pipe,
        kind: Kind = Kind.INTERNET,
        lifetime: float | None = None,
        endpoints: tuple[Endpoint, ...] = (),
        kept: tuple[str, ...] = (),
    ) -> Pipe:
        """Make a link possible between two machines; `kept` are those that hold it open."""
        for name, peer, mine, yours, out, there in (
            (one, other, own, their, uplink, their_uplink),
            (other, one, their, own, their_uplink, uplink),
        ):
            node = self.nodes[name]
            link = Link(
                id=LinkId(peer=peer, own=mine, their=yours),
                slot=Slot(uplink=out, family=6, kind=kind),
                their_uplink=there,
                lifetime=lifetime,
                endpoints=endpoints,
            )
            known = node.desired.peers.get(peer, Peer(links=()))
            peers = {
                **node.desired.peers,
                peer: Peer(links=(*known.links, link), kept=known.kept or name in kept),
            }
            node.desired = Desired(
                name=name, peers=peers, uplinks=node.desired.uplinks, avoid=node.desired.avoid
            )
        self.pipes[own, their] = self.pipes[their, own] = pipe
        return pipe

    def start(self) -> None:
        for node in self.nodes.values():
            node._run_at(self.now)

    def count(self, one: str, other: str, size: int) -> None:
        """Count bytes on the wire of both machines."""
        self.bytes[one] += size
        self.bytes[other] += size

    def tunnel(self, node: Node, link: LinkId) -> Tunnel:
        return node.tunnels.setdefault(link, Tunnel())

    def pipe(self, link: LinkId) -> Pipe:
        return self.pipes[link.own, link.their]

    def send(self, node: Node, link: LinkId, what: object, inner: int) -> None:
        """Send a packet inside a link, after a handshake if there is no session."""
        tunnel = self.tunnel(node, link)
        if node.state.down and self._slot(node, link) in node.state.down:
            return
        age = self.now - tunnel.since
        tunnel.sent = self.now
        if age > (RENEW if tunnel.began else REJECT) and self.now - tunnel.tried >= RETRY:
            tunnel.tried = self.now
            self._cross(node, link, INITIATION - OUTSIDE, lambda peer: self._respond(peer, link))
        if age > REJECT:
            tunnel.waiting = [*tunnel.waiting[-127:], (what, inner)]
            return
        self._cross(node, link, inner, lambda peer: self._arrive(peer, link, what, inner))

    def hold(self, node: Node, link: LinkId, every: int) -> None:
        """Send an empty packet when nothing was sent for so long, as WireGuard does by itself."""
        tunnel = self.tunnel(node, link)
        if tunnel.keepalive != every:
            return
        rest = tunnel.sent + every - self.now
        if rest <= 0:
            self.send(node, link, None, 0)
            rest = every
        self.after(rest, lambda: self.hold(node, link, every))

    def _cross(self, node: Node, link: LinkId, inner: int, then: Callable[[Node], None]) -> None:
        pipe = self.pipe(link)
        self.count(node.name, link.peer, on_the_wire(inner))
        place = pipe.where.get(node.name)
        if place is not None and self.tunnel(node, link).place != place:
            return
        arrives = pipe.cross(self, node.name, inner)
        peer = self.nodes[link.peer]
        if arrives is not None:
            self.at(arrives, lambda: then(peer))

    def _respond(self, peer: Node, link: LinkId) -> None:
        back = LinkId(peer=self._name_of(link, peer), own=link.their, their=link.own)
        initiator = self.nodes[back.peer]
        tunnel = self.tunnel(peer, back)
        tunnel.received += 148
        self.count(peer.name, initiator.name, KEEPALIVE)
        if peer.name in self.pipe(link).where:
            tunnel.place = self.pipe(link).where[peer.name]  # it roams to where this came from

        def respond(_: Node) -> None:
            own = self.tunnel(initiator, link)
            own.since, own.received, own.began = self.now, own.received + 92, True
            tunnel.began = False
            tunnel.since = self.now
            for node, way, ends in ((initiator, link, own), (peer, back, tunnel)):
                waiting, ends.waiting = ends.waiting, []
                for what, inner in waiting:
                    self.send(node, way, what, inner)

        self._cross(peer, back, RESPONSE - OUTSIDE, respond)

    def _name_of(self, link: LinkId, peer: Node) -> str:
        return next(
            other.id.peer
            for p in peer.desired.peers.values()
            for other in p.links
            if (other.id.own, other.id.their) == (link.their, link.own)
        )

    def _arrive(self, peer: Node, link: LinkId, what: object, inner: int) -> None:
        back = LinkId(peer=self._name_of(link, peer), own=link.their, their=link.own)
        self.tunnel(peer, back).received += inner + 32
        if isinstance(what, bytes):
            message = wire.decode(what)
            assert message is not None
            peer.tell(Received(link=back, message=message, at=self.now, size=inner))
        elif isinstance(what, Ping):
            peer.notice(back.peer)
            what.arrived(peer)

    def _slot(self, node: Node, link: LinkId) -> str:
        return next(x.slot.uplink for x in node.desired.peers[link.peer].links if x.id == link)

    def uplink(self, name: str, uplink: str, *, up: bool, after: float = 0.01) -> None:
        """Let a machine's uplink lose its carrier, or have it again; its agent hears at once."""
        node = self.nodes[name]
        for peer in node.desired.peers.values():
            for link in peer.links:
                if link.slot.uplink == uplink:
                    cut = self.pipe(link.id).cut
                    for end in (name, link.id.peer):
                        (cut.discard if up else cut.add)(end)
        self.after(after, lambda: node.tell(UplinkChanged(uplink=uplink, up=up, at=self.now)))

    def stable(self, node: Node, peer: str, what: Ping, size: int) -> None:
        """Send a packet to a peer's stable address, by the route as it is now."""
        node.notice(peer)
        if peer in node.routes:
            link, mtu = node.routes[peer]
            if size <= mtu:
                self.send(node, link, what, size)
            else:
                what.too_big += 1


class Ping:
    """Fifty pings a second from one machine to another, and when each was answered."""

    def __init__(
        self, world: World, one: str, other: str, *, every: float = 0.02, size: int = 104
    ) -> None:
        self.world, self.one, self.other = world, one, other
        self.every, self.size = every, size
        self.sent = 0
        self.replies: list[float] = []
        self.too_big = 0
        self.on = True
        world.after(0.0, self._send)

    def _send(self) -> None:
        if self.on:
            self.sent += 1
            self.world.stable(self.world.nodes[self.one], self.other, self, self.size)
            self.world.after(self.every, self._send)

    def arrived(self, node: Node) -> None:
        if node.name == self.other:
            self.world.stable(node, self.one, self, self.size)
        else:
            self.replies.append(self.world.now)

    def gap(self, since: float, until: float) -> float:
        """Return the longest time without a reply between two moments."""
        times = [t for t in self.replies if since <= t <= until]
        before = [t for t in self.replies if t < since]
        times = [before[-1] if before else since, *times, until]
        return max(b - a for a, b in itertools.pairwise(times))


def two_ways(
    seed: int, *, trip: float = 0.02, jitter: float = 0.002, loss: float = 0.0
) -> tuple[World, Node, Node, list[Pipe]]:
    """Return two machines with two independent ways between them."""
    world = World(seed)
    wired, radio = Uplink(name="eth0", index=2), Uplink(name="wlan0", index=3)
    one = world.node("anna", wired, radio)
    other = world.node("nas", wired, radio)
    pipes = [
        world.join(
            "anna",
            "nas",
            own=f"0000a00{n}",
            their=f"0000b00{n}",
            uplink=uplink,
            their_uplink=uplink,
            pipe=Pipe(delay=trip / 2, jitter=jitter, loss=loss),
        )
        for n, uplink in ((1, "eth0"), (2, "wlan0"))
    ]
    world.start()
    return world, one, other, pipes
