"""What a machine says of its own interfaces, signed by its identity.

The map carries the latest that its signer knew. A machine may tell a newer one to the others at any
time: the higher serial counts, wherever it came from. Nobody else can make one, so an admin whose
key was stolen can cut a machine off but not be it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

from clan.mesh.chart import signed
from clan.mesh.chart.canonical import Fields, base64_of, check, decode, encode, row
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE, Key

PURPOSE = "links"
LARGEST = 16384
"""Bytes of a record's body."""
MOST = 64
"""Interfaces of one machine."""
MOST_RELAYS = 4
MOST_REACHED = 4
MOST_SEATS = 64
"""Ports at which one machine relays."""
HIGHEST = (1 << 63) - 1
KINDS = ("hops", "internet", "lan", "overlay", "relay", "tls")
_ID = re.compile(r"[0-9a-f]{8}")
_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_PATH = re.compile(r"/[!-~]{0,1023}")
_PLAIN = re.compile(r"[!-~]*")
"""What an interface or an instance may be called: ASCII that can be seen, no space."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedInterface:
    """One WireGuard interface, as its machine tells others of it."""

    id: str
    """Eight hexadecimal digits, the interface's for as long as it is there."""
    uplink: str
    """What the machine calls the uplink: links that share one share its fate."""
    family: int
    """4 or 6: of the packets outside."""
    kind: str
    """One of `KINDS`."""
    network: str = ""
    """For an overlay, the machine's address there; for a relay, which of a pair's two."""
    key: bytes
    """X25519 public key, of this interface alone."""
    leaving: bool = False
    """Whether another interface, with another key, has taken its place; it still answers."""
    port: int
    """UDP port that it listens on; 0 if nothing is to be sent there."""


@dataclass(frozen=True, slots=True, kw_only=True, order=True)
class Reached:
    """A place from which a machine is reached from outside, as another member has verified."""

    host: str
    """A numeric address."""
    port: int
    """The UDP port there that is the first of those that it relays at."""
    seats: int = MOST_SEATS
    """How many ports those are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """Where a machine takes streams of TLS."""

    port: int
    """TCP, at any of the addresses that lead to it, or at `name`."""
    name: str = ""
    """Of the web server in front, which ends TLS; empty without one."""
    path: str = ""
    """Under which that passes streams on; empty without one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkRecord:
    """All that a machine says of its interfaces."""

    identity: bytes
    serial: int
    interfaces: tuple[PublishedInterface, ...] = ()
    relays: tuple[str, ...] = ()
    """Names of the machines that it keeps a link to for being relayed, the better first."""
    reached: tuple[Reached, ...] = ()
    """Where it offers to relay, in order; empty if it does not."""
    certificate: bytes = b""
    """SHA-256 of its certificate, if it ends TLS itself; else empty."""
    served: Served | None = None
    """Where it takes streams; None if it does not."""
    raw: bytes = field(default=b"", repr=False, compare=False)
    """As it was signed; empty while it is not."""


def publish(record: LinkRecord, key: Key) -> LinkRecord:
    """Sign a record. Raises MeshError if it is not the key's own, or cannot be read again."""
    made = signed.sign(PURPOSE, encode(_value(record)), key)
    return read(made.raw, record.identity)


def read(data: bytes, identity: bytes) -> LinkRecord:
    """Read a record of an identity, and verify it. Raises MeshError."""
    what = "the record of interfaces"
    body = signed.only(data, PURPOSE, LARGEST, what).check((identity,), what)
    fields = decode(body, what)
    record = LinkRecord(
        identity=fields.data("identity", SIZE, SIZE),
        serial=fields.number("serial", 1, HIGHEST),
        interfaces=tuple(_interface(each) for each in fields.several("interfaces", MOST)),
        relays=fields.texts("relays", MOST_RELAYS, 63),
        reached=tuple(_reached(each) for each in fields.several("reached", MOST_REACHED)),
        certificate=fields.data("certificate", 0, SIZE),
        served=next((_served(each) for each in fields.several("served", 1)), None),
        raw=data,
    )
    fields.end()
    check(body, _value(record), what)
    if record.identity != identity:
        raise MeshError(f"{what} is of another machine")
    _check(record, what)
    return record


def newer(first: bytes, second: bytes) -> bytes:
    """Return which of two verified records of one identity counts; empty is none.

    Of two with one serial it is the same one everywhere: a machine that was put back from a backup
    may have made two.
    """
    return max(first, second, key=lambda raw: (serial(raw), raw))


def serial(raw: bytes) -> int:
    """Return the serial of a verified record; of none, 0."""
    if not raw:
        return 0
    return decode(raw[signed.HEAD :], "a record").number("serial", 1, HIGHEST)


def _check(record: LinkRecord, what: str) -> None:
    if len(record.certificate) not in {0, SIZE}:
        raise MeshError(f"{what}: a certificate's hash has 32 bytes")
    if bool(record.certificate) != (record.served is not None and not record.served.name):
        raise MeshError(f"{what}: who takes streams without a web server has a certificate")
    ids = [each.id for each in record.interfaces]
    if ids != sorted(set(ids)):
        raise MeshError(f"{what}: its interfaces are not in order, or one is there twice")
    keys = [each.key for each in record.interfaces]
    if len(keys) != len(set(keys)):
        raise MeshError(f"{what}: two interfaces have one key; each must have its own")
    if list(record.reached) != sorted(set(record.reached)):
        raise MeshError(f"{what}: the places of its relay are not in order, or one is there twice")


def _reached(value: Any) -> Reached:
    host, port, seats = row(value, (str, int, int), "a place of a relay")
    try:
        same = str(ip_address(host)) == host
    except ValueError:
        same = False
    if not same or not 1 <= seats <= MOST_SEATS or not 1 <= port <= 65536 - seats:
        raise MeshError("a place of a relay has an address or a port that cannot be")
    return Reached(host=host, port=port, seats=seats)


def _served(value: Any) -> Served:
    port, name, path = row(value, (int, str, str), "where it takes streams")
    fits = bool(_NAME.fullmatch(name) and _PATH.fullmatch(path)) if name or path else True
    if not 1 <= port <= 65535 or not fits:  # noqa: PLR2004
        raise MeshError("a place for streams has a port, a name or a path that cannot be")
    return Served(port=port, name=name, path=path)


def _interface(value: Any) -> PublishedInterface:
    what = "an interface's record"
    fields = Fields(value, what)
    made = PublishedInterface(
        id=fields.text("id", 8),
        uplink=fields.text("uplink", 15),
        family=fields.number("family", 4, 6),
        kind=fields.text("kind", 16),
        network=fields.text("network", 63),
        key=fields.data("key", SIZE, SIZE),
        leaving=bool(fields.number("leaving", 0, 1)),
        port=fields.number("port", 0, 65535),
    )
    fields.end()
    right = (
        _ID.fullmatch(made.id)
        and made.family in {4, 6}
        and made.kind in KINDS
        and _PLAIN.fullmatch(made.uplink + made.network)
    )
    if not right:
        raise MeshError(f"{what} has an id, a family, a kind, a name or a key that cannot be")
    return made


def _value(record: LinkRecord) -> dict[str, Any]:
    return {
        "identity": base64_of(record.identity),
        "serial": record.serial,
        "interfaces": [
            {
                "id": each.id,
                "uplink": each.uplink,
                "family": each.family,
                "kind": each.kind,
                "network": each.network,
                "key": base64_of(each.key),
                "leaving": int(each.leaving),
                "port": each.port,
            }
            for each in record.interfaces
        ],
        "relays": list(record.relays),
        "reached": [[each.host, each.port, each.seats] for each in record.reached],
        "certificate": base64_of(record.certificate),
        "served": [[s.port, s.name, s.path] for s in (record.served,) if s is not None],
    }
