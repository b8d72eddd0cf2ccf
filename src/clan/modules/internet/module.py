"""The internet module: addresses that a person wrote down, with jump hosts before them.

A machine has one port and one user on an instance. `deploy.targetHost` and the settings may each
give them; where both do and differ it is a fault, for a peer cannot have two. Who needs two ports
makes two instances. Of the hosts, the target host comes first.

`jump_hosts` are `[user@]host[:port]` or names of machines; the export has them as `jump_hosts` and
as the `-J` that ssh takes. Machines that lead to each other in a circle are a fault.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar

from pydantic import AfterValidator, BeforeValidator, Field

from clan.errors import Fault
from clan.model.exports import SSH_PORT, Exports, Networking, Peer
from clan.model.module import MachineNameOrOther, Module, Role, Settings
from clan.model.target import host_fault, is_user, parse_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.clan import Clan, Instance, RoleMember
    from clan.model.inventory import Target


def listed(value: object) -> object:
    """Take one string for a list of it."""
    if isinstance(value, str):
        return (value,)
    # What a validator of ours returns is no longer JSON, where a list may fill a tuple.
    return tuple(value) if isinstance(value, list) else value


def checked_host(host: str) -> str:
    """Refuse what is no host name or address."""
    fault = host_fault(host)
    if fault:
        raise ValueError(fault)
    return host


def checked_jump(jump: str) -> str:
    """Refuse what is neither `[user@]host[:port]` nor a name."""
    parse_target(jump)
    return jump


def checked_user(user: str) -> str:
    """Refuse what is no user name."""
    if not is_user(user):
        raise ValueError(f"{user!r} is no user name")
    return user


HostName = Annotated[str, AfterValidator(checked_host)]
UserName = Annotated[str, AfterValidator(checked_user)]
JumpHost = Annotated[MachineNameOrOther, AfterValidator(checked_jump)]


class InternetSettings(Settings):
    """What holds for the whole network."""

    priority: int = Field(2000, description="Networks of higher priority are tried first.")


class DefaultSettings(Settings):
    """Where a machine is found on this network."""

    host: Annotated[tuple[HostName, ...], BeforeValidator(listed)] = Field(
        (), description="Name or address of the machine; several are tried together."
    )
    port: int | None = Field(
        None,
        description="Port of its sshd (default: that of deploy.targetHost, else 22).",
        ge=1,
        le=65535,
    )
    user: UserName | None = Field(
        None, description="Who logs in (default: that of deploy.targetHost, else root)."
    )
    jump_hosts: Annotated[tuple[JumpHost, ...], BeforeValidator(listed)] = Field(
        (),
        description="What leads there, in order: `[user@]host[:port]`, or a machine's name.",
    )


class InternetModule(Module):
    """Machines with addresses; `deploy.targetHost` makes an instance named `internet` by itself."""

    name = "internet"
    description = "Machines that have an address on the internet, or behind jump hosts."
    roles: ClassVar[Mapping[str, Role]] = {
        "default": Role(description="Has an address.", settings=DefaultSettings)
    }
    settings = InternetSettings

    def check(self, instance: Instance, clan: Clan) -> Iterator[Fault]:
        """Yield machines without an address, with two ports or users, and circles of jumps."""
        members = instance.members["default"]
        for name, member in members.items():
            settings = DefaultSettings.of(member)
            target = target_of(instance, clan, name)
            if target is None and not settings.host:
                yield Fault(
                    message=f"machine {name!r} has no address on network {instance.name!r}",
                    key=member.key,
                    hint="set `host` here, or deploy.targetHost on the machine"
                    if instance.name == self.name
                    else "set `host` here: deploy.targetHost is for network 'internet'",
                )
            if target is None:
                continue
            for field, here, there in (
                ("port", settings.port, target.port),
                ("user", settings.user, target.user),
            ):
                if here is not None and there is not None and here != there:
                    yield Fault(
                        message=f"{field} of {name!r} is {here} here and {there} in "
                        "deploy.targetHost, and a machine has one on a network",
                        key=member.where(field),
                        hint="remove one, or make a second instance",
                    )
        yield from circles(members)

    def exports(self, instance: Instance, clan: Clan) -> Exports:
        """Return the network."""
        return Exports(
            networking=Networking(
                priority=InternetSettings.of(instance).priority,
                technology="clan.modules.internet.technology:Internet",
                peers={
                    name: peer(member, target_of(instance, clan, name))
                    for name, member in instance.members["default"].items()
                },
            )
        )


def target_of(instance: Instance, clan: Clan, machine: str) -> Target | None:
    """Return the machine's target host, which is of the instance that is named `internet`."""
    return clan.machines[machine].target_host if instance.name == InternetModule.name else None


def peer(member: RoleMember, target: Target | None) -> Peer:
    """Return a machine as a peer."""
    settings = DefaultSettings.of(member)
    hosts = settings.host if target is None else (target.host, *settings.host)
    port = settings.port or (target.port if target else None)
    return Peer(
        name=member.machine,
        hosts=tuple(dict.fromkeys(hosts)),
        port=port or SSH_PORT,
        user=settings.user or (target.user if target else None),
        jump_hosts=settings.jump_hosts,
    )


def circles(members: Mapping[str, RoleMember]) -> Iterator[Fault]:
    """Yield one fault for each circle of machines that are reached through each other."""
    through = {
        name: [
            jump.rpartition("@")[2]
            for jump in DefaultSettings.of(member).jump_hosts
            if jump.rpartition("@")[2] in members
        ]
        for name, member in members.items()
    }
    done: set[str] = set()
    for start in through:
        trail: dict[str, None] = {}
        pending = [(start, False)]
        while pending:
            name, left = pending.pop()
            if left:
                trail.pop(name)
                done.add(name)
            elif name in trail:
                names = list(trail)
                circle = " -> ".join([*names[names.index(name) :], name])
                yield Fault(
                    message=f"jump hosts lead in a circle: {circle}",
                    key=members[name].where("jump_hosts"),
                )
            elif name not in done:
                trail[name] = None
                pending.append((name, True))
                pending += [(jump, False) for jump in through[name]]
