"""Values that machines are reached by, kept beside those that replaced them.

A machine hears of a new onion name, or of a new key that opens its service, by an update; and that
update may have no way but the old one. So the old values are kept as `former.FILE`, and both count
until each machine was updated and then reached without the old ones. Whether it was is not decided
here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.model.generator import FORMER, former, is_former
from clan.vars import folder

if TYPE_CHECKING:
    from collections.abc import Mapping

    from clan.vars.folder import Kept
    from clan.vars.graph import Entry, Graph
    from clan.vars.names import GeneratorId
    from clan.vars.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlap:
    """Values with the serial `serial` that count beside what they replaced, for `machines`."""

    serial: str
    machines: tuple[str, ...]


def beside(store: Store, entry: Entry, before: Kept | None, after: Kept) -> Kept:
    """Return new values with those that they replace beside them, as these are encrypted.

    Replaced again, it is the oldest that goes on: that one every machine knows. Where no machine
    is installed yet, nothing does.
    """
    machines = [each for each in entry.overlaps if store.machine_identity(each)]
    if before is None or before.meta is None or after.meta is None or not machines:
        return after
    files, secrets = dict(after.files), dict(after.secrets)
    recipients = dict(after.meta.recipients)
    overlapped = FORMER in before.files
    for file in entry.kept():
        old = former(file.name)
        found = old if overlapped else file.name
        if found in before.files:
            files[old] = before.files[found]
        if found in before.secrets:
            secrets[old] = before.secrets[found]
            recipients[old] = before.meta.recipients.get(found, ())
    files[FORMER] = "".join(f"{machine}\n" for machine in machines).encode()
    meta = replace(after.meta, recipients=recipients)
    return replace(after, meta=meta, files=files, secrets=secrets)


def waiting(store: Store, graph: Graph) -> dict[GeneratorId, Overlap]:
    """Return the values that count beside what they replaced, and for which machines."""
    found = {}
    for id_, entry in graph.entries.items():
        if not entry.overlaps:
            continue
        kept = folder.load(store.place_of(id_))
        overlap = None if kept is None else _overlap(entry, kept)
        if overlap is not None:
            found[id_] = overlap
    return found


def moved(
    store: Store, graph: Graph, machine: str, begun: Mapping[GeneratorId, Overlap]
) -> list[GeneratorId]:
    """Note that a machine has what `begun` says, and was reached without what that replaced.

    Returns whose replaced values are gone with that, as it was the last machine. What was replaced
    again since `begun` stays: the machine has not heard of that.
    """
    gone = []
    with store.locked():
        for id_, then in begun.items():
            kept = folder.load(store.place_of(id_))
            overlap = None if kept is None else _overlap(graph.entries[id_], kept)
            if kept is None or overlap is None or overlap.serial != then.serial:
                continue
            left = [each for each in overlap.machines if each != machine]
            if left and len(left) == len(overlap.machines):
                continue
            folder.save(store.place_of(id_), _left_to(kept, left))
            gone += [] if left else [id_]
        store.stage([store.folder])
    return gone


def _overlap(entry: Entry, kept: Kept) -> Overlap | None:
    if kept.meta is None or FORMER not in kept.files:
        return None
    listed = kept.files[FORMER].decode("utf-8", "replace").split()
    machines = tuple(each for each in listed if each in entry.overlaps)
    return Overlap(serial=kept.meta.serial, machines=machines)


def _left_to(kept: Kept, machines: list[str]) -> Kept:
    if machines:
        text = "".join(f"{machine}\n" for machine in machines)
        return replace(kept, files={**kept.files, FORMER: text.encode()})
    meta = kept.meta
    if meta is not None:
        recipients = {key: v for key, v in meta.recipients.items() if not is_former(key)}
        meta = replace(meta, recipients=recipients)
    return replace(
        kept,
        meta=meta,
        files={name: data for name, data in kept.files.items() if not is_former(name)},
        secrets={name: data for name, data in kept.secrets.items() if not is_former(name)},
    )
