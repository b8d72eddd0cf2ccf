"""This machine's WireGuard interfaces: one for each slot in use, with its peers and its prober.

It makes what is wanted, takes up what is there already and removes what is not wanted any more. Of
a peer's addresses for life, each interface can let in one of the peer's keys alone: that of the
path, if the path is there. Interfaces outlive this process.
"""

from __future__ import annotations

import contextlib
import errno
import re
import time
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Interface, ip_address, ip_network
from typing import TYPE_CHECKING

from clan.mesh.agent import marks, probes, wireguard
from clan.mesh.agent.kernel import LEAST_MTU, TUN, WIREGUARD
from clan.mesh.agent.probes import Prober
from clan.mesh.agent.wireguard import Change, fingerprint
from clan.mesh.candidates import Sight
from clan.mesh.link import OVERHEAD, Endpoint, Kind, LinkId
from clan.mesh.slots import NAMES, inside

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.rtnetlink import IpNetwork
    from clan.mesh.agent.uplinks import Attachment
    from clan.mesh.agent.wireguard import Peer, Wireguard
    from clan.mesh.chart.links import LinkRecord
    from clan.mesh.desire import Member, Remote, Wish
    from clan.mesh.slots import Own

PORT = 46742
"""The UDP port inside links that agents speak on, in no registry's list."""
OPENING = b"\0"
"""What opens a hole: WireGuard drops what is so short."""
YOUNG = 5.0
"""Seconds since a handshake within which a session is not given up for a new one."""
LOOKED = 60.0
"""Seconds for which it counts what had come of a link when it was looked for."""
SESSION = 180.0
"""Seconds since a handshake within which WireGuard's session can be in use."""
_NAME = re.compile(rf"{re.escape(NAMES)}[0-9]+")


@dataclass(kw_only=True)
class Interface:
    """One of them, up and configured."""

    own: Own
    index: int
    uplink: Attachment
    wireguard: Wireguard
    prober: Prober
    remotes: Mapping[LinkId, Remote] = field(default_factory=dict)
    """Who is let in."""
    inner: Mapping[LinkId, str] = field(default_factory=dict)
    """Their addresses inside, and the links by these: written, as the kernel tells them."""
    links: Mapping[str, LinkId] = field(default_factory=dict)

    def let_in(self, remotes: Mapping[LinkId, Remote]) -> None:
        """Note who is let in."""
        self.remotes = remotes
        self.inner = {link: str(each.address) for link, each in remotes.items()}
        self.links = {address: link for link, address in self.inner.items()}


class PortTakenError(Exception):
    """Somebody else has a slot's port."""

    def __init__(self, own: Own) -> None:
        super().__init__(f"port {own.port} is taken")
        self.own = own


class Interfaces:
    """All of them, by the ids of their slots."""

    def __init__(self, kernel: Kernel, identity: bytes, say: Callable[[str], None]) -> None:
        self._kernel = kernel
        self._identity = identity
        self._say = say
        self._received: dict[LinkId, tuple[float, int]] = {}
        """When a link was last looked for, and what had come of it since it was made: bytes."""
        self._going_on: set[LinkId] = set()
        self.up: dict[str, Interface] = {}

    def close(self) -> None:
        """Close the probers; all else stays."""
        for each in self.up.values():
            each.prober.close()
        self.up.clear()

    def have(self, slots: Iterable[Own], attachments: Iterable[Attachment]) -> bool:
        """Have these interfaces, and no other of ours; say whether one came or went.

        Raises PortTakenError. One that cannot be made is said, and tried again the next time.
        """
        uplinks = {each.name: each for each in attachments}
        wanted = {own.id: own for own in slots if own.slot.uplink in uplinks}
        before = {id_: each.index for id_, each in self.up.items()}
        names = {own.interface for own in wanted.values()}
        self._remove_others(names)
        for own in wanted.values():
            try:
                self._have(own, uplinks[own.slot.uplink])
            except OSError as fault:
                if fault.errno == errno.EADDRINUSE:
                    raise PortTakenError(own) from None
                self._forget(own.id)
                self._say(f"{own.interface}: {fault}")
        return before != {id_: each.index for id_, each in self.up.items()}

    def _remove_others(self, names: Collection[str]) -> None:
        for each in list(self.up.values()):
            if each.own.interface not in names:
                self._forget(each.own.id)
        for found in self._kernel.interfaces().values():
            is_ours = _NAME.fullmatch(found.name) and found.kind in {WIREGUARD, TUN}
            if is_ours and found.name not in names:
                wireguard.make(self._kernel, found.name).remove()
                self._say(f"{found.name} is not wanted any more")

    def _forget(self, id_: str) -> None:
        if id_ in self.up:
            self.up.pop(id_).prober.close()

    def _have(self, own: Own, uplink: Attachment) -> None:
        made = wireguard.make(self._kernel, own.interface)
        there = self._kernel.interface(own.interface)
        if there is None:
            raise OSError(errno.ENODEV, "it went away while it was made")
        device = made.read()
        mark = marks.mark(own.number)
        if (device.key, device.port, device.mark) != (fingerprint(own.private), own.port, mark):
            made.configure(private=own.private, port=own.port, mark=mark)
        mtu = max(LEAST_MTU, uplink.mtu - OVERHEAD[own.slot.family])
        if there.mtu != mtu:
            self._kernel.set_mtu(there.index, mtu)
        if not there.up:
            self._kernel.set_up(there.index)
        address = inside(self._identity, own.id)
        inner = IPv6Interface((address, 64))
        # Only if it is missing: the kernel tells of it as a change, and that would be looked into.
        if (there.index, inner) not in {(e.index, e.address) for e in self._kernel.addresses()}:
            self._kernel.add_address(there.index, inner)
        known = self.up.get(own.id)
        if known is not None and known.index == there.index and known.own == own:
            known.uplink = uplink
            return
        self._forget(own.id)
        self.up[own.id] = Interface(
            own=own,
            index=there.index,
            uplink=uplink,
            wireguard=made,
            prober=Prober(own.interface, address, PORT),
        )

    def sights(self, records: Mapping[bytes, LinkRecord], now: float) -> Iterator[Sight]:
        """Yield where peers were found on LANs by an earlier process. Raises OSError."""
        ends = {end.key: (who, end.id) for who, each in records.items() for end in each.interfaces}
        for each in self.up.values():
            if each.own.slot.kind is not Kind.LAN:
                continue
            for key, peer in each.wireguard.read().peers.items():
                if key in ends and peer.endpoint is not None:
                    identity, id_ = ends[key]
                    yield Sight(
                        identity=identity,
                        uplink=each.own.slot.uplink,
                        interface=id_,
                        address=peer.endpoint.address,
                        at=now,
                    )

    def paths(self, wish: Wish) -> dict[str, LinkId]:
        """Return which links the peers' routes go by, as an earlier process left them.

        Links with a session that can be in use go on: a first look for them leaves it alone.
        """
        routes = {route.to: route.index for route in self._kernel.routes() if route.index}
        found: dict[str, LinkId] = {}
        for each in self.up.values():
            keys = each.wireguard.read().peers
            for link, remote in wish.remotes.items():
                to = ip_network(wish.peers[link.peer].address)
                seen = keys.get(remote.key)
                if link.own != each.own.id or seen is None:
                    continue
                if 0 <= time.time() - seen.handshake < SESSION:
                    self._going_on.add(link)
                if routes.get(to) == each.index and to in seen.allowed:
                    found[link.peer] = link
        return found

    def admit(self, wish: Wish, paths: Mapping[str, LinkId]) -> None:
        """Have each interface let in just the peers that are wanted. Raises OSError."""
        links = {link.id: link for peer in wish.desired.peers.values() for link in peer.links}
        for each in self.up.values():
            each.let_in({link: r for link, r in wish.remotes.items() if link.own == each.own.id})
            there = each.wireguard.read().peers
            members = {name: _seen_by(each, member) for name, member in wish.peers.items()}
            allowed = _allowed(each.remotes, members, paths, there)
            keys = {remote.key for remote in each.remotes.values()}
            changes = [Change(key=key, remove=True) for key in there if key not in keys]
            for link, remote in each.remotes.items():
                seen = there.get(remote.key)
                endpoint = next(iter(links[link].endpoints), None) if link in links else None
                if seen is None:
                    changes.append(
                        Change(
                            key=remote.key,
                            allowed=allowed[link],
                            endpoint=_outer(endpoint, each) if endpoint else None,
                        )
                    )
                elif seen.allowed != allowed[link]:
                    changes.append(Change(key=remote.key, allowed=allowed[link]))
            # First those that lose an address: it would be taken from who gets it.
            changes.sort(key=lambda change: len(change.allowed or ()))
            if changes:
                each.wireguard.change(changes)

    def look(self, link: LinkId, to: Endpoint) -> str:
        """Open holes towards an endpoint and shake hands at once; return what failed, in words."""
        each, remote = self._of(link)
        if each is None or remote is None:
            return ""
        if link in self._going_on:
            # What is under way in its session would be lost. A second look makes a new one.
            self._going_on.remove(link)
            return ""
        endpoint = _outer(to, each)
        failed = probes.open_holes(
            each.own.port, marks.mark(each.own.number), [endpoint] * 2, OPENING
        )
        seen = each.wireguard.peer(remote.key)
        allowed = seen.allowed if seen else frozenset({ip_network(remote.address)})
        age = time.time() - seen.handshake if seen else float("inf")
        lives = 0 <= age < YOUNG or self._goes_on(link, seen)
        each.wireguard.change(
            [
                Change(
                    key=remote.key,
                    endpoint=endpoint,
                    allowed=allowed,
                    fresh=not lives,
                )
            ]
        )
        return "; ".join(sorted(set(failed)))

    def _goes_on(self, link: LinkId, seen: Peer | None) -> bool:
        """Whether something came of a link since it was last looked for, not long ago.

        Both ends look, and a busy one may take seconds to answer: its session is not to be ended.
        """
        now, received = time.monotonic(), seen.received if seen else 0
        at, before = self._received.get(link, (-float("inf"), 0))
        goes_on = received > before and now - at < LOOKED
        self._received[link] = now, received if goes_on else 0
        return goes_on

    def aim(self, link: LinkId, to: Endpoint) -> None:
        """Send a link's packets elsewhere, and go on with its session. Raises OSError."""
        each, remote = self._of(link)
        if each is not None and remote is not None:
            each.wireguard.change([Change(key=remote.key, endpoint=_outer(to, each))])

    def lead(self, link: LinkId, member: Member) -> int:
        """Let a link's key send and be sent a peer's addresses; return the interface's index.

        Raises OSError.
        """
        each, remote = self._of(link)
        if each is None or remote is None:
            raise OSError(errno.ENODEV, f"there is no link {link}")
        allowed = frozenset({ip_network(remote.address), *_for_life(_seen_by(each, member))})
        each.wireguard.change([Change(key=remote.key, allowed=allowed)])
        return each.index

    def hold(self, link: LinkId, every: int) -> None:
        """Let WireGuard hold a link open: seconds, 0 for never. Raises OSError."""
        each, remote = self._of(link)
        if each is not None and remote is not None:
            each.wireguard.change([Change(key=remote.key, keepalive=every)])

    def received(self, link: LinkId) -> int | None:
        """Return the bytes that WireGuard has received of a link. Raises OSError."""
        each, remote = self._of(link)
        seen = each.wireguard.peer(remote.key) if each and remote else None
        return seen.received if seen else None

    def outer(self, link: LinkId) -> Endpoint | None:
        """Return where a link's packets come from. Raises OSError."""
        each, remote = self._of(link)
        seen = each.wireguard.peer(remote.key) if each and remote else None
        if seen is None or seen.endpoint is None:
            return None
        return Endpoint(host=str(seen.endpoint.address), port=seen.endpoint.port)

    def endpoints(self) -> dict[LinkId, Endpoint]:
        """Return where all links' packets go now. Raises OSError."""
        found = {}
        for each in self.up.values():
            peers = each.wireguard.read().peers
            for link, remote in each.remotes.items():
                seen = peers.get(remote.key)
                if seen is not None and seen.endpoint is not None:
                    found[link] = Endpoint(host=str(seen.endpoint.address), port=seen.endpoint.port)
        return found

    def send(self, link: LinkId, data: bytes) -> None:
        """Send inside a link; what cannot be sent is as good as lost."""
        each = self.up.get(link.own)
        to = each.inner.get(link) if each else None
        if each is not None and to is not None:
            with contextlib.suppress(OSError):
                each.prober.send(data, to)

    def _of(self, link: LinkId) -> tuple[Interface | None, Remote | None]:
        each = self.up.get(link.own)
        return each, each.remotes.get(link) if each else None


def _for_life(member: Member) -> set[IpNetwork]:
    own = (member.address, member.alias, member.ways)
    return {ip_network(each) for each in own if each is not None}


def _seen_by(each: Interface, member: Member) -> Member:
    """Return a member as an interface has to know it: no way over members goes by another one."""
    return replace(member, ways=None) if each.own.slot.kind is Kind.HOPS else member


def _allowed(
    remotes: Mapping[LinkId, Remote],
    members: Mapping[str, Member],
    paths: Mapping[str, LinkId],
    there: Mapping[bytes, Peer],
) -> dict[LinkId, frozenset[IpNetwork]]:
    """Return what each link's key may send: its address inside, and the peer's for one of them."""
    chosen: dict[str, LinkId] = {}
    for link, remote in remotes.items():
        seen = there.get(remote.key)
        holds = seen is not None and ip_network(members[link.peer].address) in seen.allowed
        stays = holds and paths.get(link.peer) not in remotes
        if link.peer not in chosen or paths.get(link.peer) == link or stays:
            chosen[link.peer] = link
    found = {}
    for link, remote in remotes.items():
        own: set[IpNetwork] = {ip_network(remote.address)}
        more = _for_life(members[link.peer]) if chosen[link.peer] == link else set()
        found[link] = frozenset(own | more)
    return found


def _outer(endpoint: Endpoint, each: Interface) -> wireguard.Endpoint:
    address = ip_address(endpoint.host)
    zone = each.uplink.index if address.version == 6 and address.is_link_local else 0  # noqa: PLR2004
    return wireguard.Endpoint(address, endpoint.port, zone)
