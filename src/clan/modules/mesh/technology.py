"""Reaching machines over the mesh, where this computer is in it."""

from __future__ import annotations

import contextlib
import socket
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from clan.mesh.places import setting_file
from clan.networks.technology import (
    Aim,
    Connection,
    Context,
    DialError,
    NetworkTechnology,
    Session,
    Throughput,
    Traits,
)
from clan.system.names import literal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clan.model.route import Network, Route

PREFIX = 6
"""Bytes of an address that are the clan's."""
DISCARD = 9
"""A port to name where only a route is asked for (RFC 863)."""


class Mesh(NetworkTechnology):
    """TCP to the machines' addresses for life."""

    traits: ClassVar[Traits] = Traits(
        throughput=Throughput.HIGH, end_to_end=True, binds_address_to_key=True
    )

    def running(self, network: Network, context: Context) -> bool:
        """Whether this computer is in the mesh."""
        del context
        return Path(setting_file(network.name)).exists()

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        """Use what the agent keeps; where this computer is no member, there is no way."""
        if not self.running(network, context):
            raise DialError(f"this computer is not in the mesh {network.name}")
        yield MeshSession(context)


class MeshSession(Session):
    """Dials addresses for life."""

    def __init__(self, context: Context) -> None:
        self.context = context

    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Connect to the peer's address, if the way there is inside the mesh."""
        from clan.networks.stream import open_any

        port = aim.port or route.port
        hosts = [
            host if isinstance(host, str) else self.context.reveal(host) for host in route.hosts
        ]
        inside = [host for host in hosts if leads_inside(host)]
        if not inside:
            # It would leave by the default route, and in the clear.
            raise DialError(f"no way in the mesh leads to {', '.join(hosts)} now")
        found = [literal(host, port) for host in inside]
        return await open_any([address for address in found if address is not None], aim)


def leads_inside(host: str) -> bool:
    """Say whether packets to an IPv6 address leave from one of the same clan. Sends nothing."""
    try:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as asking:
            asking.connect((host, DISCARD))
            source = socket.inet_pton(socket.AF_INET6, asking.getsockname()[0])
        return source[:PREFIX] == socket.inet_pton(socket.AF_INET6, host)[:PREFIX]
    except OSError:
        return False
