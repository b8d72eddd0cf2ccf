"""The relay's table of nftables: a flow's datagrams go straight on to the other side. Pure.

One table, replaced whole in one step. Its rules stand where packets come in by an uplink, before
anything else of the kernel sees them (`netdev` family, hook `ingress`). They write where a datagram
goes and where it comes from, as the other side knows this relay, and put it into the uplink that
leads there. So the machine becomes no router, no connection is tracked that would have to be
forgotten, and no firewall's forward chain is asked.

What they do not take goes its usual way. Registrations, by their magic: they are heard by rules of
the mesh's own table (`clan.mesh.agent.firewall`), before connections are tracked, and go to the
agent (log group) and no further. And fragments, which have to be put together first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.mesh.relay.ports import DOOR, MAGIC, PORTS

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from clan.mesh.relay.desk import Flow, Leg

TABLE = "clan_relay"
GROUP = 49_194
"""The log group that the agent hears registrations and their answers by."""
HEARD = 300
"""Datagrams with the magic in a second that are handed over; more is a flood."""
PASSED, FRAGMENTS = "passed", "fragments"
"""How the names of a flow's two counters begin."""
_HERE = "fib daddr type local"
"""A router may be a relay, too: what it passes on for others is none of its business."""
_BEGINNING = f"@th,64,32 0x{MAGIC[:4].hex()}"
"""Every datagram to a relay meets this: four bytes are compared at once, eight by a detour."""
_MAGIC = f"{_BEGINNING} @th,64,64 0x{MAGIC.hex()}"
_TO_PORT = "@th,16,16 {0} " + _MAGIC + " udp dport {0}"
"""Every packet meets the port first: it is in the header, and the rest may have to be gathered."""
_TO_SEATS = [
    *(
        f"@th,16,8 {byte:#x} {_MAGIC} udp dport {PORTS.start}-{PORTS.stop - 1}"
        for byte in sorted({port >> 8 for port in PORTS})
    ),
    _TO_PORT.format(DOOR),
]
HAND_OVER = (
    f"limit rate over {HEARD}/second burst {HEARD} packets drop",
    f"log group {GROUP}",
    "drop",
)
"""What becomes of a registration, or an answer to one."""
_ADDRESS = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}
_KNOWN_BY = "{0} saddr . udp sport . {0} daddr . udp dport"
_IS_FRAGMENT = {"ip": "ip frag-off & 0x3fff != 0", "ip6": "exthdr frag exists"}
"""More to come, or an offset (RFC 791, section 3.1); its own header (RFC 8200, section 4.5)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NextHop:
    """Where a datagram is put: the interface, and the neighbour there, by its address."""

    interface: str
    neighbour: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """A flow that the kernel passes on, with the way to each of its legs."""

    flow: Flow
    hops: tuple[NextHop, NextHop]


def registrations(ports: Iterable[int], then: str) -> list[str]:
    """Return the rules for what comes in, before it is tracked: `then` for a registration.

    `ports` are those of this machine's own slots for relays.
    """
    own = [f"{_TO_PORT.format(port)} {then}" for port in ports]
    return [*own, *(f"{to} {_HERE} {then}" for to in _TO_SEATS)]


def ruleset(passed: Sequence[Passed], uplinks: Iterable[str]) -> str:
    """Return the table in nft's language (nft(8)), for `nft -f`; without flows it is empty.

    It is there all the same: so one knows when somebody took all tables away.
    """
    head = [f"table netdev {TABLE} {{}}", f"delete table netdev {TABLE}"]
    if not passed:
        return "\n".join([*head, f"table netdev {TABLE} {{}}", ""])
    families = sorted({_family(leg) for each in passed for leg in each.flow.legs})
    devices = ", ".join(f'"{name}"' for name in uplinks)
    return "\n".join(
        [
            *head,
            f"table netdev {TABLE} {{",
            *(line for each in passed for line in _counters(each.flow)),
            *(line for each in passed for line in _chains(each)),
            *(line for family in families for line in _map(family, passed)),
            "chain uplinks {",
            f"type filter hook ingress devices = {{ {devices} }} priority 0; policy accept;",
            "meta l4proto != udp accept",
            f"{_BEGINNING} accept",
            *(f"{_KNOWN_BY.format(each)} vmap @legs_{each}" for each in families),
            "}",
            "}",
            "",
        ]
    )


def _counters(flow: Flow) -> list[str]:
    return [f"counter {name}{flow.number} {{}}" for name in (PASSED, FRAGMENTS)]


def _chains(passed: Passed) -> Iterator[str]:
    """Yield a chain for what comes from each leg: it goes to the other one."""
    flow = passed.flow
    for at, (leg, hop) in enumerate(zip(flow.legs, passed.hops, strict=True)):
        family = _family(leg)
        yield f"chain {_to(flow, at)} {{"
        yield f"{_IS_FRAGMENT[family]} counter name {FRAGMENTS}{flow.number} accept"
        yield f"{family} saddr set {leg.local}"
        yield f"{family} daddr set {leg.endpoint.host}"
        out = f"counter name {PASSED}{flow.number} fwd {family} to {hop.neighbour}"
        out += f' device "{hop.interface}"'
        if family == "ip":
            # As bytes of no meaning: the kernel would mend a checksum that is not there (RFC 768).
            bare = f"@th,0,16 set {leg.port} @th,16,16 set {leg.endpoint.port}"
            yield f"udp checksum 0 {bare} {out}"
        yield f"udp sport set {leg.port} udp dport set {leg.endpoint.port} {out}"
        yield "}"


def _map(family: str, passed: Iterable[Passed]) -> list[str]:
    """Return the map from what a datagram has to the chain of the leg that it goes to."""
    address = _ADDRESS[family]
    elements = [
        f"{leg.endpoint.host} . {leg.endpoint.port} . {leg.local} . {leg.port}"
        f" : goto {_to(each.flow, 1 - at)}"
        for each in passed
        for at, leg in enumerate(each.flow.legs)
        if _family(leg) == family
    ]
    return [
        f"map legs_{family} {{",
        f"type {address} . inet_service . {address} . inet_service : verdict",
        f"elements = {{ {', '.join(elements)} }}",
        "}",
    ]


def _to(flow: Flow, leg: int) -> str:
    return f"to{flow.number}_{leg}"


def _family(leg: Leg) -> str:
    return "ip6" if ":" in leg.local else "ip"
