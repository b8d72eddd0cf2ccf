"""What is to be made, and why: from what is declared, what is kept, and what was asked for. Pure.

A value that is missing is made. A generator whose declared `version` or inputs changed, or one that
it depends on, is made again if it keeps no secret; one that does is left whole and reported as due,
until it is asked for. The code of a generator is never looked at: an upgrade of clan must not
rotate a fleet's keys.
"""

from __future__ import annotations

import enum
import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from clan.model.generator import Elsewhere, is_former

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    from clan.vars.folder import Kept, Meta
    from clan.vars.graph import Entry, Graph
    from clan.vars.names import GeneratorId


class Action(enum.StrEnum):
    """What is done about a generator."""

    MAKE = "make"
    """Run it here."""
    ASK = "ask"
    """Have the machine make the key, or hand out the public half of the one it has."""
    DUE = "due"
    """Leave it as it is, and say that it should be replaced."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One generator to do something about, and the reason in words."""

    entry: Entry
    action: Action
    why: str
    replace: bool = False
    """Values that are there will be others afterwards."""
    asked: bool = False
    """It was asked for, and does not only follow another."""

    @property
    def follows(self) -> bool:
        """Whether values that are there are made again because of others, unasked."""
        return self.replace and not self.asked


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was asked for: `machines` and `services` (names of generators) narrow it, None is all.

    `regenerate` replaces what these select, whatever is there; with `machines` just their own, for
    others use a shared value too. `only` narrows it to these ids. `due` are replaced besides.
    """

    machines: frozenset[str] | None = None
    services: frozenset[str] | None = None
    regenerate: bool = False
    only: frozenset[GeneratorId] | None = None
    due: frozenset[GeneratorId] = frozenset()

    def selects(self, entry: Entry) -> bool:
        """Whether a generator was asked for."""
        return (
            (self.machines is None or not self.machines.isdisjoint(_whose(entry)))
            and (self.services is None or entry.id.name in self.services)
            and (self.only is None or entry.id in self.only)
        )

    def replaces(self, entry: Entry) -> bool:
        """Whether a generator's values are to be replaced."""
        if entry.id in self.due:
            return True
        others_too = self.machines is not None and entry.id.machine is None
        return self.regenerate and not others_too and self.selects(entry)


def _whose(entry: Entry) -> tuple[str, ...]:
    return entry.users if entry.id.machine is None else (entry.id.machine,)


EVERYTHING_MISSING = Request()


def steps(
    graph: Graph, kept: Mapping[GeneratorId, Kept | None], request: Request = EVERYTHING_MISSING
) -> list[Step]:
    """Return what is to be done, each generator after those that it depends on.

    What a selected generator needs is made with it when it is missing; what depends on a replaced
    one follows, selected or not.
    """
    wanted = _with_dependencies(graph, kept, request)
    found: list[Step] = []
    replaced: set[GeneratorId] = set()
    for id_, entry in graph.entries.items():
        follows = not replaced.isdisjoint(entry.depends)
        if id_ not in wanted and not follows:
            continue
        asked = request.replaces(entry)
        step = _step(entry, kept, replaced, asked=asked)
        if step is not None:
            found.append(step)
            if step.replace and step.action is not Action.DUE:
                replaced.add(id_)
    return found


def _with_dependencies(
    graph: Graph, kept: Mapping[GeneratorId, Kept | None], request: Request
) -> set[GeneratorId]:
    wanted: set[GeneratorId] = set()
    for id_, entry in reversed(list(graph.entries.items())):
        if id_ in wanted or request.selects(entry):
            wanted.add(id_)
            wanted.update(
                each for each in entry.depends if missing(graph.entries[each], kept.get(each))
            )
    return wanted


def _step(
    entry: Entry,
    kept: Mapping[GeneratorId, Kept | None],
    replaced: Collection[GeneratorId],
    *,
    asked: bool,
) -> Step | None:
    there = kept.get(entry.id)
    made = entry.generator.make
    if isinstance(made, Elsewhere):
        lacks = missing(entry, there) or asked
        said = f"`{made.command}` makes it"
        return Step(entry=entry, action=Action.DUE, why=said) if lacks else None
    run = Action.ASK if entry.generator.born_on_machine else Action.MAKE
    lacking = missing(entry, there)
    if there is None or len(lacking) == len(entry.kept()):
        # A machine may have a key that the clan does not know any more.
        return Step(entry=entry, action=run, why="missing", replace=asked and run is Action.ASK)
    if asked:
        return Step(entry=entry, action=run, why="asked for", replace=True, asked=True)
    why = next(_changed(entry, there, kept, replaced, lacking), None)
    if why is None:
        return None
    action = Action.DUE if holds_secrets(entry, there) else run
    return Step(entry=entry, action=action, why=why, replace=True)


def missing(entry: Entry, kept: Kept | None) -> list[str]:
    """Return which files of a generator should lie in the clan and do not."""
    if kept is None:
        return [file.name for file in entry.kept()]
    return [
        file.name
        for file in entry.kept()
        if file.name not in (kept.secrets if file.secret else kept.files)
    ]


def holds_secrets(entry: Entry, kept: Kept) -> bool:
    """Whether running the generator would replace a secret, here or on the machine."""
    return bool(kept.secrets) or (entry.generator.born_on_machine and bool(kept.files))


def _changed(
    entry: Entry,
    there: Kept,
    kept: Mapping[GeneratorId, Kept | None],
    replaced: Collection[GeneratorId],
    lacking: list[str],
) -> Iterator[str]:
    if lacking:
        yield f"{', '.join(lacking)} missing"
    meta = there.meta
    if meta is not None:
        yield from _outdated(entry, meta, kept, replaced)


def _outdated(
    entry: Entry,
    meta: Meta,
    kept: Mapping[GeneratorId, Kept | None],
    replaced: Collection[GeneratorId],
) -> Iterator[str]:
    if meta.due is not None:
        yield meta.due
    if meta.version is not None and meta.version != entry.generator.version:
        yield f"version {meta.version} became {entry.generator.version}"
    if meta.inputs is not None and meta.inputs != entry.inputs:
        yield "its inputs changed"
    for each in entry.depends:
        if each in replaced:
            yield f"{each} is made again"
    for each in entry.depends:
        before = meta.depends.get(each.label)
        if before is not None and before != mark(kept.get(each)):
            yield f"{each} changed"
    if meta.inputs is not None and set(meta.depends) != {each.label for each in entry.depends}:
        yield "it depends on others than before"


def mark(kept: Kept | None) -> str:
    """Return what changes whenever a generator's values do, and tells nothing of a secret.

    It is a hash of the serial (random, new with the values) and of the public values: those may
    have been written by hand.
    """
    if kept is None:
        return ""
    serial = "" if kept.meta is None else kept.meta.serial
    public = sorted((name, data.hex()) for name, data in kept.files.items() if not is_former(name))
    return hashlib.sha256(json.dumps([serial, public]).encode()).hexdigest()
