"""Adding and removing admins: who joins reads everything at once, who leaves could read everything.

Encrypting anew takes nothing from a person who has read, and git keeps the old ciphertext. So a
removal replaces what they could read: what can be made again is, here; machines get word of the
keys that only they can replace; and what only a person can replace is reported, and stays due.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.system.files import write_atomic
from clan.vars import folder
from clan.vars.admins import FOLDER, Admin, path_of, read_admins, write_record
from clan.vars.age import recipient
from clan.vars.folder import Meta
from clan.vars.generate import Workshop
from clan.vars.names import nearest
from clan.vars.need import mark
from clan.vars.readers import reencrypt_locked, resealed, stored
from clan.vars.rotation import HOST_KEY, IDENTITY, Rotation, leave_word, of_generator

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.vars.folder import Kept
    from clan.vars.graph import Entry, Graph
    from clan.vars.names import GeneratorId
    from clan.vars.store import Store

FOR_LIFE = "it is for life: others must admit the machine again"


@dataclass(frozen=True, slots=True, kw_only=True)
class Removal:
    """What follows from removing an admin.

    `rotated` were made anew, here and now; `machines` make their own keys anew at their next
    update. `by_hand` is what is left to a person, with the reason; it stays due until it is done.
    """

    name: str
    rotated: tuple[GeneratorId, ...]
    machines: tuple[str, ...]
    by_hand: tuple[tuple[GeneratorId, str], ...]


def add_admin(store: Store, graph: Graph, admin: Admin) -> list[GeneratorId]:
    """Record an admin and encrypt every secret to them too. Returns what was encrypted anew.

    Run again after a crash, it goes on. Raises ClanError when the name or the key is another's, or
    when this computer's admin cannot read a secret.
    """
    admin = replace(admin, key=recipient(admin.key))
    with store.locked():
        for other in read_admins(store.folder).values():
            if (other.name == admin.name) != (other.key == admin.key):
                what = "name" if other.name == admin.name else "key"
                raise ClanError(
                    f"{other.name} is an admin with the same {what}",
                    hint=f"`clan vars keys remove {other.name}` removes them first",
                )
        _write(store, admin)
        changed = reencrypt_locked(store, graph)
        store.stage([store.folder])
    return changed


def remove_admin(
    store: Store, graph: Graph, name: str, machines: Iterable[str], now: str
) -> Removal:
    """Remove an admin, and replace what they could read; `machines` are all of the clan's.

    Run again after a crash, it goes on: the record is the last to go, and until then says that
    they are leaving. Raises ClanError for who is none, is the last one, or sits at this computer.
    """
    with store.locked():
        admin = _leaving(store, name)
        _write(store, admin)  # from here on nothing is encrypted to them
        told = _machines_told(store, graph, admin, machines, now)
        workshop = Workshop(store, graph, now)
        departure = _Departure(workshop, admin)
        for id_ in [*graph.entries, *(each for each in stored(store) if each not in graph.entries)]:
            departure.rotate(id_)
        path_of(store.folder, name).unlink()
        store.stage([store.folder])
    return Removal(
        name=name,
        rotated=tuple(departure.rotated),
        machines=told,
        by_hand=tuple(departure.by_hand),
    )


def _leaving(store: Store, name: str) -> Admin:
    admins = read_admins(store.folder)
    if name not in admins:
        raise ClanError(f"there is no admin {name!r}", hint=nearest(name, admins, "admin"))
    if all(each.leaving for each in admins.values() if each.name != name):
        raise ClanError(
            f"{name} is the only admin: nobody could read the clan's secrets any more",
            hint="`clan vars keys add NAME` adds another first",
        )
    if admins[name].key in store.identity().publics:
        raise ClanError(
            f"{name} is who sits at this computer, and cannot read what replaces the old secrets",
            hint=f"another admin runs `clan vars keys remove {name}`",
        )
    return replace(admins[name], leaving=True)


def _write(store: Store, admin: Admin) -> None:
    (store.folder / FOLDER).mkdir(parents=True, exist_ok=True)
    write_atomic(path_of(store.folder, admin.name), write_record(admin), mode=0o644)


def _machines_told(
    store: Store, graph: Graph, admin: Admin, machines: Iterable[str], now: str
) -> tuple[str, ...]:
    """Leave word on each installed machine that they could log in to."""
    if not admin.logins:
        return ()
    installed = [machine for machine in machines if store.machine_identity(machine)]
    why = f"{admin.name} could log in, and is no admin any more"
    for machine in installed:
        born = [
            of_generator(entry.id.name)
            for entry in graph.of_machine(machine)
            if entry.generator.born_on_machine and not entry.generator.for_life
        ]
        due = (Rotation(what=what, why=why, since=now) for what in (IDENTITY, HOST_KEY, *born))
        leave_word(store, machine, due)
    return tuple(installed)


class _Departure:
    """What an admin could read, replaced generator by generator."""

    def __init__(self, workshop: Workshop, admin: Admin) -> None:
        self.workshop = workshop
        self.admin = admin
        self.rotated: list[GeneratorId] = []
        self.by_hand: list[tuple[GeneratorId, str]] = []

    def rotate(self, id_: GeneratorId) -> None:
        """Replace one generator's values if they could read them, or follow those that changed."""
        shop = self.workshop
        entry = shop.graph.entries.get(id_)
        kept = shop.kept.get(id_) or folder.load(shop.store.place_of(id_))
        if kept is not None and entry is not None and entry.generator.born_on_machine:
            self._leave_for_life(entry, kept)
            return
        if kept is None or kept.meta is None:
            return
        could_read = any(self.admin.key in keys for keys in kept.meta.recipients.values())
        if entry is None:
            if could_read:
                self._leave(id_, kept, "nothing declares it: `clan vars prune` removes it")
        elif could_read or self._follows(entry, kept, kept.meta):
            self._replace(entry, kept)

    def _follows(self, entry: Entry, kept: Kept, meta: Meta) -> bool:
        """Whether it was made from values that are others now, by this run or one cut short."""
        if kept.secrets or entry.generator.prompts:
            return False
        marks = {each.label: mark(self.workshop.kept[each]) for each in entry.depends}
        return any(before != marks.get(each, before) for each, before in meta.depends.items())

    def _replace(self, entry: Entry, kept: Kept) -> None:
        if entry.generator.for_life:
            self._leave(entry.id, kept, FOR_LIFE)
        elif entry.generator.prompts:
            self._leave(entry.id, kept, "only a person knows another value")
        else:
            try:
                self.workshop.run(entry, {})
            except ClanError as fault:  # the rest must not stay readable because of it
                self._leave(entry.id, kept, f"it could not be made again: {fault}")
            else:
                self.rotated.append(entry.id)

    def _leave(self, id_: GeneratorId, kept: Kept, why: str) -> None:
        """Encrypt the same values to those who stay, and keep in mind that they are due."""
        shop = self.workshop
        due = folder.with_due(kept, f"{self.admin.name}, who could read it, is no admin any more")
        after = resealed(shop.readers, shop.graph, id_, due)
        folder.save(shop.store.place_of(id_), after)
        shop.kept[id_] = after
        self.by_hand.append((id_, why))

    def _leave_for_life(self, entry: Entry, kept: Kept) -> None:
        """Leave a machine's own key that is for life: who could log in could read it there."""
        if entry.generator.for_life and self.admin.logins:
            # One that came from elsewhere has no meta; an empty serial leaves its mark as it is.
            meta = kept.meta or Meta(serial="", made=self.workshop.now)
            self._leave(entry.id, replace(kept, meta=meta), FOR_LIFE)
