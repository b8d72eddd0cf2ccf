"""The tor module: servers are onion services, clients run a Tor daemon to reach them.

A server's onion name is the var `tor_<instance>/hostname`, so that it is not public.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from clan.model.exports import Exports, Networking, Peer, Var
from clan.model.module import Module, Role, Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.clan import Clan, Instance


class TorSettings(Settings):
    """What holds for the whole network."""

    # Tor is slow, and the last resort.
    priority: int = Field(10, description="Networks of higher priority are tried first.")


class TorModule(Module):
    """Onion services."""

    name = "tor"
    description = "Machines that are reached through Tor, wherever they are."
    roles: ClassVar[Mapping[str, Role]] = {
        "server": Role(description="Is reached as an onion service."),
        "client": Role(description="Runs a Tor daemon, to reach the servers."),
    }
    settings = TorSettings

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network."""
        del clan
        generator = f"tor_{instance.name}"
        return Exports(
            networking=Networking(
                priority=TorSettings.of(instance).priority,
                technology="clan.modules.tor.technology:Tor",
                peers={
                    name: Peer(
                        name=name,
                        hosts=(Var(machine=name, generator=generator, file="hostname"),),
                    )
                    for name in instance.members["server"]
                },
            )
        )
