"""What the agent wants of the streams' process, in a file that it replaces whenever that changes.

The process reads the map by itself, so that a removed machine is cut off also while the agent
hangs; what is here are this machine's own matters. Pure.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Any

from clan.mesh.chart.canonical import Fields, base64_of, bytes_of, decode, encode, row
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.link import Endpoint
from clan.mesh.tls.frames import Port

FILE = "tls.json"
"""In the instance's folder."""
PORT = 26743
"""The UDP port of all ends on the loopback, which differ in their address. Below the ports that
are handed out for outgoing datagrams, and in no registry's list."""
MOST = 64
"""Slots, relays and places to listen at."""
MOST_PEERS = 4096
_ID = re.compile(r"[0-9a-f]{8}")
_HOST = re.compile(r"[A-Za-z0-9_.:-]{1,253}")
_PATH = re.compile(r"(?:/[!-~]*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """An interface of WireGuard whose datagrams go by streams."""

    id: str
    port: int
    """The UDP port that WireGuard listens on."""
    mark: int = 0
    """Of what is sent outside, so that it leaves by the slot's uplink; 0 for none."""
    family: int = 0
    """4 or 6: by which version of IP relays are called; 0 for either."""
    peers: tuple[Port, ...] = ()
    """The interfaces of other machines that it has links to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Relay:
    """A member that passes streams on."""

    identity: bytes
    places: tuple[Endpoint, ...]
    """Where it is called; a host may be a name here."""
    certificate: bytes = b""
    """SHA-256 of what it shows; empty where it has to show one that this machine's own list of
    authorities is good for, in the name `sni`."""
    sni: str = ""
    """The name that is asked for, readable on the way; empty for none."""
    path: str = ""
    """Under which the web server in front passes streams on; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proxy:
    """A proxy that the relays are called through."""

    place: Endpoint
    credentials: str = ""
    """The path of a file with `user:password`, which root alone may read; empty for none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Listen:
    """A place where this machine is a relay."""

    place: Endpoint
    web: bool = False
    """Whether a web server passes streams on to it, and so has ended TLS."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wants:
    """All of it. The first relay is the first choice."""

    slots: tuple[Slot, ...] = ()
    relays: tuple[Relay, ...] = ()
    proxy: Proxy | None = None
    listen: tuple[Listen, ...] = ()


def loopback(own: str, peer: Port) -> Endpoint:
    """Return where WireGuard finds a peer's interface: 127.64.0.0 to 127.255.255.255, by a hash.

    It follows from the ids of both interfaces and the peer's identity, so WireGuard's endpoint
    stays when this process begins anew, and nobody has to be told it.
    """
    hashed = hashlib.sha256(b"clan mesh tls loopback 1\0" + f"{own}{peer.id}".encode("ascii"))
    hashed.update(peer.identity)
    chosen = hashed.digest()
    host = f"127.{64 + chosen[0] % 192}.{chosen[1]}.{chosen[2]}"
    return Endpoint(host=host, port=PORT)


def written(wants: Wants) -> bytes:
    """Return the file's bytes."""
    proxy = wants.proxy
    return encode(
        {
            "slots": [
                {
                    "id": each.id,
                    "port": each.port,
                    "mark": each.mark,
                    "family": each.family,
                    "peers": [[base64_of(peer.identity), peer.id] for peer in each.peers],
                }
                for each in wants.slots
            ],
            "relays": [
                {
                    "identity": base64_of(each.identity),
                    "places": [[place.host, place.port] for place in each.places],
                    "certificate": base64_of(each.certificate),
                    "sni": each.sni,
                    "path": each.path,
                }
                for each in wants.relays
            ],
            "proxy": [[proxy.place.host, proxy.place.port, proxy.credentials]] if proxy else [],
            "listen": [[each.place.host, each.place.port, each.web] for each in wants.listen],
        }
    )


def read(data: bytes, what: str) -> Wants:
    """Read what `written` wrote. Raises MeshError; `what` names it in the message."""
    fields = decode(data, what)
    found = Wants(
        slots=tuple(_slot(Fields(each, what), what) for each in fields.several("slots", MOST)),
        relays=tuple(_relay(Fields(each, what), what) for each in fields.several("relays", MOST)),
        proxy=next((_proxy(each, what) for each in fields.several("proxy", 1)), None),
        listen=tuple(_listen(each, what) for each in fields.several("listen", MOST)),
    )
    fields.end()
    return found


def _slot(fields: Fields, what: str) -> Slot:
    made = Slot(
        id=_matched(fields.text("id", 8), _ID, what),
        port=fields.number("port", 1, 65535),
        mark=fields.number("mark", 0, (1 << 32) - 1),
        family=_family(fields.number("family", 0, 6), what),
        peers=tuple(_peer(each, what) for each in fields.several("peers", MOST_PEERS)),
    )
    fields.end()
    return made


def _peer(value: Any, what: str) -> Port:
    identity, id_ = row(value, (str, str), what)
    return Port(bytes_of(identity, SIZE, SIZE, what), _matched(id_, _ID, what))


def _relay(fields: Fields, what: str) -> Relay:
    made = Relay(
        identity=fields.data("identity", SIZE, SIZE),
        places=tuple(
            _place(*row(each, (str, int), what), what=what)
            for each in fields.several("places", MOST)
        ),
        certificate=fields.data("certificate", 0, SIZE),
        sni=fields.text("sni", 253),
        path=_matched(fields.text("path", 1024), _PATH, what),
    )
    fields.end()
    if made.sni:
        _matched(made.sni, _HOST, what)
    if len(made.certificate) not in {0, SIZE} or not (made.certificate or made.sni):
        raise MeshError(f"{what}: a relay needs its certificate's hash, or the name to ask for")
    if not (made.certificate or made.path):
        raise MeshError(f"{what}: a relay without a web server in front needs its certificate")
    return made


def _proxy(value: Any, what: str) -> Proxy:
    host, port, credentials = row(value, (str, int, str), what)
    return Proxy(place=_place(host, port, what=what), credentials=credentials)


def _listen(value: Any, what: str) -> Listen:
    host, port, web = row(value, (str, int, bool), what)
    return Listen(place=_place(host, port, what=what), web=web)


def _place(host: str, port: int, *, what: str) -> Endpoint:
    if not 1 <= port <= 65535:  # noqa: PLR2004
        raise MeshError(f"{what}: there is no port {port}")
    return Endpoint(host=_matched(host, _HOST, what), port=port)


def _family(family: int, what: str) -> int:
    if family not in {0, 4, 6}:
        raise MeshError(f"{what}: there is no IPv{family}")
    return family


def _matched(text: str, pattern: re.Pattern[str], what: str) -> str:
    if not pattern.fullmatch(text):
        raise MeshError(f"{what}: {text[:80]!r} cannot be there")
    return text
