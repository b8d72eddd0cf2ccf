"""Addresses as people write them: `[user@]host[:port]`, IPv6 in brackets when a port follows."""

from __future__ import annotations

import ipaddress
import re

from clan.model.inventory import Target

MOST_PORT = 65535
_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_.])?")
_USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*\$?")


def parse_target(text: str) -> Target:
    """Read `[user@]host[:port]`. Raises ValueError saying what is wrong with it.

    A host is a name, an IPv4 address, or an IPv6 address (a zone may follow), which is put in
    brackets where a port follows and may be put there anyway. What begins with `-` is refused:
    `ssh` would take it for an option.
    """
    user, at, rest = text.rpartition("@")
    if at and not _USER.fullmatch(user):
        raise ValueError(f"{user!r} is not a user name")
    host, port = rest, ""
    if rest.startswith("["):
        host, closed, port = rest[1:].partition("]")
        if not closed or (port and not port.startswith(":")):
            raise ValueError(f"{rest!r} has no `]:port` after its IPv6 address")
        port = port[1:] if port else ""
        if port == "" and rest.endswith(":"):
            raise ValueError("a port is missing after `:`")
        _check_ipv6(host)
    elif rest.count(":") > 1:
        _check_ipv6(rest)
    else:
        host, colon, port = rest.partition(":")
        if colon and not port:
            raise ValueError("a port is missing after `:`")
        if not _HOST.fullmatch(host):
            raise ValueError(f"{host!r} is neither a host name nor an address")
    return Target(host=host, port=_port(port), user=user or None)


def _check_ipv6(host: str) -> None:
    try:
        ipaddress.IPv6Address(host)
    except ValueError:
        raise ValueError(
            f"{host!r} is not an IPv6 address; with a port it is written [address]:port"
        ) from None


def _port(text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or not 1 <= int(text[:6]) <= MOST_PORT:
        raise ValueError(f"{text!r} is not a port (1 to {MOST_PORT})")
    return int(text)
