"""All generators that a clan declares, what each depends on, and in which order they are made.

It owns the rules that no single module can see, each a fault: a generator declared twice, a
dependency that nobody declares, a cycle, names that cannot be folders. Pure; nothing is read.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, Any

from clan.errors import Fault, InventoryError, did_you_mean
from clan.model.boundary import guarded
from clan.model.generator import Needed, former, is_former
from clan.vars.folder import META
from clan.vars.names import SHARED, GeneratorId, is_plain

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

    from clan.model.clan import Clan, Instance
    from clan.model.exports import Var
    from clan.model.generator import Generator, VarFile
    from clan.model.inventory import KeyPath

IDENTITY = "identity"
"""The generator's place where a machine's age recipient is kept; no module may declare it."""
DUE_FILE = "due.json"
_TAKEN = {IDENTITY, META, DUE_FILE}


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """A generator as it was declared: by which instance, what for, and a hash of its inputs."""

    id: GeneratorId
    generator: Generator
    instance: Instance
    users: tuple[str, ...]
    inputs: str
    depends: tuple[GeneratorId, ...] = ()

    def readers(self, file: VarFile) -> tuple[str, ...]:
        """Return the machines that a secret file is encrypted to."""
        return () if file.needed is Needed.NEVER else self.users

    def readable(self) -> dict[str, VarFile]:
        """Return by name the files that it makes, and those that they replaced."""
        files = {file.name: file for file in self.generator.files}
        old = {former(name): file for name, file in files.items()} if self.overlaps else {}
        return files | old

    @property
    def overlaps(self) -> tuple[str, ...]:
        """The machines that are reached by its values."""
        return self.generator.overlaps

    def kept(self) -> tuple[VarFile, ...]:
        """Return the files that lie in the clan: all but what never leaves the machine."""
        born = self.generator.born_on_machine
        return tuple(file for file in self.generator.files if not (born and file.secret))


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """Generators by id; what a generator depends on comes before it."""

    entries: Mapping[GeneratorId, Entry]

    def vars(self) -> dict[Var, VarFile]:
        """Return every declared file by its var, those that stay on machines among them."""
        return {
            id_.var(file.name): file
            for id_, entry in self.entries.items()
            for file in entry.generator.files
        }

    def of_machine(self, machine: str) -> Iterator[Entry]:
        """Yield what a machine uses: its own generators, and shared ones."""
        return (entry for entry in self.entries.values() if machine in entry.users)


class _Faults:
    """Faults as they are found, each once."""

    def __init__(self) -> None:
        self.faults: dict[tuple[KeyPath, str], Fault] = {}

    def add(self, key: KeyPath, message: str, hint: str | None = None) -> None:
        """Note a fault at a key."""
        self.faults.setdefault((key, message), Fault(message=message, key=key, hint=hint))


def graph(clan: Clan) -> Graph:
    """Ask every instance for its generators. An InventoryError has all faults of all of them."""
    faults = _Faults()
    entries: dict[GeneratorId, Entry] = {}
    for instance in clan.instances.values():
        declared: list[Generator] = []
        with guarded(f"{instance.code}: generators()", instance.key, faults):
            declared = list(instance.module.generators(instance, clan))
        for generator in declared:
            _add(entries, generator, instance, clan, faults)
    if entries and SHARED in clan.machines:
        message = f"machine {SHARED!r} has the name of what the clan shares: rename it"
        faults.add(("machines", SHARED), message)
    linked = {id_: _link(entry, entries, faults) for id_, entry in entries.items()}
    ordered = _ordered(linked, faults)
    if faults.faults:
        raise InventoryError(tuple(faults.faults.values()))
    return Graph(entries={id_: linked[id_] for id_ in ordered})


def _add(
    entries: dict[GeneratorId, Entry],
    generator: Generator,
    instance: Instance,
    clan: Clan,
    faults: _Faults,
) -> None:
    id_ = GeneratorId(machine=generator.machine, name=generator.name)
    for message in _wrong(generator, clan):
        faults.add(instance.key, f"{instance.code}: generator {str(id_)!r} {message}")
    hashed = _inputs_hash(generator.inputs)
    if hashed is None:
        faults.add(instance.key, f"{instance.code}: inputs of {str(id_)!r} are no JSON values")
        return
    entry = Entry(
        id=id_,
        generator=generator,
        instance=instance,
        users=_users(generator, instance),
        inputs=hashed,
    )
    other = entries.setdefault(id_, entry)
    if other is entry:
        return
    if id_.machine is None and replace(other.generator, users=generator.users) == generator:
        # The same thing, declared by every instance that uses it: that is what sharing is for.
        users = dict.fromkeys((*other.users, *entry.users))
        entries[id_] = replace(other, users=tuple(users))
        return
    faults.add(
        instance.key,
        f"generator {str(id_)!r} is declared twice, by {other.instance.name!r} and "
        f"{instance.name!r}",
        "a generator of an instance has the instance's name in its own",
    )


def _users(generator: Generator, instance: Instance) -> tuple[str, ...]:
    if generator.machine is not None:
        return (generator.machine,)
    if generator.users is not None:
        return generator.users
    return tuple(dict.fromkeys(name for role in instance.members.values() for name in role))


def _wrong(generator: Generator, clan: Clan) -> Iterator[str]:
    if not is_plain(generator.name) or generator.name in _TAKEN:
        yield "has a name that cannot be a folder's"
    yield from _wrong_names("file", [file.name for file in generator.files])
    yield from _wrong_names("prompt", [prompt.name for prompt in generator.prompts])
    if not generator.files:
        yield "makes no files"
    machines = [generator.machine] if generator.machine is not None else generator.users or ()
    for machine in machines:
        if machine not in clan.machines:
            yield f"is for machine {machine!r}, which the clan has not"
    if generator.born_on_machine:
        if generator.machine is None:
            yield "is born on a machine, so the clan cannot share it"
        if all(file.secret for file in generator.files):
            yield "is born on a machine and hands out no public file"


def _wrong_names(what: str, names: list[str]) -> Iterator[str]:
    for name in dict.fromkeys(names):
        if is_former(name):
            yield f"has a {what} {name!r}, as what is replaced is called"
        elif not is_plain(name) or name == META:
            yield f"has a {what} {name!r}: 1 to 100 letters, digits, '-', '_' and '.'"
        if names.count(name) > 1:
            yield f"has two {what}s {name!r}"


def _inputs_hash(inputs: Mapping[str, Any]) -> str | None:
    try:
        text = json.dumps(inputs, sort_keys=True, default=_as_dict, allow_nan=False)
    except (TypeError, ValueError, RecursionError):
        return None
    return hashlib.sha256(text.encode()).hexdigest()


def _as_dict(value: object) -> dict[str, Any]:
    if isinstance(value, Mapping):  # a read-only view of one
        return dict(value)
    raise TypeError(type(value).__name__)


def _link(entry: Entry, entries: Mapping[GeneratorId, Entry], faults: _Faults) -> Entry:
    depends = []
    for name in entry.generator.depends:
        own = GeneratorId(machine=entry.id.machine, name=name)
        shared = GeneratorId(machine=None, name=name)
        found = own if own in entries else shared if shared in entries else None
        if found is None:
            near = did_you_mean(name, _offered(entry, entries))
            message = f"generator {str(entry.id)!r} depends on {name!r}, which nothing declares"
            faults.add(entry.instance.key, f"{entry.instance.code}: {message}", near)
        else:
            depends.append(found)
    return replace(entry, depends=tuple(dict.fromkeys(depends)))


def _offered(entry: Entry, entries: Collection[GeneratorId]) -> set[str]:
    return {each.name for each in entries if each.machine in {None, entry.id.machine}}


def _ordered(entries: Mapping[GeneratorId, Entry], faults: _Faults) -> list[GeneratorId]:
    sorter = TopologicalSorter({id_: entry.depends for id_, entry in entries.items()})
    try:
        return list(sorter.static_order())
    except CycleError as cycle:
        circle: list[GeneratorId] = cycle.args[1]
        entry = entries[circle[0]]
        # graphlib lists each as needed by the next.
        path = " needs ".join(str(each) for each in reversed(circle))
        faults.add(entry.instance.key, f"generators go round in a circle: {path}")
        return []
