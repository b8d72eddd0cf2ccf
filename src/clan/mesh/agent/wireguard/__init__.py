"""WireGuard interfaces: their key, port and mark, their peers, and what was heard from each.

One interface carries a slot's links to all peers. The kernel's is spoken to by generic netlink,
wireguard-go by its socket; both do the same. Private keys go by these two alone, never by a file or
a command line. Who a peer is and when one is changed is not known here.

Of what the WireGuard service has, the units of wireguard-go are used again: they outlive the agent.
Its `wg` is not: that is a process for each look and each change, and the agent looks all the time.
"""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

from clan.machine.wireguard.backend import Userspace as Daemon
from clan.mesh.agent.kernel import TUN, WIREGUARD
from clan.mesh.agent.netlink import NetlinkError
from clan.mesh.agent.wireguard.device import (
    Change,
    Device,
    Endpoint,
    Peer,
    Wireguard,
    fingerprint,
)
from clan.mesh.agent.wireguard.kernel import InKernel
from clan.mesh.agent.wireguard.userspace import InUserspace

if TYPE_CHECKING:
    from clan.mesh.agent.kernel import Kernel

__all__ = ["Change", "Device", "Endpoint", "Peer", "Wireguard", "fingerprint", "make"]


def make(kernel: Kernel, name: str) -> Wireguard:
    """Make an interface, or take up the one of this name, as the kernel's or wireguard-go's.

    Raises NetlinkError: EEXIST where the interface is something else. Raises StepError where
    wireguard-go does not start.
    """
    there = kernel.interface(name)
    if there is None:
        try:
            kernel.create(name, WIREGUARD)
        except NetlinkError as fault:
            if fault.errno != errno.EOPNOTSUPP:
                raise
            # Made here, not by the daemon: so it stays, with its routes, when the daemon dies.
            kernel.create(name, TUN)
        there = kernel.interface(name)
    if there is None or there.kind not in {WIREGUARD, TUN}:
        raise NetlinkError(errno.EEXIST, f"{name} is there already, and is not WireGuard's")
    if there.kind == WIREGUARD:
        return InKernel(kernel, name)
    made = InUserspace(kernel, name)
    if not made.answers() and not Daemon().create(name):
        kernel.delete(there.index)
        raise NetlinkError(errno.EOPNOTSUPP, "no WireGuard in the kernel, and no wireguard-go")
    return made
