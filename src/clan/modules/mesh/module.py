"""The mesh module: machines with one name and one address for life, over whatever works.

Rules that no schema can see, each a fault:

- a machine is in one mesh;
- two meshes have different domains;
- a range of aliases has room for all members, and is none of another mesh;
- what a machine is found at is no alias, and is written once; two machines cannot be found at one
  address and port;
- a machine has at most 64 tags;
- a setting of streams, or of a proxy, that nothing would read.

A machine's address follows from a key that it makes, so it is a var: the export refers to it.
"""

from __future__ import annotations

import contextlib
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING, ClassVar

from clan.errors import Fault
from clan.mesh.outside.address import is_outside
from clan.mesh.relay.ports import DOOR, PORTS
from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Opening, Role
from clan.modules.mesh import keys
from clan.modules.mesh.settings import (
    HTTPS,
    MemberSettings,
    MeshSettings,
    domain_of,
    parsed,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.clan import Clan, Instance, RoleMember
    from clan.model.generator import Generator
    from clan.model.inventory import Target
    from clan.model.module import Values
    from clan.model.plan import Resource

MEMBER = "member"
MOST_TAGS = 64


class MeshModule(Module):
    """Members."""

    name = "mesh"
    description = "Machines that reach each other over whatever works, with one address for life."
    roles: ClassVar[Mapping[str, Role]] = {
        MEMBER: Role(description="Is in the mesh.", settings=MemberSettings)
    }
    settings = MeshSettings

    def check(self, instance: Instance, clan: Clan) -> Iterator[Fault]:
        """Yield what the file's docstring lists."""
        members = instance.members[MEMBER]
        yield from _addresses(instance)
        for name, member in members.items():
            if len(clan.machines[name].tags) > MOST_TAGS:
                yield Fault(
                    message=f"machine {name!r} has more than the {MOST_TAGS} tags that the map of "
                    "a mesh can hold",
                    key=member.key,
                )
            yield from _unread(name, member)
        yield from _room(instance)
        yield from _others(instance, clan)

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network; each peer's address is a var."""
        del clan
        return Exports(
            networking=Networking(
                priority=MeshSettings.of(instance).priority,
                technology="clan.modules.mesh.technology:Mesh",
                peers={
                    name: Peer(name=name, hosts=(keys.address_var(instance.name, name),))
                    for name in instance.members[MEMBER]
                },
            )
        )

    def openings(self, instance: Instance, clan: Clan) -> Iterator[Opening]:
        """Yield the ports of those that relay if they are reached, and of those with streams."""
        for machine, member in instance.members[MEMBER].items():
            settings = MemberSettings.of(member)
            target = clan.machines[machine].target_host
            hosts = [parsed(each).host for each in settings.addresses]
            if any(map(_is_outside, [*hosts, *([target.host] if target else [])])):
                seats = (range(DOOR, DOOR + 1), PORTS)
                yield Opening(machine=machine, protocol="udp", ports=seats, purpose="to relay")
            if settings.tls and settings.tls_web is None:
                port = settings.tls_port or HTTPS
                ports = (range(port, port + 1),)
                yield Opening(machine=machine, protocol="tcp", ports=ports, purpose="for streams")

    def generators(self, instance: Instance, clan: Clan) -> Iterator[Generator]:
        """Yield the root's key, and each member's identity and address."""
        del clan
        yield keys.root(instance.name)
        for machine in instance.members[MEMBER]:
            yield keys.identity(instance.name, machine)
            yield keys.address(instance.name, machine)

    def plan(
        self, machine: str, role: str, instance: Instance, clan: Clan, values: Values
    ) -> Iterator[Resource]:
        """Yield what a member must have; see `clan.modules.mesh.plan`."""
        from clan.modules.mesh.plan import resources

        del role
        return resources(machine, instance, clan, values)


def _is_outside(host: str) -> bool:
    """Whether somebody outside can send there, as far as the text says; a name is not looked up."""
    try:
        return is_outside(ip_address(host))
    except ValueError:
        return "." in host.rstrip(".") and not host.rstrip(".").endswith((".local", ".lan"))


def _addresses(instance: Instance) -> Iterator[Fault]:
    """Yield addresses that cannot be a machine's, or not its alone."""
    chosen = MeshSettings.of(instance).aliases
    within = None if chosen is None else IPv4Network(chosen)
    seen: dict[Target, str] = {}
    for name, member in instance.members[MEMBER].items():
        for written in dict.fromkeys(MemberSettings.of(member).addresses):
            target = parsed(written)
            key = member.where("addresses")
            with contextlib.suppress(ValueError):
                if within is not None and ip_address(target.host) in within:
                    yield Fault(
                        message=f"machine {name!r} cannot be found at {written}: it is in the "
                        f"range of aliases, {within}",
                        key=key,
                    )
            other = seen.setdefault(target, name)
            if target.port is not None and other != name:
                yield Fault(
                    message=f"machines {other!r} and {name!r} cannot both be found at {written}",
                    key=key,
                    hint="a port leads to one machine: give each its own",
                )
        if len(set(MemberSettings.of(member).addresses)) < len(MemberSettings.of(member).addresses):
            yield Fault(
                message=f"machine {name!r} has an address twice", key=member.where("addresses")
            )


def _unread(name: str, member: RoleMember) -> Iterator[Fault]:
    """Yield settings that have no use without another one."""
    settings = MemberSettings.of(member)
    needs = (
        ("tlsPort", settings.tls_port, "tls", settings.tls),
        ("tlsWeb", settings.tls_web, "tls", settings.tls),
        ("proxyPassword", settings.proxy_password, "proxy", settings.proxy),
    )
    for key, value, other, there in needs:
        if value is not None and not there:
            yield Fault(
                message=f"machine {name!r} has {key} but no {other}",
                key=member.where(key),
                hint=f"set {other} too, or leave {key} out",
            )


def _room(instance: Instance) -> Iterator[Fault]:
    """Yield a range of aliases that is too small."""
    written = MeshSettings.of(instance).aliases
    if written is None:
        return
    room = IPv4Network(written).num_addresses - 2
    members = len(instance.members[MEMBER])
    if members > room:
        yield Fault(
            message=f"{written} has {room} addresses, and the mesh {members} machines",
            key=instance.where("aliases"),
            hint="take a larger range",
        )


def _others(instance: Instance, clan: Clan) -> Iterator[Fault]:
    """Yield machines and domains that a mesh written earlier has taken."""
    domain, aliases = domain_of(instance), MeshSettings.of(instance).aliases
    for other in clan.instances.values():
        if other.name == instance.name:
            return
        if other.module.name != MeshModule.name:
            continue
        if domain_of(other).casefold() == domain.casefold():
            yield Fault(
                message=f"domain {domain!r} is taken by instance {other.name!r}",
                key=instance.where("domain"),
            )
        taken = MeshSettings.of(other).aliases
        if aliases and taken and IPv4Network(aliases).overlaps(IPv4Network(taken)):
            yield Fault(
                message=f"aliases {aliases} are in part those of instance {other.name!r}, {taken}",
                key=instance.where("aliases"),
            )
        for name, member in instance.members[MEMBER].items():
            if name in other.members[MEMBER]:
                yield Fault(
                    message=f"machine {name!r} is in the mesh {other.name!r} already",
                    key=member.key,
                    hint="a machine is in one mesh",
                )
