"""The far ends of an interface: who they are, and where they are found now."""

from __future__ import annotations

import json
import socket
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.machine.system import run

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from clan.machine.wireguard.link import Link, Peer, Seen

_FRESH = 180.0
"""Seconds after a handshake during which a tunnel works: REJECT_AFTER_TIME of the WireGuard paper,
section 6.1."""

_TRIED = 20.0
"""Seconds that an endpoint has to answer before its name's next address is taken: four attempts at
a handshake (REKEY_TIMEOUT is 5 s)."""

_AT_ONCE = 100
"""Peers that one call of `wg` sets: the kernel limits how long a command line may be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tried:
    """The endpoint that a far end was last given: as written, and when (seconds since boot)."""

    endpoint: str
    at: float


class Memory:
    """Which endpoint each far end was last given, in a file that a boot forgets."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.tried: dict[str, Tried] = {}
        try:
            shape = json.loads(path.read_bytes())
        except (FileNotFoundError, ValueError):
            return
        self.tried = {key: Tried(endpoint=each[0], at=each[1]) for key, each in shape.items()}

    def keep(self, tried: Mapping[str, Tried]) -> None:
        """Replace what is known."""
        if tried == self.tried:
            return
        self.path.parent.mkdir(parents=True, exist_ok=True)
        draft = self.path.with_suffix(".new")
        draft.write_text(json.dumps({key: [each.endpoint, each.at] for key, each in tried.items()}))
        draft.replace(self.path)


def set_peers(link: Link, there: Mapping[str, Seen], memory: Memory) -> list[str]:
    """Have exactly the wanted peers, touching only those that differ; return what is missing.

    Which addresses are whose is not said here but by `carriers.steer`.
    """
    now, since_boot = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
    asked = {
        key: peer.endpoint
        for key, peer in link.peers.items()
        if peer.endpoint
        and wants_endpoint(peer.endpoint, there.get(key), memory.tried.get(key), now)
    }
    found = resolved(set(asked.values()))
    changes = [["peer", key, "remove"] for key in there if key not in link.peers]
    tried = {key: each for key, each in memory.tried.items() if key in link.peers}
    missing = []
    for key, peer in link.peers.items():
        seen = there.get(key)
        words = _differences(peer, seen)
        if key in asked:
            endpoint = asked[key]
            addresses = found[endpoint]
            if isinstance(addresses, str):
                missing.append(f"{peer.name}: {endpoint}: {addresses}")
                addresses = []
            chosen = next_endpoint(addresses, endpoint, seen, tried.get(key), since_boot)
            if chosen is not None:
                words += ["endpoint", chosen]
                tried[key] = Tried(endpoint=endpoint, at=since_boot)
        if words or seen is None:
            changes.append(["peer", key, *words])
    set_all(link.name, changes)
    memory.keep(tried)
    return missing


def set_all(interface: str, changes: Sequence[Sequence[str]]) -> None:
    """Run `wg set` with what each of some peers is to be told. Raises StepError."""
    for start in range(0, len(changes), _AT_ONCE):
        part = changes[start : start + _AT_ONCE]
        run(["wg", "set", interface, *(word for change in part for word in change)])


def _differences(peer: Peer, seen: Seen | None) -> list[str]:
    """Return what `wg set` needs to be told of a peer besides its endpoint."""
    if (0 if seen is None else seen.keepalive) != peer.keepalive:
        return ["persistent-keepalive", str(peer.keepalive)]
    return []


def wants_endpoint(endpoint: str, seen: Seen | None, tried: Tried | None, now: float) -> bool:
    """Whether to look up where a far end is: not while it answers, and is meant to be there.

    Asking then would move a tunnel that works, to an address that may be the older one.
    """
    # A handshake in the future is from before the clock was set back: it says nothing.
    answers = seen is not None and 0 <= now - seen.handshake < _FRESH
    return not answers or tried is None or tried.endpoint != endpoint


def next_endpoint(
    addresses: Sequence[str], endpoint: str, seen: Seen | None, tried: Tried | None, at: float
) -> str | None:
    """Choose the endpoint to set out of a name's addresses; None leaves what is set.

    A far end that was silent long enough at one gets the next: a name may have an IPv6 address
    that this machine has no way to. `at` is now, in seconds since boot, as in `tried`.
    """
    if not addresses:
        return None
    if seen is None or seen.endpoint not in addresses:
        return addresses[0]
    if tried is None or tried.endpoint != endpoint:
        return seen.endpoint  # set anew to be noted: it is what was meant
    if len(addresses) == 1 or at - tried.at < _TRIED:
        return None
    return addresses[(addresses.index(seen.endpoint) + 1) % len(addresses)]


def resolved(endpoints: set[str]) -> dict[str, list[str] | str]:
    """Look endpoints up at once: to addresses as `wg` writes them, or to why there are none."""
    if not endpoints:
        return {}
    # Here, not above: it takes a tenth of this program's start, and most calls look nothing up.
    from concurrent.futures import ThreadPoolExecutor

    ordered = sorted(endpoints)
    with ThreadPoolExecutor(max_workers=16) as pool:
        return dict(zip(ordered, pool.map(_addresses, ordered), strict=True))


def _addresses(endpoint: str) -> list[str] | str:
    host, _, port = endpoint.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except OSError as fault:
        return str(fault.strerror)
    return list(
        dict.fromkeys(
            f"[{address[0]}]:{port}" if family == socket.AF_INET6 else f"{address[0]}:{port}"
            for family, _, _, _, address in found
        )
    )
