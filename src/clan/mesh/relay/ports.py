"""The UDP ports by which machines and relays talk to each other."""

from __future__ import annotations

SEATS = 64
"""Ports on which one relay passes on."""
PORTS = range(23600, 23600 + SEATS)
"""UDP ports of a relay; the only ones that a firewall in front of one has to let in."""
DOOR = 443
"""A UDP port of a relay that stands for any seat, for who gets out by few others: QUIC's."""
PORT = 46743
"""That of members' stable addresses, for what is said by the mesh itself."""
