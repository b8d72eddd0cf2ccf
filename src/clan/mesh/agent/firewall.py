"""The mesh's table of nftables: what may bear the clan's addresses, and who talks to whom.

It owns one table, which is replaced whole, in one step; others' tables are never touched. Where ufw
or firewalld rule, they are asked to let the mesh's ports in, in their own way and with a record of
ours. Which interfaces, ports and peers there are is not decided here.

    raw       before connections are tracked: what relays and members tell each other outside of
              links is for the agent. A clan address comes in by the mesh or not at all.
              Datagrams to a link's port get the link's mark, so that a strict reverse-path filter
              looks for the way back in the table of their uplink. The kernel's own, for IPv4,
              does so where net.ipv4.conf.all.src_valid_mark is 1.
              Where there is no other interface that it could lead by, they get none.
    output    what WireGuard sends for the mesh goes to no clan address: no mesh inside the mesh.
              Nor does what other networks' tunnels are made of, which the mesh may go by.
              What else is for a clan address leaves by the mesh or not at all, whatever routes a
              LAN hands out, and whatever interface a program asks for.
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
from clan.mesh.relay import table
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

_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN, _TABLE_NAME = 10 << 8, 10 << 8 | 2, 10 << 8 | 3, 1
_GROUP_OF_EVENTS = 7
_OURS = f"meta mark & {marks.MASK:#x} == {marks.FIRST:#x}"
_AT = {("ip6", "saddr"): 64, ("ip6", "daddr"): 192, ("ip", "saddr"): 96, ("ip", "daddr"): 128}
"""Bits of a header before its addresses (RFC 8200, section 3; RFC 791, section 3.1)."""
_OWN = b"clan"
"""How the names of our tables begin, and a generation's."""
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
    holds the addresses of ways over several members, and `over` are the interfaces whose datagrams
    go there: one, or two while its key is replaced. `carriers` send what other networks' tunnels
    are made of. `relayed` are the ports at which relays answer.
    """

    prefix: IPv6Network
    alias: IPv4Network | None = None
    interfaces: tuple[str, ...] = ()
    entries: tuple[Entry, ...] = ()
    peers: tuple[IPv4Address | IPv6Address, ...] = ()
    ways: IPv6Network | None = None
    over: tuple[Entry, ...] = ()
    carriers: tuple[Carrier, ...] = ()
    relayed: tuple[int, ...] = ()


def ruleset(guard: Guard) -> str:
    """Return the table in nft's language (nft(8)), for `nft -f`: it replaces what there was.

    Every packet of the machine meets these rules, so what is not the mesh's leaves each chain after
    a comparison or two of one byte.
    """
    ranges: list[tuple[str, IPv4Network | IPv6Network]] = [("ip6", guard.prefix)]
    ranges += [("ip", guard.alias)] if guard.alias else []
    ranges += [("ip6", guard.ways)] if guard.ways else []
    own = ", ".join(f'"{name}"' for name in guard.interfaces)
    families = [(6, "ip6"), *([(4, "ip")] if guard.alias else [])]
    inside = [*([f"iifname {{ {own} }} goto inbound"] if own else []), 'iifname "lo" accept']
    foreign = [
        f"{family} {end} {network} drop" for family, network in ranges for end in ("saddr", "daddr")
    ]
    raw = table.registrations(guard.relayed, "goto registered")
    raw += [f"{near} jump bound" for near in _near(ranges, "saddr") + _near(ranges, "daddr")]
    raw += [
        f'udp dport {each.port} iifname "{each.uplink}" meta mark set {each.mark:#x} accept'
        for each in guard.entries
    ]
    go, come = _over_members(guard)
    none = [f"{family} daddr {network} drop" for family, network in ranges]
    ways_out = ", ".join(f'"{name}"' for name in ("lo", *guard.interfaces))
    astray = f"oifname != {{ {ways_out} }} jump astray"
    carried = [f"{_sent_by(each)} {drop}" for each in guard.carriers for drop in none]
    told = f"ip6 daddr {guard.prefix} udp dport {PORT} accept"
    sent = [*_heard("daddr", families), told, *_unheard("daddr", families, "sent")]
    came = [*_heard("saddr", families), told, *_unheard("saddr", families, "came")]
    output = [f"meta mark {each.mark:#x} goto outer" for each in guard.over]
    output += [f"{near} jump outbound" for near in _near(ranges, "daddr")]
    forward = [f"iifname {{ {own} }} goto onward", f"oifname {{ {own} }} drop"] if own else []
    onward = [f"oifname != {{ {own} }} drop", *sent] if own else []
    return "\n".join(
        [
            f"table inet {TABLE} {{}}",  # so that there is one to delete
            f"delete table inet {TABLE}",
            f"table inet {TABLE} {{",
            *(line for version, _ in families for line in _sets(version, guard.peers)),
            *_report("sent", "daddr", families),
            *_report("came", "saddr", families),
            *_chain("registered", table.HAND_OVER),
            *_chain("inbound", [*come, *came]),
            *_chain("bound", [*inside, *foreign]),
            *_chain("outer", [*go, *none]),
            *_chain("astray", none),
            *_chain("outbound", [f"{_OURS} goto outer", astray, *carried, *sent]),
            *_chain("onward", onward),
            *_hooked("raw", "prerouting priority -310", raw),
            *_hooked("output", "output priority -310", output),
            *_hooked("forward", "forward priority -150", forward),
            "}",
            "",
        ]
    )


def _near(ranges: Iterable[tuple[str, IPv4Network | IPv6Network]], end: str) -> list[str]:
    """Return what holds for all packets to or from the ranges, and for few others.

    It is the first byte of the address, wherever that is in the version of IP that the packet may
    be of: the kernel compares it in no time, and each rule that follows looks closer.
    """
    found = {(_AT[family, end], _number(network, 1)) for family, network in ranges}
    return [f"@nh,{at},8 {byte}" for at, byte in sorted(found)]


def _number(network: IPv4Network | IPv6Network, size: int) -> str:
    """Return the first bytes of a network's addresses as nft writes them."""
    return f"{int.from_bytes(network.network_address.packed[:size], 'big'):#x}"


def _heard(end: str, families: Iterable[tuple[int, str]]) -> list[str]:
    """Accept what was reported a moment ago: most packets are, and come no further."""
    return [f"{ip} {end} @heard{version} accept" for version, ip in families]


def _unheard(end: str, families: Iterable[tuple[int, str]], chain: str) -> list[str]:
    return [f"{ip} {end} @peers{version} jump {chain}" for version, ip in families]


def _sent_by(carrier: Carrier) -> str:
    if carrier.group:
        return f'socket cgroupv2 level {carrier.level} "{carrier.group}"'
    return f"udp sport {carrier.port}"


def _over_members(guard: Guard) -> tuple[list[str], list[str]]:
    """Return what may go out and come in by ways over members: our WireGuard's datagrams."""
    go, come = [], []
    if guard.ways is not None:
        near = f"@nh,{_AT['ip6', 'daddr']},32 {_number(guard.ways, 4)}"
        for each in guard.over:
            go.append(f"meta mark {each.mark:#x} ip6 daddr {guard.ways} accept")
            go.append(f"meta mark {each.mark:#x} drop")
            come.append(f"{near} ip6 daddr {guard.ways} udp dport {each.port} accept")
        come.append(f"{near} ip6 daddr {guard.ways} drop")
    return go, come


def _sets(version: int, peers: Iterable[IPv4Address | IPv6Address]) -> list[str]:
    listed = ", ".join(str(each) for each in peers if each.version == version)
    kind = f"type ipv{version}_addr"
    return [
        *(f"set peers{version} {{", kind, f"elements = {{ {listed} }}" if listed else "", "}"),
        *(f"set heard{version} {{", kind, "flags dynamic,timeout", "size 65535", "}"),
    ]


def _report(name: str, end: str, families: Iterable[tuple[int, str]]) -> list[str]:
    heard = [f"add @heard{version} {{ {ip} {end} timeout {QUIET}s }}" for version, ip in families]
    return _chain(name, [*heard, f"log group {GROUP} snaplen 40"])


def _chain(name: str, rules: Iterable[str]) -> list[str]:
    return [f"chain {name} {{", *rules, "}"]


def _hooked(name: str, hook: str, rules: Iterable[str]) -> list[str]:
    return _chain(name, [f"type filter hook {hook}; policy accept;", *rules])


def uphold(guard: Guard) -> None:
    """Have the table say just this. Raises StepError."""
    run(["nft", "-f", "-"], stdin=ruleset(guard).encode())


def remove(*tables: str) -> None:
    """Take away those of these tables that are there. Raises StepError."""
    lines = [f"delete table {family} {name}\n" for family, name in _tables() if name in tables]
    run(["nft", "-f", "-"], stdin="".join(lines).encode())


def let_in(ports: Iterable[tuple[str, int, str]], *, record: Path = OPENED) -> None:
    """Have ufw and firewalld, where they rule, let in these ports and no more of ours.

    Each is `udp` or `tcp`, its number, and the one interface it is for, or an empty name. Raises
    StepError.
    """
    firewalls.settle(record, [(protocol, str(port), name) for protocol, port, name in ports])


class Watch:
    """Says when one of `tables` was taken away: `nft flush ruleset` takes everyone's.

    `others_came` says whether somebody else made chains: it may be a firewall that begins to rule.
    Raises OSError where the kernel has no nftables.
    """

    def __init__(self, *tables: str) -> None:
        self._tables = [each.encode() for each in tables or (TABLE,)]
        self._others_came = False
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
            if message.kind in {_NEW_TABLE, _DELETE_TABLE, _NEW_CHAIN}:
                name = attributes(message.body[_HEAD:]).get(_TABLE_NAME, b"").rstrip(b"\0")
                if message.kind == _NEW_CHAIN:
                    self._others_came |= not name.startswith(_OWN)
                elif name in self._tables and message.kind == _DELETE_TABLE:
                    gone.add(name)
                else:
                    gone.discard(name)
        return bool(gone)

    def others_came(self) -> bool:
        """Whether `gone` has seen that since the last call."""
        came, self._others_came = self._others_came, False
        return came


def is_there() -> bool:
    """Whether the table is there. Raises StepError."""
    return ("inet", TABLE) in _tables()


def _tables() -> list[tuple[str, str]]:
    """Return the family and name of each table that is there, anyone's. Raises StepError."""
    listed = json.loads(run(["nft", "-j", "list", "tables"]))["nftables"]
    tables = [each["table"] for each in listed if "table" in each]
    return [(table["family"], table["name"]) for table in tables]
