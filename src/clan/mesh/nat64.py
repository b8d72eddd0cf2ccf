"""A NAT64's addresses: where it has IPv4, from what a resolver says, and an address there. Pure.

With IPv6 alone, IPv4 is reached at addresses that have an IPv4 address in them (RFC 6052). Where
they begin shows in those of a name that has none of its own (RFC 7050).
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

NAME = "ipv4only.arpa"
"""Has the two IPv4 addresses below, and no IPv6 one but where a NAT64 makes some."""
OWN = (IPv4Address("192.0.0.170"), IPv4Address("192.0.0.171"))
_LENGTHS = (96, 64, 56, 48, 40, 32)
_ZERO = 8
"""The byte that stays 0 (RFC 6052, section 2.2)."""


def embed(prefix: IPv6Network, address: IPv4Address) -> IPv6Address:
    """Return where a NAT64 has an IPv4 address. `prefix` has one of RFC 6052's lengths."""
    at = prefix.prefixlen // 8
    data = bytearray(prefix.network_address.packed)
    for byte in address.packed:
        at += at == _ZERO
        data[at] = byte
        at += 1
    return IPv6Address(bytes(data))


def prefix(addresses: Iterable[IPv4Address | IPv6Address]) -> IPv6Network | None:
    """Return where a NAT64 has IPv4, from the addresses of `NAME`; None where there is none."""
    for address in addresses:
        for length in _LENGTHS if isinstance(address, IPv6Address) else ():
            found = IPv6Network((int(address) >> 128 - length << 128 - length, length))
            if address in {embed(found, each) for each in OWN}:
                return found
    return None
