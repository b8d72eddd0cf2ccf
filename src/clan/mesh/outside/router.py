"""A router is asked to lead datagrams from outside to one door, in the words that it understands.

PCP comes first, then NAT-PMP, which answers on the same port, then UPnP; what once worked is asked
first from then on. Only the uplink's default router is asked and listened to, by that uplink.
What it says is bounded, and what no machine outside could send to is refused.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import socket
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING

from clan.mesh.link import Endpoint
from clan.mesh.outside import pcp, upnp
from clan.mesh.outside.address import is_outside
from clan.mesh.outside.pcp import PcpError
from clan.mesh.outside.upnp import FIREWALL, Service, UpnpError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from clan.mesh.outside.pcp import Answer
    from clan.mesh.outside.seam import Door

LIFE = 1200
"""Seconds that are asked for. The half of it is also how long a router's restart may go unseen."""
LEAST_LIFE, MOST_LIFE = 60, 7200
"""Seconds that are believed."""
_PATIENCE = (0.25, 0.5, 1.0, 2.0)
"""Seconds that each of the tries is waited for (from RFC 6886, section 3.1)."""
_SEARCHES = (1.0, 2.5)
"""Seconds for answers to a search: gateways wait up to one themselves."""
_REPLY = 10.0
"""Seconds for one request of UPnP's."""
_OTHER_PORTS = 4
"""External ports that are tried where others have the first ones."""
_HIGH = range(49152, 65536)
_CONFLICT = frozenset({718, 729})
"""UPnP: somebody else has that port."""
_PERMANENT = 725
"""UPnP: a router of version 1 that knows no end of a mapping."""
_DEVICE = socket.SO_BINDTODEVICE
_ELSEWHERE = {4: "192.0.0.8", 6: "2000::1"}
"""Addresses to which nothing is sent, only asked by which of its own this machine would."""


class DoorError(Exception):
    """A router opens none; the message is for people."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """A door that a router holds open."""

    endpoint: Endpoint
    life: int
    """Seconds."""
    epoch: int | None = None
    """As the router counts, where it does."""
    by: str
    """How it was asked."""
    ends: bool = True
    """Whether the router forgets it when its life is over."""


class Router:
    """A door's router."""

    def __init__(self, door: Door) -> None:
        self.door = door
        self._version = door.gateway.version
        self._is_six = isinstance(door.gateway, IPv6Address)
        self._outer = door.port
        self._shut: Callable[[], Awaitable[object]] | None = None
        ways = [self._by_pcp, self._by_upnp]
        self._ways = ways if self._is_six else [ways[0], self._by_natpmp, ways[1]]

    async def open(self) -> Lease:
        """Have the door open, or keep it so. Raises DoorError, OSError."""
        source = self._source()
        faults = []
        for way in list(self._ways):
            try:
                lease = await way(source)
            except (DoorError, PcpError, UpnpError, OSError) as fault:
                faults.append(f"{way.__name__[4:]}: {fault}")
                continue
            self._ways.remove(way)
            self._ways.insert(0, way)
            self._outer = lease.endpoint.port
            return lease
        raise DoorError(f"{self.door.gateway} opens no port: {'; '.join(faults)}")

    async def shut(self) -> None:
        """Give back what was opened, as far as the router takes it."""
        shut, self._shut = self._shut, None
        if shut is not None:
            with contextlib.suppress(DoorError, PcpError, UpnpError, OSError):
                await shut()

    # PCP and NAT-PMP.

    async def _by_pcp(self, source: pcp.IpAddress) -> Lease:
        answer = await self._map(source, self._outer, LIFE)
        if answer.address is None:
            raise DoorError("it says no address")
        life = _life(answer.life)
        endpoint = _outside(answer.address, answer.outer)
        self._shut = partial(self._map, source, 0, 0)
        return Lease(endpoint=endpoint, life=life, epoch=answer.epoch, by="PCP")

    async def _map(self, source: pcp.IpAddress, outer: int, life: int) -> Answer:
        door = self.door
        data = pcp.ask(source=source, nonce=door.nonce, inner=door.port, outer=outer, life=life)
        return await self._exchange(
            source,
            data,
            lambda a: a.version == 2 and a.is_for(door.nonce, door.port),  # noqa: PLR2004
        )

    async def _by_natpmp(self, source: pcp.IpAddress) -> Lease:
        said = await self._exchange(
            source, pcp.ask_address(), lambda a: a.announces and a.address is not None
        )
        answer = await self._map_old(source, self._outer, LIFE)
        if said.address is None:
            raise DoorError("it says no address")
        self._shut = partial(self._map_old, source, 0, 0)
        endpoint = _outside(said.address, answer.outer)
        return Lease(endpoint=endpoint, life=_life(answer.life), epoch=answer.epoch, by="NAT-PMP")

    async def _map_old(self, source: pcp.IpAddress, outer: int, life: int) -> Answer:
        data = pcp.ask_old(inner=self.door.port, outer=outer, life=life)
        return await self._exchange(source, data, lambda a: a.is_for(b"", self.door.port))

    async def _exchange(
        self, source: pcp.IpAddress, data: bytes, fits: Callable[[Answer], bool]
    ) -> Answer:
        """Ask until there is an answer. Raises DoorError, OSError."""
        loop = asyncio.get_running_loop()
        with self._udp(source) as asking:
            asking.connect(self._there(pcp.PORT))
            for patience in _PATIENCE:
                await loop.sock_sendall(asking, data)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        while True:
                            answer = _read(await loop.sock_recv(asking, 2 * pcp.LONGEST))
                            if answer is None:
                                continue
                            if answer.result and answer.version != data[0]:
                                raise DoorError("the router does not know it")
                            if answer.result:
                                raise DoorError(f"the router refuses it: {answer.result}")
                            if fits(answer):
                                return answer
        raise DoorError("no answer")

    # UPnP.

    async def _by_upnp(self, source: pcp.IpAddress) -> Lease:
        port, path = await self._search(source)
        host = f"[{self.door.gateway}]" if self._is_six else str(self.door.gateway)
        host = f"{host}:{port}"
        described = await self._http(source, port, upnp.request(host, path))
        faults = []
        for service in upnp.services(described):
            if (service.kind == FIREWALL) != (self._is_six):
                continue
            asked = _Asked(self, source, host, port, service)
            try:
                if service.kind == FIREWALL:
                    return await self._pinhole(source, asked)
                return await self._forward(source, asked)
            except (DoorError, UpnpError) as fault:
                faults.append(str(fault))
        raise DoorError("; ".join(faults) or "the router has no service for it")

    async def _forward(self, source: pcp.IpAddress, asked: _Asked) -> Lease:
        said = await asked("GetExternalIPAddress", {})
        address = _address(said.get("NewExternalIPAddress", ""))
        _outside(address, self._outer)
        outers = [self._outer, *random.sample(_HIGH, _OTHER_PORTS)]
        life = LIFE
        while outers:
            name: dict[str, str | int] = {
                "NewRemoteHost": "",
                "NewExternalPort": outers[0],
                "NewProtocol": "UDP",
            }
            try:
                await asked(
                    "AddPortMapping",
                    name
                    | {
                        "NewInternalPort": self.door.port,
                        "NewInternalClient": str(source),
                        "NewEnabled": 1,
                        "NewPortMappingDescription": "clan",
                        "NewLeaseDuration": life,
                    },
                )
            except UpnpError as fault:
                if fault.code in _CONFLICT:
                    outers.pop(0)
                elif fault.code == _PERMANENT and life:
                    life = 0
                else:
                    raise
                continue
            self._shut = partial(asked, "DeletePortMapping", name)
            return Lease(
                endpoint=_outside(address, outers[0]), life=LIFE, by="UPnP", ends=bool(life)
            )
        raise DoorError("others have all the ports that were tried")

    async def _pinhole(self, source: pcp.IpAddress, asked: _Asked) -> Lease:
        said = await asked(
            "AddPinhole",
            {
                "RemoteHost": "",
                "RemotePort": 0,
                "InternalClient": str(source),
                "InternalPort": self.door.port,
                "Protocol": 17,
                "LeaseTime": LIFE,
            },
        )
        unique = said.get("UniqueID", "")[:8]
        self._shut = partial(asked, "DeletePinhole", {"UniqueID": unique})
        return Lease(endpoint=_outside(source, self.door.port), life=LIFE, by="UPnP")

    async def _search(self, source: pcp.IpAddress) -> tuple[int, str]:
        """Return the port and path at which the router describes itself. Raises DoorError."""
        loop = asyncio.get_running_loop()
        group = upnp.GROUPS[self._version]
        scope = (0, self.door.index) if self._is_six else ()
        # From where the router's own address is: it answers to there from that address.
        own = None if self._is_six else source
        with self._udp(own) as asking:
            for patience in _SEARCHES:
                for each in upnp.search(group):
                    await loop.sock_sendto(asking, each, (group, upnp.PORT, *scope))
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(patience):
                        while True:
                            data, (host, *_) = await loop.sock_recvfrom(asking, 4096)
                            if _address(str(host).partition("%")[0]) == self.door.gateway:
                                with contextlib.suppress(UpnpError):
                                    return upnp.described(data)
        raise DoorError("no answer")

    async def _http(self, source: pcp.IpAddress, port: int, request: bytes) -> bytes:
        """Ask the router by HTTP; return the body. Raises DoorError, UpnpError, OSError."""
        loop = asyncio.get_running_loop()
        data = b""
        try:
            async with asyncio.timeout(_REPLY):
                with self._made(source, socket.SOCK_STREAM) as asking:
                    await loop.sock_connect(asking, self._there(port))
                    await loop.sock_sendall(asking, request)
                    while len(data) <= upnp.LONGEST and not _is_whole(data):
                        part = await loop.sock_recv(asking, 1 << 16)
                        if not part:
                            break
                        data += part
        except TimeoutError:
            raise DoorError("no answer") from None
        return upnp.replied(data)

    # Sockets.

    def _source(self) -> pcp.IpAddress:
        """Return this machine's address on the uplink. Raises OSError."""
        with self._udp(None) as asking:
            asking.connect((_ELSEWHERE[self._version], 9))
            return ip_address(asking.getsockname()[0])

    def _there(self, port: int) -> tuple[str | int, ...]:
        if self._is_six:
            scope = self.door.index if self.door.gateway.is_link_local else 0
            return str(self.door.gateway), port, 0, scope
        return str(self.door.gateway), port

    def _udp(self, source: pcp.IpAddress | None) -> socket.socket:
        return self._made(source, socket.SOCK_DGRAM)

    def _made(self, source: pcp.IpAddress | None, kind: int) -> socket.socket:
        """Return a socket of the uplink's. Raises OSError."""
        family = socket.AF_INET6 if self._is_six else socket.AF_INET
        made = socket.socket(family, kind | socket.SOCK_NONBLOCK)
        try:
            made.setsockopt(socket.SOL_SOCKET, _DEVICE, self.door.uplink.encode())
            if source is not None:
                made.bind((str(source), 0))
        except BaseException:
            made.close()
            raise
        return made


class _Asked:
    """A service of a router's, to be asked for one action after the other."""

    def __init__(
        self, router: Router, source: pcp.IpAddress, host: str, port: int, service: Service
    ) -> None:
        self._router = router
        self._where = (source, port)
        self._host = host
        self._service = service

    async def __call__(self, name: str, arguments: Mapping[str, str | int]) -> dict[str, str]:
        """Return what it says. Raises DoorError, UpnpError, OSError."""
        asked = upnp.action(self._host, self._service, name, arguments)
        return upnp.answers(await self._router._http(*self._where, asked))  # noqa: SLF001


def _read(data: bytes) -> Answer | None:
    with contextlib.suppress(PcpError):
        return pcp.read(data)
    return None


def _is_whole(data: bytes) -> bool:
    """Say whether all of an HTTP answer that tells its length has come."""
    head, end, body = data.partition(b"\r\n\r\n")
    told = [line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")]
    length = told[0].partition(b":")[2].strip() if told else b""
    return bool(end) and length.isdigit() and len(body) >= int(length[:9])


def _life(seconds: int) -> int:
    return max(LEAST_LIFE, min(seconds, MOST_LIFE))


def _address(written: str) -> pcp.IpAddress:
    try:
        return ip_address(written)
    except ValueError:
        raise DoorError("it says no address") from None


def _outside(address: pcp.IpAddress, port: int) -> Endpoint:
    """Return the endpoint, if somebody outside could send to it. Raises DoorError."""
    if not is_outside(address):
        raise DoorError(f"the router itself is not outside: it has {address}")
    if not port:
        raise DoorError("it says no port")
    return Endpoint(host=str(address), port=port)
