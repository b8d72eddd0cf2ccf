"""The relay's table of nftables: registrations to the agent, all else to the other side. Pure.

One table, replaced whole in one step. A flow's datagrams are known by where they come from and the
port they come to; that gives them a mark in conntrack, and by this mark alone they are translated:
to the other side, and from the address of this relay that the other side knows.

    translate   a flow's first datagram gets its mark, and its new destination
    came, left  counts; a flow that comes and does not leave is stopped by somebody else's rules

Registrations are rules of the mesh's own table (`clan.mesh.agent.firewall`), as every chain that
every packet meets costs: what carries the magic goes to the agent (log group) and no further. So
conntrack never knows it, and no entry without a translation is made for a port. What the agent
answers is not tracked either, for the same reason.
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
FIRST, MASK = 0x0C1B0000, 0xFFFF0000
"""Which conntrack marks are ours. The mesh's links have marks of packets, and other ones."""
HEARD = 300
"""Datagrams with the magic in a second that are handed over; more is a flood."""
FAMILIES = ("ip", "ip6")
_HERE = "fib daddr type local"
"""A router may be a relay, too: what it passes on for others is none of its business."""
_MAGIC = f"@th,64,32 0x{MAGIC[:4].hex()} @th,64,64 0x{MAGIC.hex()}"
"""Every packet meets this: four bytes are compared at once, eight by a detour."""
_SEATS = f"{{ {PORTS.start}-{PORTS.stop - 1}, {DOOR} }}"
HAND_OVER = (
    f"limit rate over {HEARD}/second burst {HEARD} packets drop",
    f"log group {GROUP}",
    "drop",
)
"""What becomes of a registration, or an answer to one."""
UNTRACKED = f"{_MAGIC} udp sport {_SEATS} notrack"
"""What is done to an answer that leaves, before it is tracked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the table is to say.

    `uplinks` are those between which nothing is to be forwarded but flows, in the versions of IP
    (`ipv4`, `ipv6`) that are `shut`: where it was the mesh that switched forwarding on.
    """

    flows: tuple[Flow, ...] = ()
    uplinks: tuple[str, ...] = ()
    shut: tuple[str, ...] = ()


def mark(flow: Flow, leg: Leg) -> int:
    """Return the conntrack mark of what comes in by a leg."""
    return FIRST | flow.number << 1 | flow.legs.index(leg)


def number(value: int) -> int:
    """Return the number of the flow that a mark is of."""
    return (value & ~MASK) >> 1


def passed(flows: Iterable[Flow]) -> list[Flow]:
    """Return the flows that the kernel is to pass on."""
    return [flow for flow in flows if flow.is_ready and flow.in_kernel]


def registrations(ports: Iterable[int], then: str) -> list[str]:
    """Return the rules for what comes in, before it is tracked: `then` for a registration.

    `ports` are those of this machine's own slots for relays.
    """
    listed = ", ".join(map(str, ports))
    own = [f"{_MAGIC} udp dport {{ {listed} }} {then}"] if listed else []
    return [*own, f"{_MAGIC} udp dport {_SEATS} {_HERE} {then}"]


def ruleset(told: Told) -> str:
    """Return the table in nft's language (nft(8)), for `nft -f`."""
    lines = [f"table inet {TABLE} {{}}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    flows = passed(told.flows)
    for family in FAMILIES:
        lines += _maps(family, [flow for flow in flows if _family(flow.legs[0]) == family])
    ours = f"ct mark & {MASK:#x} == {FIRST:#x}"
    lines += _counting(flows)
    if flows:
        lines += _chain("translate", "nat hook prerouting priority -110", _to(ours))
        lines += _chain("behind", "nat hook postrouting priority 90", _from(ours))
        ways = [
            f"{ours} ct direction {way} meta mark set ct mark map @{way}_way"
            for way in ("original", "reply")
        ]
        is_marked = any(leg.mark for flow in flows for leg in flow.legs)
        came = [f"{ours} ct mark @came", *(ways if is_marked else [])]
        lines += _chain("came", "filter hook prerouting priority -90", came)
        # UDP alone: what refuses a datagram, ICMP, belongs to its connection.
        left = f"meta l4proto udp {ours} ct mark @left"
        lines += _chain("left", "filter hook postrouting priority 300", [left])
    if told.shut and told.uplinks:
        names = ", ".join(f'"{name}"' for name in told.uplinks)
        between = f"iifname {{ {names} }} oifname {{ {names} }}"
        alien = f"ct mark & {MASK:#x} != {FIRST:#x}"
        lines += _chain(
            "shut",
            "filter hook forward priority -150",
            [f"meta nfproto {version} {between} {alien} drop" for version in told.shut],
        )
    return "\n".join([*lines, "}", ""])


def _maps(family: str, flows: Sequence[Flow]) -> list[str]:
    kind = {"ip": "ipv4_addr", "ip6": "ipv6_addr"}[family]
    legs, to, behind = [], [], []
    for flow in flows:
        for leg, other in _ways(flow):
            of = f"{mark(flow, leg):#x}"
            legs.append(f"{leg.endpoint.host} . {leg.endpoint.port} . {leg.port} : {of}")
            to.append(f"{of} : {other.endpoint.host} . {other.endpoint.port}")
            behind.append(f"{of} : {other.local} . {other.port}")
    return [
        *_set(f"map legs_{family}", f"{kind} . inet_service . inet_service : mark", legs),
        *_set(f"map to_{family}", f"mark : {kind} . inet_service", to),
        *_set(f"map from_{family}", f"mark : {kind} . inet_service", behind),
    ]


def _counting(flows: Sequence[Flow]) -> list[str]:
    marks = [f"{mark(flow, leg):#x}" for flow in flows for leg in flow.legs]
    counted = [f"{each} counter" for each in marks]
    ways: dict[str, list[str]] = {"original": [], "reply": []}
    for flow in flows:
        for leg, other in _ways(flow):
            ways["original"].append(f"{mark(flow, leg):#x} : {other.mark:#x}")
            ways["reply"].append(f"{mark(flow, leg):#x} : {leg.mark:#x}")
    return [
        *(line for name in ("came", "left") for line in _set(f"set {name}", "mark", counted)),
        *(
            line
            for name, elements in ways.items()
            for line in _set(f"map {name}_way", "mark : mark", elements)
        ),
    ]


def _to(ours: str) -> list[str]:
    legs = "saddr . udp sport . udp dport map @legs"
    return [
        *(f"{_HERE} ct mark set {family} {legs}_{family}" for family in FAMILIES),
        *(f"{_is(family)} {ours} dnat {family} to ct mark map @to_{family}" for family in FAMILIES),
    ]


def _from(ours: str) -> list[str]:
    return [f"{_is(each)} {ours} snat {each} to ct mark map @from_{each}" for each in FAMILIES]


def _is(family: str) -> str:
    return f"meta nfproto {'ipv6' if family == 'ip6' else 'ipv4'} meta l4proto udp"


def _ways(flow: Flow) -> Iterator[tuple[Leg, Leg]]:
    """Yield each leg with the other one."""
    one, other = flow.legs
    yield one, other
    yield other, one


def _family(leg: Leg) -> str:
    return "ip6" if ":" in leg.local else "ip"


def _set(head: str, kind: str, elements: Sequence[str]) -> list[str]:
    counted = ["counter"] if elements and elements[0].endswith(" counter") else []
    listed = [f"elements = {{ {', '.join(elements)} }}"] if elements else []
    return [f"{head} {{", f"type {kind}", *counted, *listed, "}"]


def _chain(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return [f"chain {name} {{", f"type {hook}; policy accept;", *rules, "}"]
