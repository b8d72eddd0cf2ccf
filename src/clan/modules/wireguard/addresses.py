"""The address plan of a WireGuard instance, computed from names alone.

With sha256 of a name's UTF-8 and bits counted from the left:

    base          /40   `fd`, then the first 32 bits of sha256(instance), their last 8 cleared
    controller    /56   base, and the first 16 bits of sha256(controller) at bits 40 to 56
                  itself  ::1 of its /56
    peer          suffix  the first 64 bits of sha256(peer); its address in a controller's subnet
                  is the /56, eight bits of zero, the suffix; the controller allows it the /96

Source: the WireGuard service that clans already run; the addresses are the same bit for bit, so
that a machine keeps its address when it moves. Instance `wg-test-one` gives `controller1`
fd51:19c1:3b:f700::/56 and `controller2` fd51:19c1:c1:aa00::/56.
"""

from __future__ import annotations

import socket
from hashlib import sha256


def digest_bits(name: str, bits: int) -> int:
    """Return the first bits of sha256(name)."""
    return int.from_bytes(sha256(name.encode()).digest()) >> (256 - bits)


def base(instance: str) -> int:
    """Return the instance's /40, as the number that the address is."""
    return (0xFD << 120) | (digest_bits(instance, 32) >> 8 << 96)


def subnet(instance: str, controller: str) -> int:
    """Return a controller's /56."""
    return base(instance) | (digest_bits(controller, 16) << 72)


def controller_address(instance: str, controller: str) -> str:
    """Return a controller's own address."""
    return written(subnet(instance, controller) | 1)


def suffix(peer: str) -> int:
    """Return a peer's 64 bits, which are the same in every controller's subnet."""
    return digest_bits(peer, 64)


def peer_address(instance: str, controller: str, peer: str) -> str:
    """Return a peer's address in a controller's subnet."""
    return written(subnet(instance, controller) | suffix(peer))


def written(address: int) -> str:
    """Write an IPv6 address."""
    return socket.inet_ntop(socket.AF_INET6, address.to_bytes(16))
