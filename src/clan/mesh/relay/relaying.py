"""All of an agent that has to do with relays: it hears, has the pure parts decide, and sends.

As a member it registers the links that are looked for with their relays. As a relay it takes
registrations. The agent says what there is (`settle`), which links are looked for (`look`), and
gives this its turn; it is told which links can be used now, and who calls.
"""

from __future__ import annotations

import contextlib
import math
import secrets
import socket
import time
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh import identity
from clan.mesh.agent import marks
from clan.mesh.agent.nflog import LogGroup
from clan.mesh.chart.links import Reached
from clan.mesh.link import Endpoint, LinkId
from clan.mesh.relay import message, offer, post, seat, table
from clan.mesh.relay.desk import Asked
from clan.mesh.relay.host import Host
from clan.mesh.relay.message import Answer, Ask, Call, Tried, Try
from clan.mesh.relay.pick import FEW
from clan.mesh.relay.ports import DOOR, PORT, PORTS, SEATS
from clan.mesh.relay.wish import Clan, wants

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
    from ipaddress import IPv4Network, IPv6Address, IPv6Network
    from pathlib import Path

    from clan.mesh.agent.nflog import Packet
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.chart.content import Content, Machine
    from clan.mesh.chart.forks import View
    from clan.mesh.chart.links import LinkRecord
    from clan.mesh.identity import Key
    from clan.mesh.relay.message import Heard, Message
    from clan.mesh.slots import Own

LONGEST = 2048
"""Bytes of a message, with its headers."""
TRY_EVERY = 0.5
"""Seconds between two things that are sent somewhere because one member asked for it."""
_FREEBIND = 78
"""IPV6_FREEBIND (linux/in6.h): an address that comes in a moment will do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Around:
    """What there is: the map that holds, the records, and this machine's slots and uplinks."""

    view: View
    records: Mapping[bytes, LinkRecord]
    own: tuple[Own, ...]
    attachments: tuple[Attachment, ...]
    nat64: IPv6Network | None = None
    """Where a NAT64 has IPv4, if there is one."""
    mapped: tuple[Endpoint, ...] = ()
    """Where routers lead to the first of this machine's seats, and to some after it."""

    @property
    def content(self) -> Content:
        """What the map says."""
        return self.view.content


class Relaying:
    """An agent's. `folder` is gone at the next boot. Raises OSError where the kernel lacks a part.

    `ready` and `called` are filled by `turn`, and emptied by who reads them.
    """

    def __init__(
        self, key: Key, prefix: IPv6Network, folder: Path, opened: Path, say: Callable[[str], None]
    ) -> None:
        self._key = key
        self._say = say
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._group = LogGroup(table.GROUP, LONGEST)
        self._prefix = prefix
        self._socket = _socket(identity.address(prefix, key.public))
        self._host = Host(key.public, self._joins, folder, opened, say)
        self._scene: Around | None = None
        self._clan = Clan(machines={}, records={})
        self._here = ""
        self._wanted: dict[LinkId, None] = {}
        self._awake: frozenset[str] = frozenset()
        self._seats = seat.State()
        self.offers = offer.State()
        self._tried: dict[bytes, float] = {}
        self.ready: list[tuple[LinkId, Endpoint]] = []
        """Links whose datagrams are passed on now, and were not before."""
        self.called: list[str] = []
        """Machines that want to talk or are told of one, by name."""

    def close(self) -> None:
        """Let go; what the kernel passes on, it passes on."""
        self._group.close()
        self._socket.close()
        self._host.close()

    def sockets(self) -> list[LogGroup | socket.socket]:
        """Return what to wait on."""
        return [self._group, self._socket]

    def due(self) -> float:
        """Return when `turn` has something to do though nothing can be read."""
        offers = self.offers.due if self._awake else math.inf
        return min(self._seats.due, self._host.due, offers)

    @property
    def places(self) -> tuple[Reached, ...]:
        """Where this machine can be a relay, as members elsewhere have shown."""
        mapped = self._scene.mapped if self._scene else ()
        return tuple(
            Reached(host=each.host, port=each.port, seats=FEW if each in mapped else SEATS)
            for each in offer.reached(self.offers, time.monotonic())
        )

    def endpoints(self) -> dict[LinkId, Endpoint]:
        """Return where the datagrams of links that are relayed go."""
        return {link: each.endpoint for link, each in self._seats.seats.items()}

    def settle(self, scene: Around, now: float) -> None:
        """Have what follows from what there is. Raises OSError, StepError."""
        self._scene = scene
        self._clan = Clan.of(scene.content.machines, scene.records)
        here = (m.name for m in scene.content.machines if m.identity == self._key.public)
        self._here = next(here, "")
        self._host.settle(uplinks={each.name: each.index for each in scene.attachments}, now=now)
        candidates = offer.candidates(_addresses(scene), scene.mapped)
        self.offers = offer.settle(self.offers, candidates)
        self._settle_seats()

    def forget_table(self) -> None:
        """Note that the table is not what it was: `settle` makes it anew."""
        self._host.forwarding.forget_table()

    def hurry(self) -> int:
        """Have members try at once whether they reach this machine; return how often they will."""
        self.offers = offer.hurry(self.offers, len(self._awake))
        return sum(each.hurried for each in self.offers.places.values())

    def look(self, link: LinkId, now: float) -> bool:
        """Have a link relayed from now on, or registered anew, as it is looked for.

        Says whether its datagrams pass, by the last that the relay said.
        """
        known = self._seats.seats.get(link)
        if known is not None:
            self._seats = seat.hurry(self._seats, link, now)
        elif link not in self._wanted:
            self._wanted[link] = None
            self._settle_seats()
        return known is not None and known.is_ready

    def keep(self, peers: Collection[str]) -> None:
        """Have links relayed to these peers alone, by name, and ask no other for anything.

        Nobody talks to the others, and they are not to be woken for this.
        """
        self._awake = frozenset(peers)
        gone = [link for link in self._wanted if link.peer not in peers]
        for link in gone:
            del self._wanted[link]
        if gone:
            self._settle_seats()

    def turn(self, readable: Collection[int], now: float) -> None:
        """Take in what can be read, and do what is due. Raises OSError, StepError."""
        if self._group.fileno() in readable:
            for packet in self._group.packets():
                self._hear(packet)
        if self._socket.fileno() in readable:
            self._overhear(now)
        self._seats, queries = seat.ask(self._seats, now)
        self._send_asks(queries)
        self._host.turn(now)
        if self._scene is not None and self.offers.due <= now:
            awake = [m.identity for m in self._scene.content.machines if m.name in self._awake]
            self.offers, query = offer.ask(self.offers, awake, secrets.token_bytes(16), now)
            if query is not None:
                self._tell(query)

    # As a member.

    def _settle_seats(self) -> None:
        peers = {link.peer for link in self._wanted}
        possible = [want for peer in sorted(peers) for want in self._possible(peer)]
        wanted = [want for want in possible if want.link in self._wanted]
        self._seats, farewells = seat.settle(self._seats, wanted, time.time())
        self._send_asks(farewells)

    def _possible(self, peer: str) -> Iterator[seat.Want]:
        scene = self._scene
        if scene is not None and self._here:
            for _, _, want in wants(
                self._clan,
                self._here,
                peer,
                scene.own,
                scene.attachments,
                translated=scene.nat64,
            ):
                yield want

    def _send_asks(self, queries: Iterable[seat.Query]) -> None:
        own = {each.id: each for each in self._scene.own} if self._scene else {}
        for query in queries:
            mine = own.get(query.link.own)
            if mine is not None:
                self._send(query.ask, port=mine.port, to=query.to, mark=marks.mark(mine.number))

    def _answered(self, heard: Heard, answer: Answer) -> None:
        before = self._seats
        self._seats, began = seat.take(before, heard.sender, answer)
        if began:
            self.ready += [
                (link, each.endpoint)
                for link, each in self._seats.seats.items()
                if each.is_ready and not before.seats[link].is_ready
            ]

    def _called(self, heard: Heard, call: Call, now: float) -> None:
        peer = self._machine(call.peer)
        if peer is None:
            return
        link = LinkId(peer=peer.name, own=call.own, their=call.their)
        mine = [want for want in self._possible(peer.name) if want.link == link]
        if any(want.relay == heard.sender for want in mine):
            self.called.append(peer.name)
            self.look(link, now)

    # As a relay.

    def _asked(self, heard: Heard, ask: Ask, datagram: post.Datagram, packet: Packet) -> None:
        asked = Asked(
            sender=heard.sender,
            ask=ask,
            source=datagram.source,
            local=datagram.to.host,
            seat=ask.seat if datagram.to.port == DOOR else datagram.to.port - PORTS.start,
            port=datagram.to.port,
            seats=min((each.seats for each in self.places), default=SEATS),
            mark=self._mark(packet.interface),
        )
        for each in self._host.take(asked, time.monotonic()):
            if isinstance(each, Call):
                # Nothing else wakes it: what is told is no traffic.
                waiting = self._machine(each.to)
                self.called += [waiting.name] if waiting else []
                self._tell(each)
            else:
                to, port, mark = each.to, each.port, each.mark
                self._send(each.message, port=port, to=to, source=each.local, mark=mark)

    def _mark(self, index: int) -> int:
        """Return the mark of an uplink's slot, where there is more than one uplink."""
        scene = self._scene
        leading = [each for each in scene.attachments if each.defaults] if scene else []
        if scene is None or len(leading) < 2:  # noqa: PLR2004
            return 0
        names = {each.name for each in leading if each.index == index}
        own = (each.number for each in scene.own if each.slot.uplink in names)
        return next((marks.mark(number) for number in own), 0)

    def _joins(self, one: bytes, other: bytes) -> bool:
        if self._scene is None:
            return False
        ends = [self._machine(one), self._machine(other)]
        first, second = ends
        if first is None or second is None:
            return False
        view = self._scene.view
        return bool(view.allowed(first, second) or view.allowed(second, first))

    # Hearing and saying.

    def _hear(self, packet: Packet) -> None:
        datagram = post.read(packet.data)
        heard = self._read(datagram.data) if datagram else None
        if datagram is None or heard is None:
            return
        is_seat = datagram.to.port in PORTS or datagram.to.port == DOOR
        match heard.message:
            case Ask() as ask if is_seat:
                self._asked(heard, ask, datagram, packet)
            case Tried(nonce=nonce) if is_seat:
                own = [net.network for each in self._attached() for net in each.addresses]
                self._arrived(nonce, datagram.source.host, own)
            case Answer() as answer:
                self._answered(heard, answer)

    def _arrived(
        self, nonce: bytes, source: str, own: Collection[IPv4Network | IPv6Network]
    ) -> None:
        before = self.places
        self.offers = offer.arrive(self.offers, nonce, source, own, time.monotonic())
        for place in [each for each in self.places if each not in before]:
            self._say(f"reached from outside at {place.host} port {place.port}: a relay for others")

    def _overhear(self, now: float) -> None:
        """Take in what came by the mesh itself."""
        while True:
            try:
                data = self._socket.recv(LONGEST)
            except BlockingIOError:
                return
            heard = self._read(data)
            match heard.message if heard else None:
                case Call() as call if heard:
                    self._called(heard, call, now)
                case Try() as wanted if heard:
                    self._try(heard.sender, wanted, now)

    def _try(self, sender: bytes, wanted: Try, now: float) -> None:
        """Send something where a member hopes to be reached, from a port of no meaning."""
        if now - self._tried.get(sender, -TRY_EVERY) < TRY_EVERY:
            return
        self._tried[sender] = now
        with contextlib.suppress(ValueError, OSError):
            host = ip_address(wanted.host)
            family = socket.AF_INET6 if host.version == 6 else socket.AF_INET  # noqa: PLR2004
            data = self._sealed(Tried(to=sender, nonce=wanted.nonce))
            with socket.socket(family, socket.SOCK_DGRAM) as out:
                out.sendto(data, (str(host), wanted.port))

    def _read(self, data: bytes) -> Heard | None:
        if self._scene is None:
            return None
        content = self._scene.content
        return message.read(
            data,
            to=self._key.public,
            members=content.identities,
            secrets=content.secrets,
            now=time.time(),
        )

    def _sealed(self, said: Message) -> bytes:
        if self._scene is None or not self._scene.content.secrets:
            raise OSError("there is no map to seal with")
        return message.write(said, self._key, self._scene.content.secrets[0].key)

    def _send(
        self, said: Message, *, port: int, to: Endpoint, source: str = "", mark: int = 0
    ) -> None:
        """Send; what cannot be sent is as good as lost."""
        with contextlib.suppress(OSError):
            post.send(self._sealed(said), port=port, to=to, source=source, mark=mark)

    def _tell(self, said: Call | Try) -> None:
        """Send by the mesh itself."""
        to = identity.address(self._prefix, said.to)
        with contextlib.suppress(OSError):
            self._socket.sendto(self._sealed(said), (str(to), PORT))

    def _machine(self, of: bytes) -> Machine | None:
        machines = self._scene.content.machines if self._scene else ()
        return next((each for each in machines if each.identity == of), None)

    def _attached(self) -> tuple[Attachment, ...]:
        return self._scene.attachments if self._scene else ()


def _addresses(scene: Around) -> list[str]:
    """Return the addresses of uplinks that lead out and cost nothing by the byte."""
    return [
        str(each.ip)
        for uplink in scene.attachments
        if uplink.works and not uplink.metered
        for each in uplink.addresses
        if not each.is_link_local and any(r.to.version == each.version for r in uplink.defaults)
    ]


def _socket(address: IPv6Address) -> socket.socket:
    made = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    try:
        made.setsockopt(socket.IPPROTO_IPV6, _FREEBIND, 1)
        made.bind((str(address), PORT))
    except BaseException:
        made.close()
        raise
    return made
