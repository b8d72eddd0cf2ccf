"""What a machine's network looks like, read from /proc without entering it: no process, no wait."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_LISTEN = "0A"
_GLOBAL = "00"
_TENTATIVE = 0x40


def listens(leader: int, port: int) -> bool:
    """Return whether anything on a machine listens on a TCP port."""
    tables = (_text(leader, "tcp"), _text(leader, "tcp6"))
    return any(port in listening(table) for table in tables)


def addresses(leader: int) -> tuple[list[IPv4Address], list[IPv6Address]]:
    """Return a machine's addresses that are valid beyond its link, per version of IP."""
    return addresses4(_text(leader, "fib_trie")), addresses6(_text(leader, "if_inet6"))


def listening(table: str) -> set[int]:
    """Return the ports that are listened on, from the text of /proc/net/tcp or tcp6."""
    rows = [line.split() for line in table.splitlines()[1:]]
    return {int(row[1].rpartition(":")[2], 16) for row in rows if row[3] == _LISTEN}


def addresses4(trie: str) -> list[IPv4Address]:
    """Return the local addresses in the text of /proc/net/fib_trie, without the loopback's."""
    found: dict[IPv4Address, None] = {}
    last = ""
    for line in trie.splitlines():
        words = line.split()
        if words[:1] == ["|--"]:
            last = words[1]
        elif words == ["/32", "host", "LOCAL"]:
            found[IPv4Address(last)] = None
    return [address for address in found if not address.is_loopback]


def addresses6(table: str) -> list[IPv6Address]:
    """Return the usable global addresses in the text of /proc/net/if_inet6."""
    rows = [line.split() for line in table.splitlines()]
    return [
        IPv6Address(int(row[0], 16))
        for row in rows
        if row[3] == _GLOBAL and not int(row[4], 16) & _TENTATIVE
    ]


def _text(leader: int, name: str) -> str:
    """Read a file of the network that a process is in; empty when the process is gone."""
    try:
        return Path(f"/proc/{leader}/net/{name}").read_text()
    except OSError:
        return ""
