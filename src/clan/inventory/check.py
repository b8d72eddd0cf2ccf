"""What no single machine or instance shows: names that collide, peers that are one address."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.model.exports import Var
from clan.model.names import host_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.inventory.faults import Faults
    from clan.model.clan import Instance
    from clan.model.exports import Exports, Host
    from clan.model.inventory import KeyPath


def check_names(what: str, names: Mapping[str, KeyPath], faults: Faults) -> None:
    """Refuse names that are one host name: those ignore case, and `_` is `-` in them."""
    seen: dict[str, str] = {}
    for name, key in names.items():
        first = seen.setdefault(host_name(name).casefold(), name)
        if first != name:
            message = f"{what} {name!r} and {first!r} would both be {host_name(first).casefold()!r}"
            faults.add(key, message, "rename one: in host names '_' is '-' and case does not count")


def check_networks(
    instances: Mapping[str, Instance], exports: Mapping[str, Exports], faults: Faults
) -> None:
    """Refuse two machines that are one address on a network: a login would reach the wrong one."""
    for name, exported in exports.items():
        if exported.networking is None:
            continue
        seen: dict[tuple[Host, int, tuple[str, ...]], str] = {}
        for machine, peer in exported.networking.peers.items():
            for host in dict.fromkeys(peer.hosts):
                first = seen.setdefault((host, peer.port, peer.jump_hosts), machine)
                if first != machine:
                    faults.add(
                        member_key(instances[name], machine, ("host", "hostname")),
                        f"{machine!r} and {first!r} have the same address on network {name!r}: "
                        f"{shown(host)} port {peer.port}",
                        "give one of them another host or port",
                    )


def member_key(instance: Instance, machine: str, settings: Iterable[str]) -> KeyPath:
    """Return where a machine's address stands: the first of the settings, else the membership."""
    for members in instance.members.values():
        if machine in members:
            member = members[machine]
            return next((member.origins[s] for s in settings if s in member.origins), member.key)
    return instance.key


def shown(host: Host) -> str:
    """Write a host; a var by its name."""
    return f"var {host.generator}/{host.file}" if isinstance(host, Var) else host
