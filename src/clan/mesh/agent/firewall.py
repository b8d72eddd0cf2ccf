"""The mesh's table of nftables: what may bear the clan's addresses, and who talks to whom.

It owns one table, which is replaced whole, in one step; others' tables are never touched. Where ufw
or firewalld rule, they are asked to let the mesh's ports in, in their own way and with a record of
ours. Which interfaces, ports and peers there are is not decided here.

    raw       before connections are tracked: a clan address comes in by the mesh or not at all.
              Datagrams to a link's port get the link's mark, so that a strict reverse-path filter
              looks for the way back in the table of their uplink. The kernel's own, for IPv4,
              does so where net.ipv4.conf.all.src_valid_mark is 1.
    output    what WireGuard sends for the mesh goes to no clan address: no mesh inside the mesh.
              Nor does what other networks' tunnels are made of, which the mesh may go by.
    input     A peer's first packet after some seconds without one, in either direction, is
              reported: so one knows who talks, and nothing is read while packets flow. What relays
              and members tell each other by the mesh does not count: nobody talks.
    forward   between mesh interfaces only.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine import firewalls
from clan.machine.system import run
from clan.mesh.agent import marks, netlink
from clan.mesh.agent.netlink import Netlink, attributes
from clan.mesh.relay.ports import PORT

if TYPE_CHECKING:
    from collections.abc import Iterable
    from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

    from clan.mesh.agent.uplinks import Carrier

TABLE = "clan_mesh"
GROUP = 49_193
"""The log group by which first packets are reported; groups have 16 bits, most use low ones."""
QUIET = 5
"""Seconds in which packets from and to one peer are reported once."""
OPENED = Path("/var/lib/clan/mesh/opened.json")
"""What was opened in others' firewalls for the mesh."""

_NEW_TABLE, _DELETE_TABLE, _TABLE_NAME = 10 << 8, 10 << 8 | 2, 1
_GROUP_OF_EVENTS = 7
_FAMILIES = ((6, "ip6"), (4, "ip"))
_HEAD = 4
"""Bytes of struct nfgenmsg (linux/netfilter/nfnetlink.h)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """Where a link's datagrams come in: the uplink's name, the UDP port, and the link's mark."""

    uplink: str
    port: int
    mark: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Guard:
    """What the table is to say.

    `prefix` holds the clan's addresses and `alias` those of IPv4, if there are any; `interfaces`
    are the mesh's. `peers` are those whose packets are to be reported, by their addresses. `ways`
    holds the addresses of ways over several members, and `over` is the interface whose datagrams
    go there. `carriers` send what other networks' tunnels are made of.
    """

    prefix: IPv6Network
    alias: IPv4Network | None = None
    interfaces: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    peers: tuple[IPv4Address | IPv6Address, ...] = ()
    ways: IPv6Network | None = None
    over: Entry | None = None
    carriers: tuple[Carrier, ...] = ()


def ruleset(guard: Guard) -> str:
    """Return the table in nft's language (nft(8)), for `nft -f`: it replaces what there was."""
    ranges = [("ip6", guard.prefix), *([("ip", guard.alias)] if guard.alias else [])]
    inside = ", ".join(f'"{name}"' for name in ("lo", *guard.interfaces))
    own = ", ".join(f'"{name}"' for name in guard.interfaces)
    ranges += [("ip6", guard.ways)] if guard.ways else []
    raw = [
        f"iifname != {{ {inside} }} {family} {end} {network} drop"
        for family, network in ranges
        for end in ("saddr", "daddr")
    ]
    raw += [
        f'iifname "{each.uplink}" udp dport {each.port} meta mark set {each.mark:#x}'
        for each in guard.entries
    ]
    ours = f"meta mark & {marks.MASK:#x} == {marks.FIRST:#x}"
    output = [
        f"{which} {family} daddr {network} drop"
        for which in (ours, *map(_sent_by, guard.carriers))
        for family, network in ranges
    ]
    go, come = _over_members(guard)
    sent = [f"{ip} daddr @peers{v} {ip} daddr != @heard{v} jump sent" for v, ip in _FAMILIES]
    came = [f"{ip} saddr @peers{v} {ip} saddr != @heard{v} jump came" for v, ip in _FAMILIES]
    told = f"ip6 daddr {guard.prefix} udp dport {PORT} accept"
    forward = [*sent, *came]
    if own:
        forward += [
            f"iifname {{ {own} }} oifname != {{ {own} }} drop",
            f"iifname != {{ {own} }} oifname {{ {own} }} drop",
        ]
    return "\n".join(
        [
            f"table inet {TABLE} {{}}",  # so that there is one to delete
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            *(line for version, _ in _FAMILIES for line in _sets(version, guard.peers)),
            *_chain("raw", "filter hook prerouting priority -310", raw),
            *_chain("output", "filter hook output priority -150", [*go, *output, told, *sent]),
            *_chain("input", "filter hook input priority -150", [*come, told, *came]),
            *_chain("forward", "filter hook forward priority -150", forward),
            *_report("sent", "daddr"),
            *_report("came", "saddr"),
            "}",
            "",
        ]
    )


def _sent_by(carrier: Carrier) -> str:
    if carrier.group:
        return f'socket cgroupv2 level {carrier.level} "{carrier.group}"'
    return f"udp sport {carrier.port}"


def _over_members(guard: Guard) -> tuple[list[str], list[str]]:
    """Return what may go out and come in by ways over members: one WireGuard's datagrams."""
    go, come = [], []
    if guard.ways is not None:
        if guard.over is not None:
            go.append(f"meta mark {guard.over.mark:#x} ip6 daddr {guard.ways} accept")
            go.append(f"meta mark {guard.over.mark:#x} drop")
            come.append(f"ip6 daddr {guard.ways} udp dport {guard.over.port} accept")
        come.append(f"ip6 daddr {guard.ways} drop")
    return go, come


def _sets(version: int, peers: Iterable[IPv4Address | IPv6Address]) -> list[str]:
    listed = ", ".join(str(each) for each in peers if each.version == version)
    kind = f"type ipv{version}_addr"
    return [
        *(f"set peers{version} {{", kind, f"elements = {{ {listed} }}" if listed else "", "}"),
        *(f"set heard{version} {{", kind, "flags dynamic,timeout", "size 65535", "}"),
    ]


def _report(name: str, end: str) -> list[str]:
    return [
        f"chain {name} {{",
        *(f"add @heard{version} {{ {ip} {end} timeout {QUIET}s }}" for version, ip in _FAMILIES),
        f"log group {GROUP} snaplen 40",
        "}",
    ]


def _chain(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return [f"chain {name} {{", f"type {hook}; policy accept;", *rules, "}"]


def uphold(guard: Guard) -> None:
    """Have the table say just this. Raises StepError."""
    run(["nft", "-f", "-"], stdin=ruleset(guard).encode())


def remove() -> None:
    """Take the table away. Raises StepError."""
    run(["nft", "-f", "-"], stdin=f"table inet {TABLE} {{}}\ndelete table inet {TABLE}\n".encode())


def let_in(ports: Iterable[tuple[str, int, str]], *, record: Path = OPENED) -> None:
    """Have ufw and firewalld, where they rule, let in these ports and no more of ours.

    Each is `udp` or `tcp`, its number, and the one interface it is for, or an empty name. Raises
    StepError.
    """
    firewalls.settle(record, [(protocol, str(port), name) for protocol, port, name in ports])


class Watch:
    """Says when one of `tables` was taken away: `nft flush ruleset` takes everyone's.

    Raises OSError where the kernel has no nftables.
    """

    def __init__(self, *tables: str) -> None:
        self._tables = [each.encode() for each in tables or (TABLE,)]
        self._netlink = Netlink(netlink.NETFILTER, [_GROUP_OF_EVENTS])

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._netlink.fileno()

    def close(self) -> None:
        """Watch no more."""
        self._netlink.close()

    def gone(self) -> bool:
        """Whether somebody deleted a table since the last call. Raises OverrunError.

        One that was replaced is not gone: it is made anew in the same step.
        """
        gone = set()
        for message in self._netlink.events():
            if message.kind in {_NEW_TABLE, _DELETE_TABLE}:
                name = attributes(message.body[_HEAD:]).get(_TABLE_NAME, b"").rstrip(b"\0")
                if name in self._tables and message.kind == _DELETE_TABLE:
                    gone.add(name)
                else:
                    gone.discard(name)
        return bool(gone)


def is_there() -> bool:
    """Whether the table is there. Raises StepError."""
    listed = json.loads(run(["nft", "-j", "list", "tables"]))["nftables"]
    return any(each.get("table", {}).get("name") == TABLE for each in listed)
