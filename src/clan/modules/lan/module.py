"""The lan module: machines on the same local network, found by their mDNS names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Role, Settings
from clan.model.target import host_fault

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.model.clan import Clan, Instance


def checked_host(host: str) -> str:
    """Refuse what is no host name."""
    fault = host_fault(host)
    if fault:
        raise ValueError(fault)
    return host


class LanSettings(Settings):
    """What holds for the whole network."""

    priority: int = Field(2500, description="Networks of higher priority are tried first.")


class DefaultSettings(Settings):
    """What a machine is called on the local network."""

    hostname: Annotated[str, AfterValidator(checked_host)] | None = Field(
        None, description="Its name there (default: the machine's host name and `.local`)."
    )


class LanModule(Module):
    """Every machine that may be on the same local network."""

    name = "lan"
    description = "Machines that find each other by mDNS on the local network."
    roles: ClassVar[Mapping[str, Role]] = {
        "default": Role(description="May be on the local network.", settings=DefaultSettings)
    }
    settings = LanSettings

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network."""
        peers: dict[str, Peer] = {}
        for name, member in instance.members["default"].items():
            host = DefaultSettings.of(member).hostname or f"{clan.machines[name].host_name}.local"
            peers[name] = Peer(name=name, hosts=(host,))
        return Exports(
            networking=Networking(
                priority=LanSettings.of(instance).priority,
                technology="clan.modules.lan.technology:Lan",
                peers=peers,
            )
        )
