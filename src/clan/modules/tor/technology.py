"""Reaching machines as onion services; `session` does it.

To say whether it runs, this is imported and nothing else of it.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, ClassVar

from clan.modules.tor.ports import candidates, listens
from clan.networks.technology import Context, NetworkTechnology, Session, Throughput, Traits

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from clan.model.route import Network, Route

PATIENCE = 90.0
"""Seconds for the start of a Tor that has to learn its network, and a circuit to the service."""


class Tor(NetworkTechnology):
    """Streams to onion services, by SOCKS."""

    traits: ClassVar[Traits] = Traits(
        throughput=Throughput.LOW,
        hides_location=True,
        end_to_end=True,
        binds_address_to_key=True,
        keeps=True,
    )

    returns_within: ClassVar[float] = 180.0
    """A restarted onion service publishes its descriptors anew."""

    def running(self, network: Network, context: Context) -> bool:
        """Whether a Tor of this network listens here."""
        del context
        return any(listens(ports.socks) for ports in candidates(network))

    def patience(self, route: Route) -> float:
        """Return the seconds that a start of Tor and a circuit to an onion service may take."""
        del route
        return PATIENCE

    @contextlib.asynccontextmanager
    async def session(self, network: Network, context: Context) -> AsyncIterator[Session]:
        """Use a Tor that runs here, or one that runs for as long as the session; at first use."""
        from clan.modules.tor.session import TorSession

        async with contextlib.AsyncExitStack() as stack:
            yield TorSession(network, context, stack)
