"""This machine's own interfaces: one for each slot, with an id, a key and a port that stay.

A slot is what can fail on its own: an uplink, a version of IP, and whether it is the LAN or the
internet behind it. Which there are follows from the uplinks; what each was given is kept, also while
its uplink is away, so that a laptop that comes home is known there by what it had. Every machine
draws its ports: two that have one port behind one router are translated differently to different
servers, and no hole can be punched for them.

Pure but for `load` and `keep`. What makes interfaces of it is the agent.
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field, replace
from ipaddress import IPv6Address
from typing import TYPE_CHECKING, Any

from clan.machine.layout import write
from clan.mesh.errors import MeshError
from clan.mesh.identity import SIZE
from clan.mesh.link import Kind, Slot

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping
    from pathlib import Path

    from clan.mesh.agent.uplinks import Attachment

MOST = 64
"""Slots that are remembered; those away for longest are forgotten."""
PORTS = range(49152, 65536)
"""The dynamic ports (RFC 6335, section 6)."""
NAMES = "clan-"
"""How the names of the mesh's interfaces begin; the slot's number follows."""
VERSIONS = (4, 6)


@dataclass(frozen=True, slots=True, kw_only=True)
class Own:
    """A slot of this machine with what it was given.

    `number`, from 1, is its mark's and its interface's; `seen` counts up with each change of the
    uplinks and says which were there last.
    """

    id: str
    slot: Slot
    number: int
    port: int
    private: bytes = field(repr=False)
    seen: int

    @property
    def interface(self) -> str:
        """The interface's name."""
        return f"{NAMES}{self.number}"


@dataclass(frozen=True, slots=True)
class Fresh:
    """Random values for one new slot: an id, a private key, and where to begin to look for a port."""

    id: str
    private: bytes
    port: int


def wanted(attachments: Iterable[Attachment]) -> list[Slot]:
    """Return the slots that the uplinks give, those of one uplink together.

    The LAN is IPv6's where the uplink has a link-local address, which no router has to hand out.
    The internet is behind a default route, for an address that is good beyond the link.
    """
    found = []
    for each in attachments:
        if not each.works:
            continue
        usable = {
            version: [a for a in each.addresses if a.version == version] for version in VERSIONS
        }
        if usable[6] or usable[4]:
            link_local = any(address.ip.is_link_local for address in usable[6])
            lan = 6 if link_local or not usable[4] else 4
            found.append(Slot(uplink=each.name, family=lan, kind=Kind.LAN))
        for version in VERSIONS:
            leads = any(route.to.version == version for route in each.defaults)
            if leads and any(not a.ip.is_link_local for a in usable[version]):
                found.append(Slot(uplink=each.name, family=version, kind=Kind.INTERNET))
    return found


def settle(
    known: Iterable[Own], slots: Iterable[Slot], fresh: Iterable[Fresh], taken: Collection[int] = ()
) -> tuple[Own, ...]:
    """Return all that is remembered, with each of `slots` in it, seen last.

    `fresh` is drawn from, one for each new slot; `taken` are ports that others have. Raises
    StopIteration when `fresh` is too short.
    """
    kept = {own.slot: own for own in known}
    now = max((own.seen for own in kept.values()), default=0) + 1
    drawn = iter(fresh)
    for slot in slots:
        if slot in kept:
            kept[slot] = replace(kept[slot], seen=now)
            continue
        value = next(drawn)
        used = {own.number for own in kept.values()}
        if len(kept) >= MOST:
            del kept[min(kept.values(), key=lambda own: own.seen).slot]
        kept[slot] = Own(
            id=value.id,
            slot=slot,
            number=next(number for number in range(1, MOST + 2) if number not in used),
            port=_free(value.port, {*taken, *(own.port for own in kept.values())}),
            private=value.private,
            seen=now,
        )
    same = all(kept[own.slot].seen == now or own.seen < now - 1 for own in known)
    return tuple(kept.values()) if not same else tuple(kept.values())


def _free(port: int, taken: Collection[int]) -> int:
    begin = PORTS.index(port) if port in PORTS else port % len(PORTS)
    return next(
        PORTS[(begin + step) % len(PORTS)]
        for step in range(len(PORTS))
        if PORTS[(begin + step) % len(PORTS)] not in taken
    )
