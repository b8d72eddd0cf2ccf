"""Passing on in the kernel: the rules of nftables for a machine in the middle.

They stand where packets come out of the mesh's interfaces, before anything else of the kernel sees
them (`netdev` family, hook `ingress`), and put what is for another straight into the next hop's
interface. So the machine becomes no router: `net.ipv6.conf.all.forwarding` stays as it is, with all
that hangs on it, and no firewall's forward chain is asked. WireGuard has checked by then that the
first label of the source is that of the neighbour it came from; and it is the route to the next
member's ways that says by which interface it goes on. Where that leads out of the mesh, or by an
uplink on which bytes cost, nothing is passed on.

Whose packets are passed on is reported like other first packets, now and again: so the links to
both neighbours are watched as closely as if the traffic were this machine's.

The rules take this machine's label from the front of the destination and put it in front of the
source. What would lose a label there is dropped.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.machine.system import StepError, run
from clan.mesh.agent.firewall import GROUP, QUIET
from clan.mesh.hops.labels import network

if TYPE_CHECKING:
    from collections.abc import Callable
    from ipaddress import IPv6Network

TABLE = "clan_ways"
_SOURCE, _TO = 64, 192
"""Bits of an IPv6 header before its addresses (RFC 8200, section 3)."""
MOST_REPORTED = 20
"""First packets that are reported a second."""
_FIRST, _SECOND, _LAST, _SHIFTED = 48, 64, 112, 64
"""Bits of an address before its first, second and fifth label, and how many four labels are."""
_ONWARD = f"meta l4proto udp @nh,{_TO + _SECOND},16 != 0"


@dataclass(frozen=True, slots=True, kw_only=True)
class Passage:
    """What is passed on: from and to these interfaces, by name and index; none is nothing."""

    ways: IPv6Network
    label: int
    """This machine's."""
    interfaces: tuple[tuple[str, int], ...]


def ruleset(passage: Passage | None) -> str:
    """Return the table in nft's language, for `nft -f`: it replaces what there was."""
    head = [f"table netdev {TABLE} {{}}", f"delete table netdev {TABLE}"]
    if passage is None or not passage.interfaces:
        return "\n".join([*head, ""])
    own = network(passage.ways, passage.label)
    names = [name for name, _ in passage.interfaces]
    listed = ", ".join(f'"{name}"' for name in names)
    exits = ", ".join(f'"{name}" : goto to{at}' for at, name in enumerate(names))
    return "\n".join(
        [
            *head,
            f"table netdev {TABLE} {{",
            "set heard {",
            "type ipv6_addr",
            "flags dynamic,timeout",
            "size 65535",
            "}",
            "chain report {",
            f"add @heard {{ ip6 daddr timeout {QUIET}s }}",
            f"limit rate {MOST_REPORTED}/second log group {GROUP} snaplen 40",
            "}",
            *(
                f'chain to{at} {{\nip6 daddr != @heard jump report\nfwd to "{name}"\n}}'
                for at, name in enumerate(names)
            ),
            "chain pass {",
            f"@nh,{_SOURCE + _LAST},16 != 0 drop",
            f"@nh,{_SOURCE + _SECOND},{_SHIFTED} set @nh,{_SOURCE + _FIRST},{_SHIFTED}",
            f"@nh,{_SOURCE + _FIRST},16 set {passage.label:#x}",
            f"@nh,{_TO + _FIRST},{_SHIFTED} set @nh,{_TO + _SECOND},{_SHIFTED}",
            f"@nh,{_TO + _LAST},16 set 0",
            f"fib daddr oif vmap {{ {exits} }}",
            "drop",
            "}",
            "chain ways {",
            f"type filter hook ingress devices = {{ {listed} }} priority 0; policy accept;",
            f"ip6 saddr {passage.ways} ip6 daddr {own} {_ONWARD} goto pass",
            "}",
            "}",
            "",
        ]
    )


def uphold(passage: Passage | None) -> None:
    """Have the kernel pass on just this. Raises StepError."""
    run(["nft", "-f", "-"], stdin=ruleset(passage).encode())


class Passing:
    """What this machine passes on; `passes` says whether it passes on anything."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._upheld: Passage | None = None
        self._is_upheld = False
        self.passes = True

    def have(self, passage: Passage | None) -> None:
        """Have the kernel pass on just this; say it once where it cannot."""
        if self._is_upheld and passage == self._upheld:
            return
        try:
            uphold(passage)
            self.passes = passage is not None
        except StepError as fault:
            if self.passes:
                self._say(f"this machine passes nothing on for others: {fault}")
            self.passes = False
        self._upheld, self._is_upheld = passage, True

    def forget(self) -> None:
        """Note that somebody may have taken the rules away."""
        self._is_upheld = False
