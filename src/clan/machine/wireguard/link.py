"""An interface as it is wanted, and its far ends as `wg` shows them."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import ip_interface, ip_network
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """A far end as it is wanted; `endpoint` is `host:port`, `keepalive` seconds or 0."""

    name: str
    allowed: frozenset[str]
    endpoint: str | None
    keepalive: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Carrier:
    """A controller: `subnet` is what goes by it, `address` its own there."""

    name: str
    subnet: str
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface as it is wanted; `peers` is by public key, `port` 0 lets one be chosen.

    `carriers` are the controllers that stand in for each other, in the order in which they do.
    `listeners` (address -> name) are the machines that a controller tells what is dead.
    """

    name: str
    private_key: str
    addresses: frozenset[str]
    routes: frozenset[str]
    peers: Mapping[str, Peer]
    mtu: int
    port: int
    carriers: tuple[Carrier, ...]
    listeners: Mapping[str, str]

    @classmethod
    def of(cls, shape: Mapping[str, Any]) -> Link:
        """Read a WireguardLink of a plan, as JSON values."""
        return cls(
            name=shape["name"],
            private_key=shape["private_key"],
            addresses=frozenset(str(ip_interface(each)) for each in shape["addresses"]),
            routes=frozenset(str(ip_network(each)) for each in shape["routes"]),
            peers={
                peer["public_key"]: Peer(
                    name=peer["name"],
                    allowed=frozenset(str(ip_network(each)) for each in peer["allowed_ips"]),
                    endpoint=peer["endpoint"],
                    keepalive=peer["keepalive"] or 0,
                )
                for peer in shape["peers"]
            },
            mtu=shape["mtu"],
            port=shape["port"] or 0,
            # A generation of before there were any has none.
            carriers=tuple(Carrier(**each) for each in shape.get("carriers", ())),
            listeners={each["address"]: each["name"] for each in shape.get("listeners", ())},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """A far end as `wg` shows it; `handshake` is when the last one was, 0 for never.

    `received` and `sent` are bytes.
    """

    allowed: frozenset[str]
    endpoint: str | None
    handshake: int
    keepalive: int
    received: int = 0
    sent: int = 0


def peers_of(lines: Iterable[str]) -> Iterator[tuple[str, Seen]]:
    """Read the peers of `wg show INTERFACE dump` (wg(8)), by public key."""
    for line in lines:
        key, _, endpoint, allowed, handshake, received, sent, keepalive = line.split("\t")
        yield (
            key,
            Seen(
                allowed=frozenset() if allowed == "(none)" else frozenset(allowed.split(",")),
                endpoint=None if endpoint == "(none)" else endpoint,
                handshake=int(handshake),
                keepalive=0 if keepalive == "off" else int(keepalive),
                received=int(received),
                sent=int(sent),
            ),
        )
