"""Who can read which secret, and encrypting again when that changes.

A secret is read by all admins and by the machines that use it, once they have an identity. Whom it
is encrypted to is recorded in meta.json, for age does not tell.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.vars import folder
from clan.vars.admins import read_admins
from clan.vars.age import decrypt, encrypt, recipient
from clan.vars.names import GeneratorId, is_plain, var_id
from clan.vars.store import MACHINE_IDENTITY, PER_MACHINE, SHARED

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.model.generator import VarFile
    from clan.vars.folder import Kept
    from clan.vars.graph import Entry, Graph
    from clan.vars.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Readers:
    """The admins' recipients, as they are now; the machines' are looked up in the store."""

    store: Store
    admins: tuple[str, ...]

    @classmethod
    def of(cls, store: Store) -> Readers:
        """Read the admins, without those who are leaving."""
        admins = read_admins(store.folder).values()
        return cls(store=store, admins=tuple(each.key for each in admins if not each.leaving))

    def of_file(self, entry: Entry | None, file: VarFile | None) -> tuple[str, ...]:
        """Return whom a secret is to be encrypted to: what nothing declares, to the admins alone.

        Raises ClanError when there are no admins: nobody could ever read it again.
        """
        if not self.admins:
            raise ClanError(
                "there is no admin yet, so there is nobody to encrypt secrets to",
                hint="`clan vars keys generate` makes your key and you the first admin",
            )
        machines = entry.readers(file) if entry is not None and file is not None else ()
        identities = (self.store.machine_identity(machine) for machine in machines)
        return tuple(sorted({*self.admins, *(each for each in identities if each)}))


def stored(store: Store) -> Iterator[GeneratorId]:
    """Yield every generator of which something is kept, machines first, in order of name."""
    for machine in _folders(os.path.join(store.folder, PER_MACHINE)):  # noqa: PTH118 (many)
        yield from (
            GeneratorId(machine=machine, name=name)
            for name in _folders(os.path.join(store.folder, PER_MACHINE, machine))  # noqa: PTH118
        )
    for name in _folders(os.path.join(store.folder, SHARED)):  # noqa: PTH118
        yield GeneratorId(machine=None, name=name)


def _folders(path: str) -> list[str]:
    """List the folders in a folder; one that a crash left under its old name counts as itself."""
    try:
        names = [entry.name for entry in os.scandir(path) if entry.is_dir()]
    except FileNotFoundError:
        return []
    aside = {name[1:-4] for name in names if name.startswith(".") and name.endswith(".old")}
    return sorted(name for name in {*names, *aside} if is_plain(name))


def reencrypt(store: Store, graph: Graph, machine: str | None = None) -> list[GeneratorId]:
    """Encrypt every secret anew whose readers have changed; `machine` limits it to what one uses.

    Returns what was changed.
    Raises ClanError when this admin cannot read one of them; those before it are done then.
    """
    with store.locked():
        changed = reencrypt_locked(store, graph, machine)
        store.stage([store.folder])
    return changed


def admit(store: Store, graph: Graph, machine: str, key: str) -> list[GeneratorId]:
    """Keep a machine's identity, `age1…`, and have it read its secrets from now on.

    Returns what was encrypted anew. Raises ClanError for what is no key: a machine said it.
    """
    store.write(machine, *MACHINE_IDENTITY, recipient(key))
    return reencrypt(store, graph, machine)


def reencrypt_locked(store: Store, graph: Graph, machine: str | None = None) -> list[GeneratorId]:
    """Do what `reencrypt` does; the caller holds the lock, and stages."""
    readers = Readers.of(store)
    concerned: Iterator[GeneratorId] = stored(store)
    if machine is not None:
        concerned = (entry.id for entry in graph.of_machine(machine))
    return [id_ for id_ in concerned if _reencrypt_one(readers, graph, id_)]


def _reencrypt_one(readers: Readers, graph: Graph, id_: GeneratorId) -> bool:
    place = readers.store.place_of(id_)
    kept = folder.load(place)
    if kept is None:
        return False
    after = resealed(readers, graph, id_, kept)
    if after == kept:
        return False
    folder.save(place, after)
    return True


def resealed(readers: Readers, graph: Graph, id_: GeneratorId, kept: Kept) -> Kept:
    """Return the same values, encrypted to whom they should be; as it is where that is so."""
    meta = kept.meta
    if meta is None:
        return kept
    entry, store = graph.entries.get(id_), readers.store
    files = {} if entry is None else entry.readable()
    recipients = dict(meta.recipients)
    secrets, answers = dict(kept.secrets), dict(kept.answers)
    for name, sealed in kept.secrets.items():
        wanted = readers.of_file(entry, files.get(name))
        if meta.recipients.get(name) != wanted:
            recipients[name] = wanted
            secrets[name] = encrypt(_opened(store, id_, name, sealed), wanted)
    for name, sealed in kept.answers.items():
        wanted = readers.of_file(None, None)
        if meta.recipients.get(answer_key(name)) != wanted:
            recipients[answer_key(name)] = wanted
            answers[name] = encrypt(_opened(store, id_, name, sealed), wanted)
    return replace(
        kept, meta=replace(meta, recipients=recipients), secrets=secrets, answers=answers
    )


def answer_key(prompt: str) -> str:
    """Return the name by which the recipients of a prompt's answer are recorded."""
    return f"{prompt}/{folder.ANSWER}"


def _opened(store: Store, id_: GeneratorId, name: str, sealed: bytes) -> bytes:
    try:
        return decrypt(sealed, store.identity())
    except ClanError as fault:
        raise ClanError(fault.message, where=var_id(id_.var(name)), hint=fault.hint) from None
