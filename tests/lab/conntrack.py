"""Has a router forget its translations (linux/netfilter/nfnetlink_conntrack.h)."""

from __future__ import annotations

import contextlib
import socket
import struct

from clan.mesh.agent import netlink
from clan.mesh.agent.netlink import Netlink, attribute

_DELETE = 1 << 8 | 2
_MARK, _MARK_MASK = 8, 21
_HEAD = struct.pack("!BBH", socket.AF_UNSPEC, 0, 0)
"""struct nfgenmsg: family, version, zero."""


def forget_connections() -> None:
    """Forget all that this network namespace tracks: those with any mark. Raises NetlinkError."""
    any_mark = attribute(_MARK, bytes(4)) + attribute(_MARK_MASK, bytes(4))
    with contextlib.closing(Netlink(netlink.NETFILTER)) as kernel:
        kernel.ask(_DELETE, _HEAD + any_mark)
