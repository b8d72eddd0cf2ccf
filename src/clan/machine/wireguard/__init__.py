"""WireGuard interfaces: `apply` makes one what its description says, `remove` takes it away.

The kernel's WireGuard where there is one, else `wireguard-go` in a unit of its own, so that the
tunnel outlives whoever made it. The two differ in how an interface comes and goes and in nothing
else: both are set up by `wg` and `ip`, which every Debian has packages of and which people use to
look at the result. Netlink and the userspace socket would be two ways of saying the same.

`wg set` is used, and not `wg setconf` or `syncconf`: those take the private key as text and give
every peer its allowed addresses anew, during which packets to it are lost. Here the key is a file
that `wg` reads, and only peers that differ are touched.

`apply` is also what mends: systemd calls it every half a minute, so names of endpoints are looked
up again where the far end is silent, and a `wireguard-go` that died comes back.
"""

from __future__ import annotations

import json
import re
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import TYPE_CHECKING, Any

from clan.machine.system import StepError, run
from clan.machine.wireguard import backend, carriers
from clan.machine.wireguard.backend import available, in_kernel
from clan.machine.wireguard.carriers import STATE
from clan.machine.wireguard.link import Link, peers_of
from clan.machine.wireguard.peers import Memory, set_peers

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["apply", "available", "in_kernel", "port_owner", "remove"]

_ROUTES = "static"
"""The protocol (rtnetlink(7)) of our routes; others on the interface are someone else's."""

_IN_USE = "Address already in use"


def apply(shape: Mapping[str, Any], *, state: Path = STATE) -> list[str]:
    """Make an interface what the description says; return what is still missing, in words.

    `shape` is a WireguardLink as JSON values. Applied again it changes what differs alone, and no
    packet to another peer is lost. An endpoint whose name has no address now is not a failure:
    the next call asks again. `state` is a folder that a boot empties. Raises StepError.
    """
    link = Link.of(shape)
    shown = backend.shown(link.name) or backend.created(link.name)
    if shown["mtu"] != link.mtu:
        run(["ip", "link", "set", link.name, "mtu", str(link.mtu)])
    # Up first: only then is the port taken, and only then does wireguard-go say that it could not.
    if "UP" not in shown["flags"]:
        _with_port(link, ["ip", "link", "set", link.name, "up"])
    dump = run(["wg", "show", link.name, "dump"]).splitlines()
    device = dump[0].split("\t")
    key = run(["wg", "pubkey"], stdin=_private_key(link)).strip()
    if device[1] != key:
        run(["wg", "set", link.name, "private-key", link.private_key])
    if link.port and int(device[2]) != link.port:
        _with_port(link, ["wg", "set", link.name, "listen-port", str(link.port)])
    _set_addresses(link, shown)
    _set_routes(link)
    missing = set_peers(link, dict(peers_of(dump[1:])), Memory(state / f"{link.name}.json"))
    with carriers.alone(link.name, state):
        carriers.steer(link, carriers.Known.read(link.name, state).dead)
    return missing


def remove(name: str, *, state: Path = STATE) -> None:
    """Take an interface away; one that is not there is gone already. Raises StepError."""
    shown = backend.shown(name)
    if shown is not None:
        backend.backend_of(shown).remove(name)
    (state / f"{name}.json").unlink(missing_ok=True)
    carriers.Known.forget(name, state)


def _private_key(link: Link) -> bytes:
    try:
        return Path(link.private_key).read_bytes()
    except OSError as fault:
        raise StepError(f"{link.private_key}: {fault.strerror}") from None


def _with_port(link: Link, words: Sequence[str]) -> None:
    """Run what takes the port, and say who has it where it is taken."""
    try:
        run(words)
    except StepError as fault:
        if _IN_USE not in str(fault):
            raise
        raise StepError(
            f"wireguard: Could not bring up interface {link.name}: {_IN_USE}: "
            f"UDP port {link.port} is taken by {port_owner(link.port)}"
        ) from None


def port_owner(port: int) -> str:
    """Name who listens on a UDP port: programs, or another WireGuard interface."""
    listed = run(["ss", "-Hulnp", f"sport = :{port}"])
    # Netid State … users:(("dnsmasq",pid=12,fd=4)); the kernel's own sockets have no users.
    found = [
        f"{name} (process {pid})" for name, pid in re.findall(r'\("([^"]+)",pid=(\d+)', listed)
    ]
    for line in run(["wg", "show", "all", "listen-port"]).splitlines():
        name, _, taken = line.partition("\t")
        if taken == str(port):
            found.append(f"the WireGuard interface {name}")
    return ", ".join(dict.fromkeys(found)) or "another service"


def _set_addresses(link: Link, shown: Mapping[str, Any]) -> None:
    """Have exactly the wanted addresses; new ones come before old ones go."""
    there = {
        str(ip_interface(f"{each['local']}/{each['prefixlen']}"))
        for each in shown["addr_info"]
        if each["scope"] == "global"
    }
    # Nobody else can have them, bound to keys as they are; and routes are said apart.
    for address in sorted(link.addresses - there):
        once = ["nodad", "noprefixroute"] if ":" in address else []
        run(["ip", "address", "add", address, "dev", link.name, *once])
    for address in sorted(there - link.addresses):
        run(["ip", "address", "delete", address, "dev", link.name])


def _set_routes(link: Link) -> None:
    """Have exactly the wanted routes, of those that are ours."""
    there: set[str] = set()
    for family in ("-4", "-6"):
        words = ["ip", "-j", family, "route", "show", "dev", link.name, "proto", _ROUTES]
        there |= {str(ip_network(each["dst"])) for each in json.loads(run(words) or "[]")}
    for route in sorted(link.routes - there):
        run(["ip", "route", "replace", route, "dev", link.name, "proto", _ROUTES])
    for route in sorted(there - link.routes):
        run(["ip", "route", "delete", route, "dev", link.name, "proto", _ROUTES])
