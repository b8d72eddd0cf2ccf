"""What a new generation changes on a machine, from the two manifests: for people and as JSON."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PARTS: dict[str, str | None] = {
    "packages": None,
    "static": "name",
    "files": "path",
    "units": "name",
    "users": "name",
    "links": "name",
    "keys": "generator",
    "identity": None,
    "host_key": None,
    "hosts": None,
    "known_hosts": None,
    "authorized_keys": None,
    "sysctl": "key",
    "checks": "name",
    "nftables": None,
}
"""Part of a manifest -> what its entries are known by; None where the entry is all there is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One difference: `sign` is `+`, `-` or `~` (changed)."""

    part: str
    sign: str
    what: str


def changes(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Change]:
    """List what differs between two manifests; `before` is {} for a machine that has nothing."""
    found = []
    for part, key in PARTS.items():
        old, new = _entries(before, part, key), _entries(after, part, key)
        for name in dict.fromkeys([*old, *new]):
            if name not in new:
                found.append(Change(part=part, sign="-", what=name))
            elif name not in old:
                found.append(Change(part=part, sign="+", what=name))
            elif old[name] != new[name]:
                found.append(Change(part=part, sign="~", what=name))
    return found


def differ_in_keys_only(before: Mapping[str, Any], after: Mapping[str, Any]) -> bool:
    """Whether two manifests differ, and in nothing but public keys of other machines."""
    differ = {change.part for change in changes(before, after)}
    return (
        bool(differ)
        and differ <= {"links", "known_hosts"}
        and _without_keys(before) == _without_keys(after)
    )


def _without_keys(manifest: Mapping[str, Any]) -> tuple[list[Any], set[tuple[str, ...]]]:
    links = [
        {**link, "peers": [{**peer, "public_key": None} for peer in link["peers"]]}
        for link in manifest.get("links", ())
    ]
    return links, {tuple(host["names"]) for host in manifest.get("known_hosts", ())}


def _entries(manifest: Mapping[str, Any], part: str, key: str | None) -> dict[str, str]:
    listed = manifest.get(part) or []
    if isinstance(listed, str):
        listed = [line.strip() for line in listed.splitlines() if line.strip()]
    return {
        str(entry[key]) if key else _written(entry): json.dumps(entry, sort_keys=True)
        for entry in listed
    }


def _written(entry: Any) -> str:
    """Write an entry that is all there is, as it will stand on the machine."""
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict):
        return f"{','.join(entry['names'])} {entry['key']}"
    address, names = entry
    return f"{address} {' '.join(names)}"
