"""Makes the kernel forget connections that it tracks (linux/netfilter/nfnetlink_conntrack.h).

A datagram of a connection that is tracked is translated as its first one was, whatever the rules
say by now. So each change of rules that translate has to be followed by this.
"""

from __future__ import annotations

import errno
import socket
import struct
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.mesh.agent import netlink
from clan.mesh.agent.netlink import Netlink, NetlinkError, attribute, nested

if TYPE_CHECKING:
    from clan.mesh.link import Endpoint

_DELETE = 1 << 8 | 2
_TUPLE, _MARK, _MARK_MASK = 1, 8, 21
_TUPLE_IP, _TUPLE_PROTOCOL = 1, 2
_ENDS = {4: (1, 2), 6: (3, 4)}
"""The attributes of a tuple's two addresses, by the version of IP."""
_NUMBER, _SOURCE_PORT, _PORT = 1, 2, 3
_FAMILIES = {4: socket.AF_INET, 6: socket.AF_INET6}
_HEAD = struct.Struct("!BBH")
"""struct nfgenmsg: family, version, zero."""


class Conntrack:
    """The connections of this network namespace. Raises OSError where none are tracked."""

    def __init__(self) -> None:
        self._netlink = Netlink(netlink.NETFILTER)

    def close(self) -> None:
        """Close the socket."""
        self._netlink.close()

    def forget_mark(self, mark: int, mask: int = 0xFFFFFFFF) -> None:
        """Forget all that bear a mark, in the bits of the mask. Raises NetlinkError."""
        wanted = attribute(_MARK, struct.pack("!I", mark))
        wanted += attribute(_MARK_MASK, struct.pack("!I", mask))
        self._delete(socket.AF_UNSPEC, wanted)

    def forget(self, source: Endpoint, to: Endpoint) -> None:
        """Forget the one whose UDP datagrams have these ends in one direction.

        Raises NetlinkError.
        """
        ends = ip_address(source.host), ip_address(to.host)
        version = ends[0].version
        addresses = [
            attribute(kind, end.packed) for kind, end in zip(_ENDS[version], ends, strict=True)
        ]
        protocol = (
            attribute(_NUMBER, bytes([socket.IPPROTO_UDP])),
            attribute(_SOURCE_PORT, struct.pack("!H", source.port)),
            attribute(_PORT, struct.pack("!H", to.port)),
        )
        wanted = nested(_TUPLE, nested(_TUPLE_IP, *addresses), nested(_TUPLE_PROTOCOL, *protocol))
        self._delete(_FAMILIES[version], wanted)

    def _delete(self, family: int, wanted: bytes) -> None:
        try:
            self._netlink.ask(_DELETE, _HEAD.pack(family, 0, 0) + wanted)
        except NetlinkError as fault:
            if fault.errno != errno.ENOENT:
                raise
