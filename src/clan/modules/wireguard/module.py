"""The wireguard module: controllers with a public endpoint, peers that reach each other by them.

Rules that no schema can see, each a fault:

- an instance is an interface: its name has at most 15 bytes;
- a machine is a controller or a peer, not both;
- with several controllers each peer says which is its own, and names a controller;
- two controllers whose names hash to one /56, or two peers to one suffix or one /96, cannot both
  be there: rename one (about 1 in 65,000 for two controllers, 1 in 4,000,000,000 for two peers);
- two instances on one machine have different ports, and all instances different domains.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, Field

from clan.errors import Fault, did_you_mean
from clan.model.exports import Exports, Networking, Peer
from clan.model.module import MachineName, Module, Role, Settings
from clan.model.names import is_domain
from clan.model.target import host_fault
from clan.modules.wireguard.addresses import controller_address, peer_address, subnet, suffix

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.clan import Clan, Instance, RoleMember

INTERFACE_BYTES = 15


def checked_endpoint(host: str) -> str:
    """Refuse what is no host name or address."""
    fault = host_fault(host)
    if fault:
        raise ValueError(f"{fault}; the port is a setting of its own")
    return host


def checked_domain(domain: str) -> str:
    """Refuse what cannot follow a dot."""
    if not is_domain(domain):
        raise ValueError(f"{domain!r} is no domain")
    return domain


class WireguardSettings(Settings):
    """What holds for the whole network."""

    priority: int = Field(1000, description="Networks of higher priority are tried first.")
    domain: Annotated[str, AfterValidator(checked_domain)] | None = Field(
        None,
        description="What follows the dot in names there (default: the instance's name).",
    )
    mtu: int = Field(
        1420, description="Largest packet in bytes; IPv6 needs 1280.", ge=1280, le=9000
    )


class ControllerSettings(Settings):
    """How a controller is reached."""

    endpoint: Annotated[str, AfterValidator(checked_endpoint)] = Field(
        description="Public name or address of the controller."
    )
    port: int = Field(51820, description="UDP port that it listens on.", ge=1, le=65535)


class PeerSettings(Settings):
    """How a peer takes part."""

    controller: MachineName | None = Field(
        None,
        description="The controller in whose subnet its name resolves; needed with several.",
    )


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
        yield from check_others(instance, clan)

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network; a peer's address in its own controller's subnet comes first."""
        del clan
        settings = WireguardSettings.of(instance)
        controllers = instance.members["controller"]
        peers = {
            name: Peer(name=name, hosts=(controller_address(instance.name, name),))
            for name in controllers
        }
        for name, member in instance.members["peer"].items():
            own = PeerSettings.of(member).controller
            ordered = [*([own] if own else []), *(each for each in controllers if each != own)]
            hosts = tuple(peer_address(instance.name, each, name) for each in ordered)
            peers[name] = Peer(name=name, hosts=hosts)
        return Exports(
            networking=Networking(
                priority=settings.priority,
                technology="clan.modules.wireguard.technology:Wireguard",
                peers=peers,
                settings={"interface": instance.name},
            )
        )


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
                hint="rename one: addresses are computed from names",
            )


def check_others(instance: Instance, clan: Clan) -> Iterator[Fault]:
    """Yield ports and domains that an instance written earlier has taken."""
    domain = WireguardSettings.of(instance).domain or instance.name
    for other in clan.instances.values():
        if other.name == instance.name:
            return
        if other.module.name != WireguardModule.name:
            continue
        if (WireguardSettings.of(other).domain or other.name).casefold() == domain.casefold():
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
