"""Where a Tor of this computer listens, and whether one does."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.modules.tor.torrc import client_name, lines_of

if TYPE_CHECKING:
    from clan.model.route import Network

Address = str | tuple[str, int]
"""The path of a Unix socket, or a host and a port."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ports:
    """A Tor's SOCKS port and its control port."""

    socks: Address
    control: Address


SYSTEM = (
    Ports(socks="/run/tor/socks", control="/run/tor/control"),
    Ports(socks=("127.0.0.1", 9050), control=("127.0.0.1", 9051)),
)
"""The system's Tor: Debian's sockets, and the ports that are every Tor's (torrc(5))."""


def candidates(network: Network) -> tuple[Ports, ...]:
    """Return where a Tor of this network would listen; the system's is of the public network."""
    folder = f"/run/{client_name(network.name)}"
    ours = Ports(socks=f"{folder}/socks", control=f"{folder}/control")
    return (ours,) if lines_of(network.settings) else (ours, *SYSTEM)


def listens(address: Address) -> bool:
    """Say whether anything accepts connections there."""
    family = socket.AF_UNIX if isinstance(address, str) else socket.AF_INET
    with socket.socket(family) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(address) == 0
