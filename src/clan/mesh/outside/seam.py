"""What the agent and the processes beside it say to each other: a line of JSON each. Pure.

The agent says all that is wanted whenever it changes, and the other end all that it has found. A
process begins with a line that says which it is.

    {"who": "doors"}
    {"doors": [{"id": "0a0b0c0d", "uplink": "eth0", "index": 2, "gateway": "192.168.1.1",
                "port": 51000, "nonce": "…in base64…"}]}
    {"open": [["0a0b0c0d", "203.0.113.7", 51000, 1200]]}

    {"who": "dht"}
    {"from": ["192.168.1.2"], "put": ["…private key…", "…value…"], "get": ["…public key…"]}
    {"got": [["…public key…", "…value…"]]}
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TYPE_CHECKING, Any

from clan.mesh.chart.canonical import Fields, base64_of, bytes_of, decode, encode, row
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.link import Endpoint

if TYPE_CHECKING:
    from collections.abc import Mapping

LONGEST = 1 << 16
"""Bytes of a line."""
MOST = 64
"""Doors of one machine."""
LONGEST_LIFE = 86400
"""Seconds."""
NONCE = 12
"""Bytes (RFC 6887, section 11.1)."""
DOORS, DHT = "doors", "dht"
MOST_SOURCES = 64
MOST_GET = 64
"""Items of the DHT that are looked for at once."""
LONGEST_VALUE = 1000
"""Bytes of one of them (BEP 44)."""
_ID = re.compile(r"[0-9a-f]{8}")
_PORTS = (1, 65535)


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """A port of this machine that a router is asked to let datagrams in to."""

    id: str
    """Of the interface."""
    uplink: str
    index: int
    """Of the uplink, in the kernel."""
    gateway: IPv4Address | IPv6Address
    """The uplink's default router, which alone is asked."""
    port: int
    nonce: bytes
    """Bytes that stay while the interface is there: a router holds a mapping by them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Opened:
    """Where a door is found from outside, as a router says."""

    id: str
    endpoint: Endpoint
    life: int
    """Seconds that it stays open."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Search:
    """What is to be done in the DHT."""

    sources: tuple[str, ...]
    """Addresses of this machine to do it from."""
    put: tuple[bytes, bytes] | None
    """The private key of an item, and its value."""
    get: tuple[bytes, ...]
    """Public keys of items."""


def who(name: str) -> bytes:
    """Write a process's first line."""
    return _line({"who": name})


def read_who(line: bytes) -> str:
    """Read it. Raises MeshError."""
    fields = decode(line, "the first line")
    name = fields.text("who", 16)
    fields.end()
    return name


def doors(wanted: tuple[Door, ...]) -> bytes:
    """Write which doors are wanted."""
    return _line(
        {
            "doors": [
                {
                    "id": each.id,
                    "uplink": each.uplink,
                    "index": each.index,
                    "gateway": str(each.gateway),
                    "port": each.port,
                    "nonce": base64_of(each.nonce),
                }
                for each in wanted
            ]
        }
    )


def read_doors(line: bytes) -> tuple[Door, ...]:
    """Read it. Raises MeshError."""
    fields = decode(line, "the line of doors")
    found = tuple(_door(each) for each in fields.several("doors", MOST))
    fields.end()
    return found


def opened(found: tuple[Opened, ...]) -> bytes:
    """Write which doors are open."""
    rows = [[each.id, each.endpoint.host, each.endpoint.port, each.life] for each in found]
    return _line({"open": rows})


def read_opened(line: bytes) -> tuple[Opened, ...]:
    """Read it. Raises MeshError."""
    what = "the line of open doors"
    fields = decode(line, what)
    found = []
    for each in fields.several("open", MOST):
        id_, host, port, life = row(each, (str, str, int, int), what)
        if not (_ID.fullmatch(id_) and 0 < port <= _PORTS[1] and 0 < life <= LONGEST_LIFE):
            raise MeshError(f"{what} has one that there cannot be")
        endpoint = Endpoint(host=str(_address(host, what)), port=port)
        found.append(Opened(id=id_, endpoint=endpoint, life=life))
    fields.end()
    return tuple(found)


def search(wanted: Search) -> bytes:
    """Write what is to be done in the DHT; what is too much is left out."""
    return _line(
        {
            "from": list(wanted.sources[:MOST_SOURCES]),
            "put": [base64_of(each) for each in wanted.put or ()],
            "get": [base64_of(each) for each in wanted.get[:MOST_GET]],
        }
    )


def read_search(line: bytes) -> Search:
    """Read it. Raises MeshError."""
    what = "the line for the DHT"
    fields = decode(line, what)
    sources = tuple(str(_address(e, what)) for e in fields.texts("from", MOST_SOURCES, 45))
    put = fields.several("put", 2)
    get = tuple(bytes_of(each, SIZE, SIZE, what) for each in fields.several("get", MOST_GET))
    fields.end()
    if put:
        seed, value = row(put, (str, str), what)
        value = bytes_of(value, 1, LONGEST_VALUE, what)
        return Search(sources=sources, put=(bytes_of(seed, SIZE, SIZE, what), value), get=get)
    return Search(sources=sources, put=None, get=get)


def got(found: Mapping[bytes, bytes]) -> bytes:
    """Write the values that were found, by their public keys."""
    return _line({"got": [[base64_of(key), base64_of(value)] for key, value in found.items()]})


def read_got(line: bytes) -> dict[bytes, bytes]:
    """Read it. Raises MeshError."""
    what = "the line of the DHT"
    fields = decode(line, what)
    found = {}
    for each in fields.several("got", MOST_GET):
        public, value = row(each, (str, str), what)
        found[bytes_of(public, SIZE, SIZE, what)] = bytes_of(value, 1, LONGEST_VALUE, what)
    fields.end()
    return found


def _door(value: Any) -> Door:
    what = "a door"
    fields = Fields(value, what)
    found = Door(
        id=fields.text("id", 8),
        uplink=fields.text("uplink", 15),
        index=fields.number("index", 1, (1 << 31) - 1),
        gateway=_address(fields.text("gateway", 45), what),
        port=fields.number("port", *_PORTS),
        nonce=fields.data("nonce", NONCE, NONCE),
    )
    fields.end()
    return found


def _address(written: str, what: str) -> IPv4Address | IPv6Address:
    try:
        return ip_address(written)
    except ValueError:
        raise MeshError(f"{what} has an address that is none") from None


def _line(value: Any) -> bytes:
    return encode(value) + b"\n"
