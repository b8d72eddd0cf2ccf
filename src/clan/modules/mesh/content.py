"""From the clan's file to what its map says. Pure: values in, a content out."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING

from clan.mesh import identity
from clan.mesh.chart import links
from clan.mesh.chart.content import Content, KnownAddress, Machine, faults
from clan.modules.mesh import keys
from clan.modules.mesh.settings import MemberSettings, MeshSettings, parsed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from ipaddress import IPv4Address, IPv6Network

    from clan.model.clan import Clan, Instance
    from clan.model.inventory import Target
    from clan.model.module import Values

NOWHERE: Mapping[bytes, bytes] = {}


def content(
    instance: Instance,
    clan: Clan,
    values: Values,
    *,
    first_root: bytes,
    before: Content,
    records: Mapping[bytes, bytes] = NOWHERE,
) -> Content:
    """Return what the map is to say: the members that have an identity, and where they are.

    `before` is what holds: aliases and records in it stay. `records` are verified ones of
    interfaces by identity; the newer counts. Raises MeshError for a public key that is none, or
    when aliases have run out.
    """
    prefix = identity.prefix(first_root)
    chosen = MeshSettings.of(instance).aliases
    within = identity.alias_range(prefix) if chosen is None else IPv4Network(chosen)
    born = {
        name: identity.of_text(public)
        for name in instance.members["member"]
        if (public := values.public(keys.identity_var(instance.name, name))) is not None
    }
    aliases = _aliases(within, born.values(), before)
    known = {each.identity: each.links for each in before.machines}
    machines = [
        Machine(
            name=name,
            identity=key,
            tags=frozenset(clan.machines[name].tags),
            addresses=_addresses(name, instance, clan, within, prefix),
            alias=aliases[key],
            links=links.newer(known.get(key, b""), records.get(key, b"")),
        )
        for name, key in sorted(born.items())
    ]
    return Content(machines=tuple(machines), aliases=within)


def _aliases(
    within: IPv4Network, identities: Iterable[bytes], before: Content
) -> dict[bytes, IPv4Address]:
    """Return each identity's alias: the one that it has, or a free one."""
    ends = {within.network_address, within.broadcast_address}
    wanted = tuple(identities)
    found = {
        each.identity: each.alias
        for each in before.machines
        if each.identity in wanted
        and each.alias is not None
        and each.alias in within
        and each.alias not in ends
    }
    for key in wanted:
        if key not in found:
            found[key] = identity.alias(within, key, set(found.values()))
    return found


def _addresses(
    name: str, instance: Instance, clan: Clan, within: IPv4Network, prefix: IPv6Network
) -> tuple[KnownAddress, ...]:
    """Return where the clan's file says that a machine is: what is set first, then `targetHost`.

    The latter may be an address of the mesh itself, or one that only the admin can use: it is left
    out then.
    """
    settings = MemberSettings.of(instance.members["member"][name])
    found = [_known(parsed(written)) for written in settings.addresses]
    target = clan.machines[name].target_host
    if target is not None:
        known = replace(_known(target), port=0)
        alone = Machine(name=name, identity=bytes(identity.SIZE), addresses=(known,))
        if not faults(Content(machines=(alone,), aliases=within), prefix):
            found.append(known)
    return tuple(dict.fromkeys(found))


def _known(target: Target) -> KnownAddress:
    try:
        host = str(ip_address(target.host))
    except ValueError:
        host = target.host
    return KnownAddress(host=host, port=target.port or 0)


def says(now: Content, wanted: Content) -> bool:
    """Whether a map says already what it is to say; secrets and who was removed follow by itself.

    Records count by which is the newer: one that the map has and the clan does not know changes
    nothing.
    """
    known = {each.identity: each.links for each in now.machines}
    machines = tuple(
        replace(each, links=links.newer(each.links, known.get(each.identity, b"")))
        for each in wanted.machines
    )
    same = replace(wanted, machines=machines, removed=now.removed, secrets=now.secrets)
    return same == now
