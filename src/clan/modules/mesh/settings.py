"""What can be set of a mesh."""

from __future__ import annotations

import re
from ipaddress import IPv4Network, ip_address
from typing import TYPE_CHECKING, Annotated

from pydantic import AfterValidator, Field

from clan.model.module import Settings
from clan.model.names import is_domain
from clan.model.target import parse_target

if TYPE_CHECKING:
    from clan.model.clan import Instance
    from clan.model.inventory import Target

HTTPS, BEHIND = 443, 8443
"""TCP ports: of streams and web servers; on the loopback, of streams behind a web server."""
PRIVATE = tuple(
    map(IPv4Network, ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10"))
)
"""RFC 1918 and RFC 6598."""
SMALLEST = 29
"""The longest prefix of a range of aliases."""


def checked_domain(domain: str) -> str:
    """Refuse what cannot follow a dot."""
    if not is_domain(domain):
        raise ValueError(f"{domain!r} is no domain")
    return domain


def checked_range(written: str) -> str:
    """Refuse what is no private range of IPv4 that has room for aliases."""
    try:
        within = IPv4Network(written)
    except ValueError:
        raise ValueError(f"{written!r} is no range of IPv4 addresses, as 10.77.0.0/20") from None
    if within.prefixlen > SMALLEST or not any(within.subnet_of(each) for each in PRIVATE):
        listed = ", ".join(map(str, PRIVATE))
        raise ValueError(f"{within} is not a /{SMALLEST} or larger within one of {listed}")
    return str(within)


def parsed(written: str) -> Target:
    """Read `host[:port]`. ValueError says why another machine could send nothing there."""
    target = parse_target(written)
    if target.user is not None:
        raise ValueError(f"{written!r} names a user; it is HOST or HOST:PORT")
    try:
        numeric = ip_address(target.host)
    except ValueError:
        return target
    if (
        numeric.is_multicast
        or numeric.is_unspecified
        or numeric.is_loopback
        or numeric.is_link_local
    ):
        raise ValueError(f"{target.host} is no address that another machine can send to")
    return target


def checked_node(written: str) -> str:
    """Refuse what is no `host:port`."""
    if parsed(written).port is None:
        raise ValueError(f"{written!r} has no port; it is HOST:PORT")
    return written


def checked_address(written: str) -> str:
    """Refuse what is no `host[:port]` that another machine can send to."""
    parsed(written)
    return written


class MeshSettings(Settings):
    """What holds for the whole mesh."""

    priority: int = Field(3000, description="Networks of higher priority are tried first.")
    domain: Annotated[str, AfterValidator(checked_domain)] | None = Field(
        None,
        description="What follows the dot in names there (default: the instance's name).",
    )
    aliases: Annotated[str, AfterValidator(checked_range)] | None = Field(
        None,
        description="Private range in which each machine has an IPv4 address, for programs that "
        "know only IPv4 (default: a /20 in 10.0.0.0/8 that follows from the root).",
    )
    dht: tuple[Annotated[str, AfterValidator(checked_node)], ...] = Field(
        (),
        max_length=16,
        description="Nodes by which machines enter BitTorrent's DHT, each HOST:PORT, to find each "
        "other where nobody introduces them (default: none, and no DHT).",
    )


def served_by(written: str) -> tuple[str, int, str]:
    """Read `HOST[:PORT]/PATH` of a web server: host, port and path. ValueError says what is wrong.

    Machines check its certificate, so HOST is a name.
    """
    place, slash, path = written.partition("/")
    target = parse_target(place)
    is_name = is_domain(target.host) and not target.host.rpartition(".")[2].isdecimal()
    if not slash or target.user is not None or not is_name:
        raise ValueError(f"{written!r} is not NAME/PATH or NAME:PORT/PATH of a web server")
    if not re.fullmatch(r"[!-~]{0,1000}", path):
        raise ValueError(f"{written!r}: a path is of ASCII without spaces")
    return target.host, target.port or HTTPS, f"/{path}"


def checked_web(written: str) -> str:
    """Refuse what is no place of a web server."""
    served_by(written)
    return written


def checked_proxy(written: str) -> str:
    """Refuse what is no HOST:PORT."""
    target = parse_target(written)
    if target.user is not None or target.port is None:
        raise ValueError(f"{written!r} is not HOST:PORT; a password is in a file on the machine")
    return written


class MemberSettings(Settings):
    """Where a machine can be found, and its part in streams on TCP 443."""

    addresses: tuple[Annotated[str, AfterValidator(checked_address)], ...] = Field(
        (),
        max_length=64,
        description="Where others may find it, as HOST or HOST:PORT, the likeliest first; a UDP "
        "port that leads to it, or none where all its ports do. `deploy.targetHost` is tried too.",
    )
    transit: bool = Field(
        True,
        description="Whether it passes on what two others send each other that share no network; "
        "never over an uplink on which bytes cost.",
    )
    tls: bool = Field(
        False,
        description="Whether others, who get nothing out but TCP 443, may have their streams here "
        "and be passed on; it has to be reachable from outside.",
    )
    tls_port: int | None = Field(
        None,
        ge=1,
        le=65535,
        description="TCP port for them (default: 443; behind a web server, 8443 of 127.0.0.1).",
    )
    tls_web: Annotated[str, AfterValidator(checked_web)] | None = Field(
        None,
        description="NAME/PATH or NAME:PORT/PATH of this machine's web server that passes them on.",
    )
    proxy: Annotated[str, AfterValidator(checked_proxy)] | None = Field(
        None, description="HOST:PORT of an HTTP proxy by which this machine calls others."
    )
    proxy_password: str | None = Field(
        None,
        pattern=r"^/[!-~]{1,4000}$",
        description="Path of a file on the machine with user:password for the proxy; only root "
        "may read it.",
    )


def domain_of(instance: Instance) -> str:
    """Return what follows the dot in names of the mesh."""
    return MeshSettings.of(instance).domain or instance.name
