"""The wireguard module: controllers with a public endpoint, peers that reach each other by them.

Rules that no schema can see, each a fault:

- an instance is an interface: its name has at most 15 bytes;
- a machine is a controller or a peer, not both;
- with several controllers each peer says which is its own, and names a controller;
- two controllers whose names hash to one /56, or two peers to one suffix or one /96, cannot both
  be there: rename one (about 1 in 65,000 for two controllers, 1 in 4,000,000,000 for two peers);
- two instances whose names hash to one /40 cannot both be in the clan, whoever their members are:
  rename one (24 bits of the name count, so about 1 in 16,000,000);
- two instances on one machine have different ports, and all instances different domains;
- with several controllers none has the port at which members tell each other who is dead.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from clan.errors import Fault, did_you_mean
from clan.machine.wireguard.carriers import TELLING
from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Opening, Role
from clan.modules.wireguard.addresses import base, subnet, suffix
from clan.modules.wireguard.settings import (
    ControllerSettings,
    PeerSettings,
    WireguardSettings,
    addresses_of,
    domain_of,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.clan import Clan, Instance, RoleMember
    from clan.model.generator import Generator
    from clan.model.module import Values
    from clan.model.plan import Resource

INTERFACE_BYTES = 15
RENAME = "rename one: addresses are computed from names"


class WireguardModule(Module):
    """Controllers and peers."""

    name = "wireguard"
    description = "A WireGuard network: controllers with public endpoints, and their peers."
    roles: ClassVar[Mapping[str, Role]] = {
        "controller": Role(
            description="Has a public endpoint, and routes between the peers.",
            settings=ControllerSettings,
            least=1,
        ),
        "peer": Role(description="Connects to every controller.", settings=PeerSettings),
    }
    settings = WireguardSettings

    def check(self, instance: Instance, clan: Clan) -> Iterator[Fault]:
        """Yield what the file's docstring lists."""
        controllers, peers = instance.members["controller"], instance.members["peer"]
        if len(instance.name.encode()) > INTERFACE_BYTES:
            yield Fault(
                message=f"{instance.name!r} names an interface, which has at most "
                f"{INTERFACE_BYTES} bytes",
                key=instance.key,
                hint="give the instance a shorter name, and set module.name",
            )
        yield from check_roles(controllers, peers)
        subnets = {name: subnet(instance.name, name) for name in controllers}
        yield from collisions(controllers, subnets, "controllers", "/56")
        # What is in front of the last 32 bits decides: equal suffixes are equal there too.
        suffixes = {name: suffix(name) >> 32 for name in peers}
        yield from collisions(peers, suffixes, "peers", "/96")
        yield from check_telling(controllers)
        yield from check_others(instance, clan)

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network; a peer's address in its own controller's subnet comes first."""
        del clan
        settings = WireguardSettings.of(instance)
        found = addresses_of(instance)
        peers = {name: Peer(name=name, hosts=hosts) for name, hosts in found.items()}
        return Exports(
            networking=Networking(
                priority=settings.priority,
                technology="clan.modules.wireguard.technology:Wireguard",
                peers=peers,
                settings={"interface": instance.name},
            )
        )

    def openings(self, instance: Instance, clan: Clan) -> Iterator[Opening]:
        """Yield the port of each controller."""
        del clan
        for machine, member in instance.members["controller"].items():
            port = ControllerSettings.of(member).port
            ports = (range(port, port + 1),)
            yield Opening(machine=machine, protocol="udp", ports=ports, purpose="to be called")

    def generators(self, instance: Instance, clan: Clan) -> Iterator[Generator]:
        """Yield each member's key pair."""
        from clan.modules.wireguard import keys

        del clan
        for role in ("controller", "peer"):
            for machine in instance.members[role]:
                yield keys.generator(instance.name, machine)

    def plan(
        self, machine: str, role: str, instance: Instance, clan: Clan, values: Values
    ) -> Iterator[Resource]:
        """Yield the interface and what goes with it; see `clan.modules.wireguard.plan`."""
        from clan.modules.wireguard.plan import resources

        return resources(machine, role, instance, clan, values)


def check_roles(
    controllers: Mapping[str, RoleMember], peers: Mapping[str, RoleMember]
) -> Iterator[Fault]:
    """Yield machines of both roles, and peers without a controller of their own."""
    for name, member in peers.items():
        if name in controllers:
            yield Fault(
                message=f"machine {name!r} is both controller and peer",
                key=member.key,
                hint="a controller is on the network already",
            )
        own = PeerSettings.of(member).controller
        listed = ", ".join(controllers)
        if own is None and len(controllers) > 1:
            yield Fault(
                message=f"peer {name!r} must say which of the controllers is its own",
                key=member.key,
                hint=f"set `controller` to one of: {listed}",
            )
        elif own is not None and own not in controllers:
            near = did_you_mean(own, controllers)
            yield Fault(
                message=f"{own!r} is no controller of this instance",
                key=member.where("controller"),
                hint=near or f"controllers: {listed}",
            )


def collisions(
    members: Mapping[str, RoleMember], prefixes: Mapping[str, int], what: str, prefix: str
) -> Iterator[Fault]:
    """Yield pairs of members whose names hash to one prefix."""
    seen: dict[int, str] = {}
    for name, member in members.items():
        first = seen.setdefault(prefixes[name], name)
        if first != name:
            yield Fault(
                message=f"{what} {first!r} and {name!r} would have the same {prefix}",
                key=member.key,
                hint=RENAME,
            )


def check_telling(controllers: Mapping[str, RoleMember]) -> Iterator[Fault]:
    """Yield ports that the members need inside the tunnel, to tell each other who is dead."""
    for name, member in controllers.items():
        if len(controllers) > 1 and ControllerSettings.of(member).port == TELLING:
            yield Fault(
                message=f"port {TELLING} on {name!r} is what members tell each other at",
                key=member.where("port"),
                hint="take any other",
            )


def check_others(instance: Instance, clan: Clan) -> Iterator[Fault]:
    """Yield addresses, ports and domains that an instance written earlier has taken."""
    domain = domain_of(instance)
    for other in clan.instances.values():
        if other.name == instance.name:
            return
        if other.module.name != WireguardModule.name:
            continue
        if base(other.name) == base(instance.name):
            yield Fault(
                message=f"instances {other.name!r} and {instance.name!r} would have the same /40",
                key=instance.key,
                hint=RENAME,
            )
        if domain_of(other).casefold() == domain.casefold():
            yield Fault(
                message=f"domain {domain!r} is taken by instance {other.name!r}",
                key=instance.where("domain"),
            )
        for name, member in instance.members["controller"].items():
            theirs = other.members["controller"].get(name)
            if theirs is None:
                continue
            port = ControllerSettings.of(member).port
            if port == ControllerSettings.of(theirs).port:
                yield Fault(
                    message=f"port {port} on {name!r} is taken by instance {other.name!r}",
                    key=member.where("port"),
                    hint="give each instance on a machine its own port",
                )
