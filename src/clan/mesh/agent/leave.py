"""Takes away what an agent made on this machine, when the machine leaves its mesh for good.

An agent that ends leaves it all, so that paths go on; this is for when none is to come. What the
mesh keeps on the disk stays: a machine that comes back has its interfaces' keys and its maps.
"""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import TYPE_CHECKING

from clan.mesh.agent import firewall
from clan.mesh.agent.interfaces import Interfaces
from clan.mesh.agent.kernel import Kernel
from clan.mesh.agent.rtnetlink import ANY, PROTOCOL
from clan.mesh.hops import forward, labels
from clan.mesh.places import OPENED, RELAY_OPENED, RUN, STATE
from clan.mesh.relay import host, table

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from ipaddress import IPv4Network
    from pathlib import Path

TABLES = firewall.TABLE, table.TABLE, forward.TABLE


def leave(
    instance: str,
    prefixes: Collection[IPv4Network | IPv6Network],
    root: Path,
    say: Callable[[str], None],
) -> None:
    """Take it away; it does not matter what of it is there. Raises OSError, StepError.

    `prefixes` are the clan's own and its range of aliases; the machine's files are below `root`.
    """
    with Kernel() as kernel:
        Interfaces(kernel, b"", say).have((), ())
        there = kernel.interfaces()
        kernel.settle_rules(())
        # Also those of uplinks that are gone.
        for number in {each.table for each in kernel.routes(table=ANY, protocol=PROTOCOL)}:
            kernel.settle_routes((), table=number)
        ways = [labels.prefix(each) for each in prefixes if isinstance(each, IPv6Network)]
        for each in kernel.addresses():
            is_loopback = each.index in there and there[each.index].loopback
            if is_loopback and any(each.address.ip in prefix for prefix in (*prefixes, *ways)):
                kernel.remove_address(each.index, each.address)
    firewall.remove(*TABLES)
    host.end(root / RUN / f"mesh-{instance}")
    for record in (OPENED, RELAY_OPENED):
        firewall.let_in((), record=root / STATE / instance / record)
