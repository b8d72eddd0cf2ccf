"""Reaching machines over a WireGuard interface that is up on this computer."""

from __future__ import annotations

import contextlib
import socket
from typing import TYPE_CHECKING, ClassVar

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


class Wireguard(NetworkTechnology):
    """TCP to the peers' addresses inside the tunnel."""

    traits: ClassVar[Traits] = Traits(
        throughput=Throughput.HIGH, end_to_end=False, binds_address_to_key=True
    )

    returns_within: ClassVar[float] = 30.0
    """A peer behind a NAT says hello again within 25 s, when its keepalive is due."""

    def running(self, network: Network, context: Context) -> bool:
        """Whether the interface, named after the instance, is there."""
        del context
        return network.name in {name for _, name in socket.if_nameindex()}

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        """Use the interface; without it there is no way."""
        if not self.running(network, context):
            # Its addresses would leave by the default route, and in the clear.
            raise DialError(f"this computer has no WireGuard interface {network.name}")
        yield WireguardSession()


class WireguardSession(Session):
    """Dials addresses inside the tunnel."""

    async def dial(self, route: Route, aim: Aim) -> Connection:
        """Connect to the first of the peer's addresses that answers."""
        from clan.networks.stream import open_any

        port = aim.port or route.port
        found = [literal(host, port) for host in route.hosts if isinstance(host, str)]
        return await open_any([address for address in found if address is not None], aim)
