"""A mesh's maps as plain values, and times in words. Pure but for the clock of `ago`."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from clan.mesh.identity import address, prefix, text
from clan.model.finding import lasting

if TYPE_CHECKING:
    from clan.mesh.chart.accept import Held


def shape(held: Held, first_root: bytes) -> dict[str, Any]:
    """Return what an admin sees of the maps that are held; `made` is in seconds of 1970."""
    view, clan = held.view, prefix(first_root)
    void = {each.hash: why for each, why in held.settled.void}
    heads = {each.hash for each in held.heads}
    admins = {admin for head in held.heads for admin in head.chain.last.admins}
    return {
        "state": view.state.value,
        "root": text(held.heads[0].chain.last.root) if held.heads else None,
        "prefix": str(clan),
        "aliases": str(view.content.aliases) if view.content.aliases else None,
        "maps": [
            {
                "epoch": each.epoch,
                "serial": each.serial,
                "hash": each.hash.hex(),
                "called": str(each),
                "signer": each.chain.name(each.signer),
                "made": each.made,
                "counts": each.hash in heads,
                "why": void.get(each.hash),
            }
            for each in held.maps
            if each.hash in heads or each.hash in void
        ],
        "admins": [{"name": each.name, "key": text(each.key)} for each in sorted(admins)],
        "removed": len(view.content.removed),
        "differences": list(view.differences),
        "machines": [
            {
                "name": each.name,
                "identity": text(each.identity),
                "address": str(address(clan, each.identity)),
                "alias": None if each.alias is None else str(each.alias),
                "tags": sorted(each.tags),
                "addresses": [{"host": known.host, "port": known.port} for known in each.addresses],
            }
            for each in view.content.machines
        ],
    }


def ago(at: float) -> str:
    """Write how long a time in seconds of 1970 is past: `3 hours ago`."""
    seconds = time.time() - at
    return f"{lasting(seconds)} ago" if seconds >= 1 else "just now"
