"""What a firewall knows relays' datagrams by: UDP ports, and how registrations begin."""

from __future__ import annotations

SEATS = 64
"""Ports on which one relay passes on."""
PORTS = range(23600, 23600 + SEATS)
"""UDP ports of a relay; the only ones that a firewall in front of one has to let in."""
DOOR = 443
"""A UDP port of a relay that stands for any seat, for who gets out by few others: QUIC's."""
PORT = 46743
"""That of members' stable addresses, for what is said by the mesh itself."""
MAGIC = bytes.fromhex("c1a9be11c0de0001")
"""How a registration and its answer begin; WireGuard's datagrams begin with a byte from 1 to 4."""
