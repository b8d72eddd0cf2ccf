"""Which addresses somebody outside can send to. Pure."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

_INSIDE = tuple(
    IPv4Network(each)
    for each in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.168.0.0/16", "224.0.0.0/3"),
    )
)
"""By the registry of special addresses (RFC 6890); those of providers' translators (RFC 6598)."""
_GLOBAL = IPv6Network("2000::/3")


def is_outside(address: IPv4Address | IPv6Address) -> bool:
    """Say whether an address can be one that the whole internet sends to."""
    if isinstance(address, IPv4Address):
        return not any(address in each for each in _INSIDE)
    return address in _GLOBAL
