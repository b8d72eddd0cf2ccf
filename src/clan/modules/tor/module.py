"""The tor module: servers are onion services, clients run a Tor daemon to reach them.

A server's onion name is the var `tor_<instance>/hostname`: known before the machine exists, and
secret. Its key is made on the admin's computer for that reason. Services answer only those who
have the key of the shared generator `tor_<instance>_auth`, so that knowing a name is not enough.

Where one of the two was replaced, a machine goes on with the old service beside the new one, and
lets in who has the old key too, until it was updated and reached without them: Tor may be the only
way there.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from clan.errors import Fault
from clan.model.exports import Exports, Networking, Peer, Var
from clan.model.module import Module, Role, Settings
from clan.modules.tor.torrc import generator

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.clan import Clan, Instance
    from clan.model.generator import Generator
    from clan.model.module import Values
    from clan.model.plan import Resource

_AUTHORITY = re.compile(r"([\w=.:\[\]-]+ )*\d+\.\d+\.\d+\.\d+:\d+ ([0-9A-Fa-f]{4} ?){10}")
"""`[nickname] [flags] IPv4address:port fingerprint` (torrc(5), DirAuthority)."""


def checked_authority(line: str) -> str:
    """Refuse what is not the rest of a DirAuthority line."""
    if not _AUTHORITY.fullmatch(line):
        raise ValueError(
            f"{line!r} is not '[NICKNAME] [FLAGS] ADDRESS:PORT FINGERPRINT' (torrc: DirAuthority)"
        )
    return line


class TorSettings(Settings):
    """What holds for the whole network."""

    # Tor is slow, and the last resort.
    priority: int = Field(10, description="Networks of higher priority are tried first.")
    authorities: tuple[Annotated[str, AfterValidator(checked_authority)], ...] = Field(
        (),
        description="Directory authorities of a Tor network of one's own, each as a DirAuthority "
        "line of torrc without its first word (default: the public network's).",
    )
    testing: bool = Field(
        False,
        description="Whether it is a small network for tests (TestingTorNetwork).",
    )


class ServerSettings(Settings):
    """What the onion service leads to."""

    port: int = Field(22, description="Port of sshd on the machine.", ge=1, le=65535)


class ClientSettings(Settings):
    """What the daemon offers to other programs."""

    socks_port: int | None = Field(
        None,
        description="Port on 127.0.0.1 for programs other than clan (default: none; what clan "
        "uses is a Unix socket).",
        ge=1,
        le=65535,
    )


class TorModule(Module):
    """Onion services."""

    name = "tor"
    description = "Machines that are reached through Tor, wherever they are."
    roles: ClassVar[Mapping[str, Role]] = {
        "server": Role(description="Is reached as an onion service.", settings=ServerSettings),
        "client": Role(
            description="Runs a Tor daemon, to reach the servers.", settings=ClientSettings
        ),
    }
    settings = TorSettings

    def check(self, instance: Instance, clan: Clan) -> Iterator[Fault]:
        """Yield a fault where the options for tests would meet the public network."""
        del clan
        settings = TorSettings.of(instance)
        if settings.testing and not settings.authorities:
            yield Fault(
                message="is for a Tor network of one's own, and no authorities are set",
                key=(*instance.key, "settings", "testing"),
                hint="set settings.authorities, or leave testing out",
            )

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network."""
        del clan
        settings = TorSettings.of(instance)
        told = {"authorities": list(settings.authorities), "testing": settings.testing}
        return Exports(
            networking=Networking(
                priority=settings.priority,
                technology="clan.modules.tor.technology:Tor",
                peers={
                    name: Peer(
                        name=name,
                        hosts=(
                            Var(machine=name, generator=generator(instance.name), file="hostname"),
                        ),
                    )
                    for name in instance.members["server"]
                },
                settings=told if settings.authorities else {},
            )
        )

    def generators(self, instance: Instance, clan: Clan) -> Iterator[Generator]:
        """Yield the key of each server, and the one that opens them to clients."""
        from clan.modules.tor import keys

        del clan
        for name in instance.members["server"]:
            yield keys.service_key(instance.name, name)
        if instance.members["server"]:
            yield keys.client_key(instance.name, instance.members["server"])

    def plan(
        self, machine: str, role: str, instance: Instance, clan: Clan, values: Values
    ) -> Iterator[Resource]:
        """Yield a Tor of the machine's own for the role; the system's Tor is left alone."""
        from clan.modules.tor import daemon

        del clan
        settings = TorSettings.of(instance)
        network = daemon.Network(
            instance=instance.name, authorities=settings.authorities, testing=settings.testing
        )
        member = instance.members[role][machine]
        if role == "server":
            port = ServerSettings.of(member).port
            yield from daemon.server(network, machine, port, values)
        else:
            yield from daemon.client(network, ClientSettings.of(member).socks_port)
