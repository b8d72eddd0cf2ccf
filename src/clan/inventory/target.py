"""Addresses as people write them: `[user@]host[:port]`, an IPv6 address with a port in brackets.

It refuses what `ssh` would read as an option or a shell could read as more than one word: these
texts end up as arguments of programs.
"""

from __future__ import annotations

import re

from clan.model.inventory import Target

HOST_NAME = re.compile(r"(?=.{1,253}\Z)[A-Za-z0-9_](?:[A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
USER = re.compile(r"[A-Za-z_][A-Za-z0-9_.@-]{0,63}\$?")
PORT = re.compile(r"[0-9]{1,5}")
MOST_PORT = 65535


def host_fault(host: str) -> str | None:
    """Return what is wrong with a host name or address, or None."""
    if ":" in host:
        return None if is_ipv6(host) else f"{host!r} is no IPv6 address"
    if HOST_NAME.fullmatch(host) is None:
        return f"{host!r} is no host name or address"
    return None


def is_ipv6(text: str) -> bool:
    """Say whether the text is an IPv6 address, with a zone (`fe80::1%eth0`) or without."""
    import socket

    address, percent, zone = text.partition("%")
    if percent and not re.fullmatch(r"[A-Za-z0-9_.-]{1,15}", zone):
        return False
    try:
        socket.inet_pton(socket.AF_INET6, address)
    except (OSError, ValueError):
        return False
    return True


def parse_target(text: str) -> Target:
    """Read `[user@]host[:port]`; ValueError says what is wrong with it."""
    user, at, rest = text.rpartition("@")
    if at and USER.fullmatch(user) is None:
        raise ValueError(f"{user!r} is no user name")
    host, port = split_port(rest)
    fault = host_fault(host)
    if fault:
        raise ValueError(fault)
    if port is not None and not (PORT.fullmatch(port) and 0 < int(port) <= MOST_PORT):
        raise ValueError(f"{port!r} is no port (1 to {MOST_PORT})")
    return Target(host=host, port=int(port) if port else None, user=user or None)


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
