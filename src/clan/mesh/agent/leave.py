"""Takes away what an agent made on this machine, when the machine leaves its mesh for good.

An agent that ends leaves it all, so that paths go on; this is for when none is to come. What the
mesh keeps on the disk stays: a machine that comes back has its interfaces' keys and its maps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.agent import firewall, marks
from clan.mesh.agent.interfaces import Interfaces
from clan.mesh.agent.kernel import Kernel
from clan.mesh.agent.rtnetlink import MAIN

if TYPE_CHECKING:
    from collections.abc import Callable, Collection
    from ipaddress import IPv4Network, IPv6Network
    from pathlib import Path


def leave(
    prefixes: Collection[IPv4Network | IPv6Network], opened: Path, say: Callable[[str], None]
) -> None:
    """Take it away; it does not matter what of it is there. Raises OSError, StepError.

    `prefixes` are the clan's own and its range of aliases, `opened` is where what was opened in
    others' firewalls is written down.
    """
    with Kernel() as kernel:
        Interfaces(kernel, b"", say).have((), ())
        there = kernel.interfaces()
        kernel.settle_rules(())
        kernel.settle_routes((), table=MAIN)
        for index in there:
            kernel.settle_routes((), table=marks.table(index))
        for each in kernel.addresses():
            is_loopback = each.index in there and there[each.index].loopback
            if is_loopback and any(each.address.ip in prefix for prefix in prefixes):
                kernel.remove_address(each.index, each.address)
    firewall.remove()
    firewall.let_in((), record=opened)
