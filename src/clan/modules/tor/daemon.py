"""Tor on a machine: packages, files and units of an onion service, and of a daemon for clients.

Each runs a Tor process of its own as Debian's user for it, beside whatever Tor the machine has.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.model.exports import Var
from clan.model.plan import Due, File, HealthCheck, Package, Unit
from clan.modules.tor.onion import service_auth
from clan.modules.tor.torrc import client_name, generator, network_lines, server_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

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


def server(
    network: Network, machine: str, port: int, auth: Var, public_key: str | None
) -> Iterator[Resource]:
    """Yield an onion service that leads to `port`, and lets in who has the key of `public_key`.

    `auth` is the var of that key. The service's own keys are copied into a folder in memory, as
    Tor wants it to be its own and writes there; a Tor that is let in by nobody is not begun.
    """
    if public_key is None:
        yield Due(var=auth, why="the onion service answers only who has this key")
        return
    name = server_name(network.instance)
    torrc, onion = network.file("server", "torrc"), f"/run/{name}/onion"
    keys = ("hs_ed25519_secret_key", "hs_ed25519_public_key")
    paths = [network.file("server", key) for key in keys]
    client = network.file("server", "clan.auth")
    yield Package(name="tor")
    yield _torrc(
        torrc,
        [
            f"DataDirectory /var/lib/{name}",
            "SocksPort 0",
            f"HiddenServiceDir {onion}",
            f"HiddenServicePort 22 127.0.0.1:{port}",
            *network.lines,
        ],
    )
    for key, path in zip(keys, paths, strict=True):
        var = Var(machine=machine, generator=generator(network.instance), file=key)
        yield File(path=path, content=var, mode=0o400)
    yield File(path=client, content=service_auth(public_key).encode(), mode=0o400)
    yield from _unit(
        name,
        f"Onion service of the clan's network {network.instance}",
        torrc,
        before=(
            f"{_INSTALL} -m 0700 -d {onion} {onion}/authorized_clients",
            f"{_INSTALL} -m 0600 {' '.join(paths)} {onion}/",
            f"{_INSTALL} -m 0600 {client} {onion}/authorized_clients/",
        ),
        mode="0700",
        restart_on=(torrc, *paths, client),
    )


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
