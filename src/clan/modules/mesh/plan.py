"""What a member of a mesh must have: its identity, its place, names and host keys of the others.

Who is in the mesh and where they are is not in a plan but in the map, which spreads by itself and
which no rollback undoes.

The agent's unit has the program's hash in it, so that an update of the program restarts it; the
paths that it made stay meanwhile.
"""

from __future__ import annotations

import hashlib
from functools import cache
from importlib import resources as packaged
from typing import TYPE_CHECKING

from clan.mesh.places import setting_file
from clan.model.exports import Var
from clan.model.plan import (
    Due,
    File,
    HealthCheck,
    HostName,
    Key,
    KnownHost,
    Package,
    StaticProgram,
    Unit,
)
from clan.model.target import parse_target
from clan.modules.mesh import keys
from clan.modules.mesh.settings import (
    BEHIND,
    HTTPS,
    MemberSettings,
    MeshSettings,
    domain_of,
    served_by,
)
from clan.vars.store import HOST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from importlib.resources.abc import Traversable

    from clan.mesh.tls.told import Told
    from clan.model.clan import Clan, Instance
    from clan.model.module import Values
    from clan.model.plan import Resource

PROGRAM = "/usr/bin/python3 -I /var/lib/clan/current/machine.pyz mesh"
"""The mesh's part of the program on a machine, as a shell runs it."""
_AGENT = """\
[Unit]
Description=Paths of the mesh {name} to the other machines
After=clan-boot.service {leave}

[Service]
Environment=CLAN_PROGRAM={stamp}
ExecStartPre=-{program} clock {name}
ExecStart={program} run {name}
Restart=always
RestartSec=1
"""
_DOORS = """\
[Unit]
Description=Doors in the routers around this machine, for the mesh {name}
After=clan-boot.service

[Service]
Environment=CLAN_PROGRAM={stamp}
ExecStart={program} doors {name}
Restart=always
RestartSec=5
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_RAW
"""
_TLS = """\
[Unit]
Description=Streams on TCP 443 of the mesh {name}
After=clan-boot.service

[Service]
Environment=CLAN_PROGRAM={stamp}
ExecStart={program} tls {name}
Restart=always
RestartSec=1
NoNewPrivileges=yes
CapabilityBoundingSet=CAP_NET_ADMIN CAP_NET_BIND_SERVICE
"""
_OF_STREAMS = ("clan.mesh.tls", "clan.mesh.chart")
"""What the process of streams is made of: a change of it restarts that."""
_DHT = """\
[Unit]
Description=Machines of the mesh {name} found in the DHT
After=clan-boot.service

[Service]
Environment=CLAN_PROGRAM={stamp}
ExecStart={program} dht {name} {nodes}
Restart=always
RestartSec=5
NoNewPrivileges=yes
CapabilityBoundingSet=
"""
_LEAVE = """\
[Unit]
Description=What takes the mesh {name} off this machine when it leaves it
After=clan-boot.service

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=/bin/true
ExecStop=/bin/sh -c '[ "$(systemctl is-system-running)" = stopping ] && exit 0; \
  for program in /var/lib/clan/current/machine.pyz /var/lib/clan/machine.pyz; do \
  /usr/bin/python3 -I $program mesh leave {name} {prefixes} && exit 0; done; exit 1'
"""
"""Stopped with the generation that had it. `current` may lead to one without a mesh by then, and so
may the other program, but not both."""
_ANSWERS = f"""
until echo '{{"ask": "status"}}' | {PROGRAM} ask "$0"; do
  [ $((tries += 1)) -lt 20 ] || exit 1
  sleep 0.5
done
"""
"""Waits for the agent, which has just been started."""


def unit_name(instance: str) -> str:
    """Return what the agent's unit is called."""
    return f"clan-mesh-{instance}.service"


def doors_name(instance: str) -> str:
    """Return what the unit is called that has routers let others in."""
    return f"clan-mesh-{instance}-doors.service"


def tls_name(instance: str) -> str:
    """Return what the unit is called that keeps streams."""
    return f"clan-mesh-{instance}-tls.service"


def dht_name(instance: str) -> str:
    """Return what the unit is called that finds machines in the DHT."""
    return f"clan-mesh-{instance}-dht.service"


def leave_name(instance: str) -> str:
    """Return what the unit is called that takes the mesh off a machine."""
    return f"clan-mesh-{instance}-leave.service"


def resources(machine: str, instance: Instance, clan: Clan, values: Values) -> Iterator[Resource]:
    """Yield what a member must have, in a fixed order; the same for the same clan and values."""
    from clan.mesh.agent import setting
    from clan.mesh.identity import alias_range, of_text, prefix

    name = instance.name
    root = values.public(keys.root_var(name))
    if root is None:
        yield Due(var=keys.root_var(name), why=f"`{keys.root_command(name)}` makes it")
        return
    yield Package(name="python3-cryptography")
    yield StaticProgram(name="wireguard-go")
    yield Key(
        path=keys.private_path(name),
        kind="mesh",
        generator=keys.identity_name(name),
        public=values.public(keys.identity_var(name, machine)),
    )
    streams = _streams(machine, instance)
    transit = MemberSettings.of(instance.members["member"][machine]).transit
    told = setting.told(of_text(root), keys.private_path(name), streams, transit=transit)
    yield File(path=setting_file(name), content=told)
    aliases = MeshSettings.of(instance).aliases or alias_range(prefix(of_text(root)))
    yield Unit(
        name=leave_name(name),
        text=_LEAVE.format(name=name, prefixes=f"{prefix(of_text(root))} {aliases}"),
    )
    leave = leave_name(name)
    yield Unit(
        name=unit_name(name),
        text=_AGENT.format(name=name, program=PROGRAM, stamp=_stamp(), leave=leave),
        restart_on=(setting_file(name),),
    )
    yield Unit(
        name=doors_name(name),
        text=_DOORS.format(name=name, program=PROGRAM, stamp=_stamp()),
        restart_on=(setting_file(name),),
    )
    if streams is not None:
        # Neither the agent nor the setting is its business: streams outlive a change of either.
        yield Unit(
            name=tls_name(name),
            text=_TLS.format(name=name, program=PROGRAM, stamp=_stamp(*_OF_STREAMS)),
        )
    if nodes := MeshSettings.of(instance).dht:
        yield Package(name="python3-libtorrent")
        said = " ".join(nodes)
        yield Unit(
            name=dht_name(name),
            text=_DHT.format(name=name, program=PROGRAM, stamp=_stamp(), nodes=said),
            restart_on=(setting_file(name),),
        )
    yield HealthCheck(name=f"the agent of {name} answers", command=("sh", "-c", _ANSWERS, name))
    yield from names(instance, clan, values)
    for member in instance.members["member"]:
        if values.public(keys.identity_var(name, member)) is None:
            yield Due(
                var=keys.identity_var(name, member),
                why=f"{member} makes its identity at its next update",
            )


def _streams(machine: str, instance: Instance) -> Told | None:
    """Return what a machine is told of streams; None where nobody takes any."""
    from clan.mesh.chart.links import Served
    from clan.mesh.link import Endpoint
    from clan.mesh.tls.told import Told
    from clan.mesh.tls.wants import Proxy

    members = {name: MemberSettings.of(each) for name, each in instance.members["member"].items()}
    own = members[machine]
    if not any(each.tls for each in members.values()):
        return None
    served, local, proxy = None, 0, None
    if own.tls and own.tls_web is not None:
        host, port, path = served_by(own.tls_web)
        served, local = Served(port=port, name=host, path=path), own.tls_port or BEHIND
    elif own.tls:
        served = Served(port=own.tls_port or HTTPS)
    if own.proxy is not None:
        at = parse_target(own.proxy)
        place = Endpoint(host=at.host, port=at.port or HTTPS)
        proxy = Proxy(place=place, credentials=own.proxy_password or "")
    return Told(served=served, local=local, proxy=proxy)


@cache
def _stamp(*names: str) -> str:
    """Return the hash of what a program is made of; without names, the agent's."""
    digest = hashlib.sha256()
    for name in names or ("clan.machine", "clan.mesh"):
        for data in _sources(packaged.files(name)):
            digest.update(hashlib.sha256(data).digest())
    return digest.hexdigest()[:16]


def _sources(folder: Traversable) -> Iterator[bytes]:
    for each in sorted(folder.iterdir(), key=lambda each: each.name):
        if each.is_dir():
            yield from _sources(each)
        elif each.name.endswith(".py"):
            yield each.read_bytes()


def names(instance: Instance, clan: Clan, values: Values) -> Iterator[HostName | KnownHost]:
    """Yield each member's names and, where its host key is known, what ssh demands of it there."""
    domain = domain_of(instance)
    for member in instance.members["member"]:
        address = values.public(keys.address_var(instance.name, member))
        if address is None:
            continue
        # The host's name first: it is what a name looked up by address gives.
        called = dict.fromkeys((clan.machines[member].host_name, member))
        full = tuple(f"{each}.{domain}" for each in called)
        for each in full:
            yield HostName(name=each, addresses=(address,))
        generator, file = HOST_KEY
        known = values.public(Var(machine=member, generator=generator, file=file)) or ""
        # Two while the machine goes from one key to the next.
        for key in known.splitlines():
            yield KnownHost(names=(*full, address), key=" ".join(key.split()[:2]))
