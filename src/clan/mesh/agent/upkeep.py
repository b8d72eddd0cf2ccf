"""What this machine's links are to be, and that they are: from all that is known to the kernel.

It works out the wish, lets in who is wanted and takes out who is not, and has the addresses, routes
and rules that this needs. When to do so, and which link a peer's route takes, is not decided here.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from clan.mesh.agent import connections
from clan.mesh.agent.ground import Ground, Way
from clan.mesh.agent.opening import Opening
from clan.mesh.desire import Known, Wish, desire
from clan.mesh.exchange import Desired
from clan.mesh.places import OPENED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from ipaddress import IPv4Address, IPv6Address

    from clan.mesh.agent.here import Here
    from clan.mesh.agent.interfaces import Interfaces
    from clan.mesh.agent.kernel import Kernel
    from clan.mesh.agent.knowledge import Knowledge
    from clan.mesh.agent.names import Names
    from clan.mesh.agent.nearby import Nearby
    from clan.mesh.agent.relayed import Relayed
    from clan.mesh.agent.setting import Setting
    from clan.mesh.agent.signals import Signals
    from clan.mesh.hops.guide import Guide
    from clan.mesh.link import LinkId
    from clan.mesh.pair import Pair


class Upkeep:
    """This machine's. `wish` is what was wanted when it was settled last."""

    def __init__(
        self,
        setting: Setting,
        kernel: Kernel,
        say: Callable[[str], None],
        *,
        known: Knowledge,
        here: Here,
        interfaces: Interfaces,
        nearby: Nearby,
        signals: Signals,
        relayed: Relayed,
        guide: Guide,
        names: Names,
    ) -> None:
        self._known = known
        self._here = here
        self._interfaces = interfaces
        self._nearby = nearby
        self._signals = signals
        self._relayed = relayed
        self._guide = guide
        self._names = names
        self._ground = Ground(kernel, setting.prefix, Opening(setting.state / OPENED, say))
        self._served = setting.tls.served if setting.tls else None
        self._certificate = b""
        if self._served is not None and not self._served.name:
            # Imported here: who ends no TLS does without.
            from clan.mesh.tls import certificate

            self._certificate = certificate.born(setting.state).hash
        self.wish = Wish(desired=Desired(name=""))

    def desire(self) -> Wish:
        """Work out what is wanted now."""
        return desire(
            Known(
                identity=self._known.key.public,
                prefix=self._known.prefix,
                view=self._known.view,
                records=self._known.records,
                own=self._here.slots,
                attachments=self._here.attachments,
                sights=self._nearby.sights,
                places=self._signals.places(time.monotonic()),
                relayed=self._relayed.endpoints(),
                ways=self._guide.found,
                hosts=self._names.hosts,
                nat64=self._names.nat64,
            )
        )

    def found(self, now: float) -> Mapping[str, LinkId]:
        """Return the paths of an earlier process, to go on with. Raises OSError."""
        self._nearby.remember(self._interfaces.sights(self._known.records, now))
        paths = self._interfaces.paths(self.desire())
        self._guide.remember(paths, now)
        return paths

    def settle(self, wish: Wish, pairs: Mapping[str, Pair]) -> None:
        """Let in who is wanted, and have what that needs. Raises OSError, StepError."""
        gone = _addresses(self.wish) - _addresses(wish)
        self.wish = wish
        paths = {name: pair.path for name, pair in pairs.items() if pair.path}
        self._interfaces.admit(wish, paths)
        up = self._interfaces.up
        ways = {
            name: Way(index=up[path.own].index, mtu=pairs[name].mtu)
            for name, path in paths.items()
            if path.own in up
        }
        streams = self._served.port if self._certificate and self._served else None
        self._ground.settle(wish, up.values(), self._here.attachments, ways, streams=streams)
        self._guide.settle(wish)
        if gone:
            # On kernels that cannot, programs wait for as long as they would for one that is off.
            with contextlib.suppress(OSError):
                connections.end(gone)
        self._publish()

    def again(self, pairs: Mapping[str, Pair]) -> None:
        """Have what follows from something new about others. Raises OSError, StepError."""
        wish = self.desire()
        if wish == self.wish:
            self._publish()
        else:
            self.settle(wish, pairs)

    def _publish(self) -> None:
        """Tell others of this machine's interfaces, when that has changed. Raises OSError."""
        interfaces = (own.published for own in self._here.slots)
        reached = self._relayed.reached
        if self._known.publish(
            interfaces, self.wish.kept, reached, self._served, self._certificate
        ):
            self._nearby.ask(time.monotonic())

    def lead(self, peer: str, link: LinkId, mtu: int) -> None:
        """Let a peer's packets take a link. Raises OSError."""
        index = self._interfaces.lead(link, self.wish.peers[peer])
        self._ground.lead(self.wish, peer, Way(index=index, mtu=mtu))

    def forget_guard(self) -> None:
        """Note that somebody took the firewall's tables away."""
        self._ground.forget_guard()
        self._guide.forget_passage()

    def forget_ports(self) -> None:
        """Note that somebody else's firewall may rule that did not before."""
        self._ground.forget_ports()


def _addresses(wish: Wish) -> set[IPv4Address | IPv6Address]:
    """Return the addresses for life of those who are let in."""
    both = ((each.address, each.alias) for each in wish.peers.values())
    return {address for each in both for address in each if address is not None}
