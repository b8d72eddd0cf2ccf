"""Tor on a machine: packages, files and units of an onion service, and of a daemon for clients.

Each runs a Tor process of its own as Debian's user for it, beside whatever Tor the machine has.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.model.exports import Var
from clan.model.generator import FORMER, former
from clan.model.plan import Due, File, HealthCheck, Package, Unit
from clan.modules.tor.onion import service_auth
from clan.modules.tor.torrc import (
    AUTH_PUBLIC,
    KEYS,
    auth_generator,
    client_name,
    generator,
    network_lines,
    server_name,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from clan.model.module import Values
    from clan.model.plan import Resource

_USER = "debian-tor"
_INSTALL = f"/usr/bin/install -o {_USER} -g {_USER}"

# It needs no privilege at all: sshd is spoken to over the loopback device.
_UNIT = """\
[Unit]
Description={description}
After=network.target nss-lookup.target

[Service]
Type=notify
NotifyAccess=main
User={user}
Group={user}
RuntimeDirectory={name}
RuntimeDirectoryMode={mode}
StateDirectory={name}
StateDirectoryMode=0700
{before}ExecStart=/usr/bin/tor --defaults-torrc /dev/null -f {torrc}
ExecReload=/bin/kill -HUP $MAINPID
KillSignal=SIGINT
TimeoutStartSec=60
Restart=on-failure
RestartSec=2
LimitNOFILE=65536
NoNewPrivileges=yes
CapabilityBoundingSet=
PrivateTmp=yes
PrivateDevices=yes
ProtectHome=yes
ProtectSystem=strict
ProtectKernelTunables=yes
ProtectKernelModules=yes
ProtectControlGroups=yes
RestrictAddressFamilies=AF_INET AF_INET6 AF_UNIX AF_NETLINK
RestrictNamespaces=yes
LockPersonality=yes

[Install]
WantedBy=multi-user.target
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """Which Tor network it is, and the instance that it is for."""

    instance: str
    authorities: tuple[str, ...]
    testing: bool

    @property
    def lines(self) -> tuple[str, ...]:
        """The lines of torrc for it."""
        return network_lines(self.authorities, testing=self.testing)

    def file(self, role: str, name: str) -> str:
        """Return the path of a file of a role."""
        return f"/etc/clan/tor/{self.instance}/{role}/{name}"


def server(network: Network, machine: str, port: int, values: Values) -> Iterator[Resource]:
    """Yield an onion service that leads to `port`, and lets in who has the clan's key.

    What was replaced of name and key goes on beside. A service's own keys are copied into a folder
    in memory, as Tor wants it to be its own and writes there; a Tor that is let in by nobody is not
    begun.
    """
    auth = Var(machine=None, generator=auth_generator(network.instance), file=AUTH_PUBLIC)
    public_key = values.public(auth)
    if public_key is None:
        yield Due(var=auth, why="the onion service answers only who has this key")
        return
    clients = {"clan.auth": public_key}
    if old := values.public(replace(auth, file=former(AUTH_PUBLIC))):
        clients["former.auth"] = old
    auths = [
        File(path=network.file("server", name), content=service_auth(key).encode(), mode=0o400)
        for name, key in clients.items()
    ]
    keys = Var(machine=machine, generator=generator(network.instance), file=FORMER)
    prefixes = ("", former("")) if values.public(keys) else ("",)
    onions = [_Onion(network=network, machine=machine, prefix=prefix) for prefix in prefixes]
    files = [*(file for onion in onions for file in onion.files), *auths]
    name, torrc = server_name(network.instance), network.file("server", "torrc")
    yield Package(name="tor")
    yield _torrc(
        torrc,
        [
            f"DataDirectory /var/lib/{name}",
            "SocksPort 0",
            *(line for onion in onions for line in onion.lines(port)),
            *network.lines,
        ],
    )
    yield from files
    yield from _unit(
        name,
        f"Onion service of the clan's network {network.instance}",
        torrc,
        before=[command for onion in onions for command in onion.commands(auths)],
        mode="0700",
        restart_on=(torrc, *(file.path for file in files)),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Onion:
    """One service of a Tor: the clan's, or with the prefix of its vars the one that it replaced."""

    network: Network
    machine: str
    prefix: str

    @property
    def folder(self) -> str:
        """Return where Tor has its keys."""
        return f"/run/{server_name(self.network.instance)}/{self.prefix}onion"

    @property
    def files(self) -> list[File]:
        """Return the files of its keys."""
        made_by = generator(self.network.instance)
        return [
            File(
                path=self.network.file("server", name),
                content=Var(machine=self.machine, generator=made_by, file=name),
                mode=0o400,
            )
            for name in (f"{self.prefix}{key}" for key in KEYS)
        ]

    def lines(self, port: int) -> tuple[str, ...]:
        """Return its lines of torrc."""
        return f"HiddenServiceDir {self.folder}", f"HiddenServicePort 22 127.0.0.1:{port}"

    def commands(self, auths: Sequence[File]) -> Iterator[str]:
        """Yield the commands that lay out its folder."""
        clients = f"{self.folder}/authorized_clients"
        yield f"{_INSTALL} -m 0700 -d {self.folder} {clients}"
        for key, file in zip(KEYS, self.files, strict=True):
            yield f"{_INSTALL} -m 0600 {file.path} {self.folder}/{key}"
        yield f"{_INSTALL} -m 0600 {' '.join(file.path for file in auths)} {clients}/"


def client(network: Network, socks_port: int | None) -> Iterator[Resource]:
    """Yield a daemon with a SOCKS port, and a control port for root and Tor's group.

    The clients' key is not given to it here: `clan` lets it in for a connection, and out again.
    """
    name = client_name(network.instance)
    torrc, run = network.file("client", "torrc"), f"/run/{name}"
    tcp = (f"SocksPort 127.0.0.1:{socks_port}",) if socks_port else ()
    yield Package(name="tor")
    yield _torrc(
        torrc,
        [
            f"DataDirectory /var/lib/{name}",
            f"SocksPort unix:{run}/socks WorldWritable ExtendedErrors",
            *tcp,
            f"ControlSocket {run}/control GroupWritable RelaxDirModeCheck",
            "ControlSocketsGroupWritable 1",
            "CookieAuthentication 1",
            "CookieAuthFileGroupReadable 1",
            f"CookieAuthFile {run}/cookie",
            "ClientOnly 1",
            *network.lines,
        ],
    )
    yield from _unit(
        name,
        f"Tor for the clan's network {network.instance}",
        torrc,
        before=(),
        mode="0755",
        restart_on=(torrc,),
    )


def _torrc(path: str, lines: Sequence[str]) -> File:
    text = "".join(f"{line}\n" for line in (*lines, "Log notice stdout"))
    return File(path=path, content=text.encode())


def _unit(
    name: str,
    description: str,
    torrc: str,
    *,
    before: Sequence[str],
    mode: str,
    restart_on: tuple[str, ...],
) -> Iterator[Resource]:
    """Yield the unit; `before` are commands that root runs first."""
    text = _UNIT.format(
        description=description,
        user=_USER,
        name=name,
        mode=mode,
        torrc=torrc,
        before="".join(f"ExecStartPre=+{command}\n" for command in before),
    )
    unit = f"{name}.service"
    yield Unit(name=unit, text=text, restart_on=restart_on)
    yield HealthCheck(name=f"Tor of {name}", command=("systemctl", "is-active", "--quiet", unit))
