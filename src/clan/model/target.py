"""Addresses as people write them: `[user@]host[:port]`, an IPv6 address with a port in brackets.

It refuses what `ssh` would read as an option or a shell could read as more than one word: these
texts end up as arguments of programs.
"""

from __future__ import annotations

import string

from clan.model.inventory import Target
from clan.model.names import LONGEST_DOMAIN, WORD

# Sets instead of patterns: compiling those takes longer than reading a clan's addresses.
HOST = WORD | set(".")
USER = WORD | set(".@")
USER_FIRST = frozenset(string.ascii_letters + "_")
LONGEST_USER = 64
LONGEST_ZONE = 15
MOST_PORT = 65535


def host_fault(host: str) -> str | None:
    """Return what is wrong with a host name or address, or None."""
    if ":" in host:
        return None if is_ipv6(host) else f"{host!r} is no IPv6 address"
    if not (0 < len(host) <= LONGEST_DOMAIN and HOST.issuperset(host)) or host[0] in "-.":
        return f"{host!r} is no host name or address"
    return None


def is_ipv6(text: str) -> bool:
    """Say whether the text is an IPv6 address, with a zone (`fe80::1%eth0`) or without."""
    import socket

    address, percent, zone = text.partition("%")
    if percent and not (0 < len(zone) <= LONGEST_ZONE and HOST.issuperset(zone)):
        return False
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return False
    return True


def parse_target(text: str) -> Target:
    """Read `[user@]host[:port]`; ValueError says what is wrong with it."""
    user, at, rest = text.rpartition("@")
    if at and not is_user(user):
        raise ValueError(f"{user!r} is no user name")
    host, port = split_port(rest)
    fault = host_fault(host)
    if fault:
        raise ValueError(fault)
    if port is not None and not (is_number(port) and 0 < int(port) <= MOST_PORT):
        raise ValueError(f"{port!r} is no port (1 to {MOST_PORT})")
    return Target(host=host, port=int(port) if port else None, user=user or None)


def is_user(name: str) -> bool:
    """Say whether the text can be the name of a user."""
    return 0 < len(name) <= LONGEST_USER and name[0] in USER_FIRST and USER.issuperset(name)


def is_number(text: str) -> bool:
    """Say whether the text is at most five plain digits; str.isdigit takes those of any script."""
    return 0 < len(text) <= len(str(MOST_PORT)) and set(string.digits).issuperset(text)


def split_port(text: str) -> tuple[str, str | None]:
    """Part the host from the port; a bare IPv6 address has no port."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or ":" not in host or (rest and not rest.startswith(":")):
            raise ValueError(f"{text!r} is no IPv6 address in brackets")
        return host, rest[1:] if rest else None
    if text.count(":") == 1:
        host, _, port = text.partition(":")
        return host, port
    return text, None
