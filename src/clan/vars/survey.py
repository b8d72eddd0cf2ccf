"""Looking at what is kept: each var's state, what is wrong with it, and what nothing declares."""

from __future__ import annotations

import enum
import shutil
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.model.generator import FORMER
from clan.vars import folder
from clan.vars.admins import read_admins
from clan.vars.age import decrypt
from clan.vars.folder import Kept
from clan.vars.former import waiting
from clan.vars.generate import kept_of
from clan.vars.names import GeneratorId, is_plain, var_id
from clan.vars.need import Action, steps
from clan.vars.readers import Readers, answer_key, stored
from clan.vars.rotation import outstanding
from clan.vars.store import HOST_KEY, MACHINE_IDENTITY, PER_MACHINE, SHARED

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping
    from pathlib import Path

    from clan.model.exports import Var
    from clan.vars.age import Identity
    from clan.vars.graph import Entry, Graph
    from clan.vars.store import Store

_BUILT_IN = {HOST_KEY[0], MACHINE_IDENTITY[0]}
"""Generators' places that clan itself fills; nothing declares them."""


_GENERATOR_DEPTH = 2


class State(enum.StrEnum):
    """How a var is."""

    PRESENT = "present"
    MISSING = "missing"
    DUE = "due"
    ON_MACHINE = "on its machine"


@dataclass(frozen=True, slots=True, kw_only=True)
class VarState:
    """A declared var, or one that clan keeps itself."""

    var: Var
    secret: bool
    state: State
    why: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something about the vars: `wrong` is what keeps the clan from working or being safe."""

    id: str
    message: str
    wrong: bool


def states(store: Store, graph: Graph, machines: Collection[str]) -> list[VarState]:
    """Return the state of every var, in the order of ids."""
    kept = kept_of(store, graph)
    due = {step.entry.id: step for step in steps(graph, kept)}
    found = []
    for id_, entry in graph.entries.items():
        there = kept[id_]
        step = due.get(id_)
        for file in entry.generator.files:
            state, why = State.PRESENT, ""
            if entry.generator.born_on_machine and file.secret:
                state = State.ON_MACHINE
            elif there is None or file.name not in {**there.files, **there.secrets}:
                state = State.MISSING
            elif step is not None:
                state, why = State.DUE, step.why
            found.append(VarState(var=id_.var(file.name), secret=file.secret, state=state, why=why))
    declared = {each.var for each in found}
    for machine in machines:
        for name, file_name in (HOST_KEY, MACHINE_IDENTITY):
            var = GeneratorId(machine=machine, name=name).var(file_name)
            if var not in declared and store.public(var) is not None:
                found.append(VarState(var=var, secret=False, state=State.PRESENT))
    return sorted(found, key=lambda each: var_id(each.var))


def check(store: Store, graph: Graph, machines: Collection[str]) -> list[Finding]:
    """Return everything that is to be said of the vars. What this admin can read is decrypted."""
    kept = kept_of(store, graph)
    try:
        identity: Identity | None = store.identity()
    except ClanError:
        identity = None
    found = [*_admins(store)]
    for step in steps(graph, kept):
        wrong = step.action is Action.MAKE
        found.append(Finding(id=str(step.entry.id), message=step.why, wrong=wrong))
    for id_, overlap in waiting(store, graph).items():
        late = ", ".join(overlap.machines) or "any machine"
        message = f"what it replaced is used too, until an update reached {late} without"
        found.append(Finding(id=str(id_), message=message, wrong=False))
    readers = Readers.of(store)
    for id_, entry in graph.entries.items():
        there = kept[id_]
        if there is not None:
            found += _secrets(readers, entry, there, identity)
    for machine in machines:
        found += [
            Finding(id=machine, message=f"{each.called} is due: {each.why}", wrong=False)
            for each in outstanding(store, machine, graph)
        ]
    for path in leftovers(store, graph, machines):
        name = str(path.relative_to(store.folder))
        message = "nothing declares it: `clan vars prune` removes it"
        found.append(Finding(id=name, message=message, wrong=False))
    return found


def _admins(store: Store) -> Iterator[Finding]:
    admins = read_admins(store.folder).values()
    for admin in admins:
        if admin.leaving:
            message = f"the removal was cut short: run `clan vars keys remove {admin.name}` again"
            yield Finding(id=admin.name, message=message, wrong=True)
    if len(admins) == 1:
        (only,) = admins
        yield Finding(id=only.name, message=SINGLE_ADMIN, wrong=False)


SINGLE_ADMIN = (
    "the only admin: if this key is lost, so are all secrets; "
    "`clan vars keys recovery` prints a second one to keep on paper"
)


def _secrets(
    readers: Readers, entry: Entry, kept: Kept, identity: Identity | None
) -> Iterator[Finding]:
    files = entry.readable()
    for name, sealed in kept.secrets.items():
        id_ = var_id(entry.id.var(name))
        if kept.meta is None:
            yield Finding(id=id_, message="there is no meta.json beside it", wrong=True)
            continue
        if kept.meta.recipients.get(name) != readers.of_file(entry, files.get(name)):
            message = "is not encrypted to those who should read it: run `clan vars generate`"
            yield Finding(id=id_, message=message, wrong=True)
        if identity is None or not set(identity.publics) & set(kept.meta.recipients.get(name, ())):
            continue
        try:
            decrypt(sealed, identity)
        except ClanError as fault:
            yield Finding(id=id_, message=f"cannot be read: {fault.message}", wrong=True)


def leftovers(store: Store, graph: Graph, machines: Collection[str]) -> list[Path]:
    """Return what nothing declares: folders of machines, generators and files, and old drafts."""
    found = []
    gone = set()
    for id_ in stored(store):
        if id_.machine is not None and id_.machine not in machines and id_.machine not in gone:
            gone.add(id_.machine)
            found.append(store.folder / PER_MACHINE / id_.machine)
    for id_ in stored(store):
        place = store.place_of(id_)
        if id_.machine in gone or id_.name in _BUILT_IN:
            continue
        entry = graph.entries.get(id_)
        if entry is None:
            found.append(place)
        else:
            known = {file.name for file in entry.kept()}
            known |= {FORMER, *entry.readable()} if entry.overlaps else set()
            known |= {prompt.name for prompt in entry.generator.prompts}
            found += [path for path in sorted(place.glob("*/")) if path.name not in known]
    for above in (store.folder / SHARED, *(store.folder / PER_MACHINE / m for m in machines)):
        found += [path for path in above.glob(".*") if path.suffix in {".new", ".old"}]
    return sorted(found)


def prune(store: Store, graph: Graph, machines: Collection[str]) -> list[Path]:
    """Remove what nothing declares. Returns what is gone."""
    with store.locked():
        for id_ in stored(store):
            folder.recover(store.place_of(id_))
        found = leftovers(store, graph, machines)
        for path in found:
            parts = path.relative_to(store.folder).parts
            depth = len(parts) - (parts[0] == PER_MACHINE)  # of a generator 2, of a file 3
            if depth < _GENERATOR_DEPTH or not is_plain(path.name):
                shutil.rmtree(path)
            elif depth == _GENERATOR_DEPTH:
                folder.remove(path)
            else:
                _forget(path.parent, path.name)
        store.stage([store.folder])
    return found


def _forget(place: Path, name: str) -> None:
    """Remove one file of a generator that has others."""
    kept = folder.load(place)
    if kept is None:
        return
    meta = kept.meta
    if meta is not None:
        keys = {name, answer_key(name)}
        recipients = {key: value for key, value in meta.recipients.items() if key not in keys}
        meta = replace(meta, recipients=recipients)
    after = Kept(
        meta=meta,
        files=_without(kept.files, name),
        secrets=_without(kept.secrets, name),
        answers=_without(kept.answers, name),
    )
    folder.save(place, after)


def _without(files: Mapping[str, bytes], name: str) -> dict[str, bytes]:
    return {key: data for key, data in files.items() if key != name}
