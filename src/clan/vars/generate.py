"""Making values: asks what must be asked, runs generators, and keeps what they make.

People and machines are asked first, without the lock, for they may take long. Then everything is
made and kept under the lock, generator by generator, each all at once: a process killed at any
moment leaves the old values or the new ones. Secrets are in memory only.
"""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.model.boundary import discreet
from clan.model.generator import Elsewhere, Inputs, MachineKey, Script, is_former
from clan.vars import folder
from clan.vars.age import decrypt, encrypt
from clan.vars.birth import NotReachable
from clan.vars.folder import Kept, Meta
from clan.vars.former import beside
from clan.vars.need import EVERYTHING_MISSING, Action, Request, Step, mark, missing, steps
from clan.vars.readers import Readers, answer_key, resealed
from clan.vars.rotation import Rotation, leave_word, of_generator, settle
from clan.vars.sandbox import run_script

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Mapping
    from datetime import datetime

    from clan.model.generator import Prompt
    from clan.vars.birth import Birthplace
    from clan.vars.graph import Entry, Graph
    from clan.vars.names import GeneratorId
    from clan.vars.store import Store

_AT_ONCE = 16
"""Machines that are asked at the same time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Making:
    """What making values needs of the world.

    `ask` returns a person's answer to a prompt of a generator, and raises ClanError when there is
    nobody to ask. With None nobody is asked, and values that are there are left due. `now` is in
    UTC.
    """

    ask: Callable[[GeneratorId, Prompt], str] | None
    now: Callable[[], datetime]
    birthplace: Birthplace = field(default_factory=NotReachable)

    def stamp(self) -> str:
        """Return the time as it is kept, `2026-01-31T12:00:00Z`."""
        return self.now().strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of a step: `made` new values are kept; otherwise `why` says what is due."""

    id: GeneratorId
    made: bool
    why: str


def kept_of(store: Store, graph: Graph) -> dict[GeneratorId, Kept | None]:
    """Read what is kept of every declared generator."""
    return {id_: folder.load(store.place_of(id_)) for id_ in graph.entries}


async def generate(
    store: Store, graph: Graph, making: Making, request: Request = EVERYTHING_MISSING
) -> list[Outcome]:
    """Make what is missing, or what was asked for, and keep it. Returns what became of each step.

    Raises ClanError when a generator fails or nobody can be asked; what was made before is kept.
    """
    kept = kept_of(store, graph)
    todo = steps(graph, kept, request)
    refuse_without_admin(store, todo)
    answers = answered(store, todo, kept, making)
    born = await _ask_machines(todo, making.birthplace)
    with store.locked():
        workshop = Workshop(store, graph, making.stamp())
        try:
            return workshop.work(request, answers, born)
        finally:
            store.stage([store.folder])


def refuse_without_admin(store: Store, todo: Iterable[Step]) -> None:
    """Raise ClanError where a secret would be made with nobody to encrypt it to."""
    if any(
        step.action is Action.MAKE and any(file.secret for file in step.entry.kept())
        for step in todo
    ):
        Readers.of(store).of_file(None, None)


def answered(
    store: Store, todo: Iterable[Step], kept: Mapping[GeneratorId, Kept | None], making: Making
) -> dict[GeneratorId, dict[str, str]]:
    """Return the answer to each prompt: what was set before, else what a person says now.

    Where nobody is to be asked, what only follows another has none, and is left due. Where nobody
    can be asked, raises ClanError with everything that has to be.
    """
    found: dict[GeneratorId, dict[str, str]] = {}
    faults: list[ClanError] = []
    for step in todo:
        if step.action is not Action.MAKE or not step.entry.generator.prompts:
            continue
        id_ = step.entry.id
        there = kept[id_]
        waiting = {} if there is None else there.answers
        if making.ask is None and step.follows and _unanswered(step.entry, waiting):
            continue
        given = found[id_] = {}
        for prompt in step.entry.generator.prompts:
            try:
                if prompt.name in waiting:
                    given[prompt.name] = decrypt(waiting[prompt.name], store.identity()).decode()
                else:
                    given[prompt.name] = (making.ask or _ask_nobody)(id_, prompt)
            except ClanError as fault:
                faults.append(fault)
    if len(faults) == 1:
        raise faults[0]
    if faults:
        said = "\n".join(each.message for each in faults)
        raise type(faults[0])(said, hint=faults[0].hint)
    return found


def _unanswered(entry: Entry, answers: Collection[str]) -> list[str]:
    return [prompt.name for prompt in entry.generator.prompts if prompt.name not in answers]


def _ask_nobody(owner: GeneratorId, prompt: Prompt) -> str:
    raise ClanError(
        f"{owner} asks for {prompt.name}: {prompt.description}",
        hint="`clan vars generate` asks for it",
    )


async def _ask_machines(
    todo: Iterable[Step], birthplace: Birthplace
) -> dict[GeneratorId, Mapping[str, bytes]]:
    """Ask machines for public halves, many at once; those that do not answer are left out."""
    found: dict[GeneratorId, Mapping[str, bytes]] = {}
    room = asyncio.Semaphore(_AT_ONCE)

    async def ask(step: Step, machine: str) -> None:
        async with room:
            public = await birthplace.born(machine, step.entry.generator, replace=step.replace)
            if public is not None:
                found[step.entry.id] = public

    async with asyncio.TaskGroup() as group:
        for step in todo:
            machine = step.entry.id.machine
            if step.action is Action.ASK and machine is not None:
                group.create_task(ask(step, machine))
    return found


class Workshop:
    """Where generators are run and what they make is kept, all at `now`, under the clan's lock."""

    def __init__(self, store: Store, graph: Graph, now: str) -> None:
        self.store = store
        self.graph = graph
        self.now = now
        self.readers = Readers.of(store)
        self.kept = kept_of(store, graph)

    def work(
        self,
        request: Request,
        answers: Mapping[GeneratorId, Mapping[str, str]],
        born: Mapping[GeneratorId, Mapping[str, bytes]],
    ) -> list[Outcome]:
        """Do what is to be done: another command may have done some of it meanwhile."""
        outcomes = []
        waiting: set[GeneratorId] = set()
        for step in steps(self.graph, self.kept, request):
            id_ = step.entry.id
            if step.action is Action.DUE:
                outcomes.append(Outcome(id=id_, made=False, why=step.why))
            elif step.action is Action.MAKE:
                outcomes.append(self._run(step, answers.get(id_), waiting))
            elif id_ in born:
                self.receive(step.entry, born[id_])
                outcomes.append(Outcome(id=id_, made=True, why=step.why))
            else:
                outcomes.append(self._postpone(step))
                waiting.add(id_)
        return outcomes

    def _postpone(self, step: Step) -> Outcome:
        id_ = step.entry.id
        what = of_generator(id_.name)
        word = Rotation(what=what, why=step.why, since=self.now, replace=step.replace)
        if id_.machine is not None:
            leave_word(self.store, id_.machine, [word])
        why = f"{step.why}; not reached, due at its next update"
        return Outcome(id=id_, made=False, why=why)

    def receive(self, entry: Entry, public: Mapping[str, bytes]) -> None:
        """Keep the public files of a key that a machine made, and settle that it was due.

        Raises ClanError when they are not the files that were declared.
        """
        _refuse_others(entry, public)
        self._keep(entry, Kept(meta=self.meta(entry), files=dict(public)))
        if entry.id.machine is not None:
            settle(self.store, entry.id.machine, of_generator(entry.id.name))

    def _run(
        self, step: Step, answers: Mapping[str, str] | None, waiting: set[GeneratorId]
    ) -> Outcome:
        entry = step.entry
        for each in entry.depends:
            due = each in waiting and not step.asked
            if due or missing(self.graph.entries[each], self.kept[each]):
                self._keep_answers(entry, answers or {})
                waiting.add(entry.id)
                return Outcome(id=entry.id, made=False, why=f"{step.why}; it waits for {each}")
        if answers is None and entry.generator.prompts:
            if step.follows:
                waiting.add(entry.id)
                kept = self.kept[entry.id] or Kept()
                asked = ", ".join(_unanswered(entry, kept.answers))
                why = f"{step.why}; left as it is until `clan vars generate` asks for {asked}"
                return Outcome(id=entry.id, made=False, why=why)
            raise ClanError(f"{entry.id} was changed by another command", hint="try again")
        self.run(entry, answers or {})
        return Outcome(id=entry.id, made=True, why=step.why)

    def _keep_answers(self, entry: Entry, answers: Mapping[str, str]) -> None:
        """Keep what a person said until the generator can run, so that nobody is asked twice."""
        kept = self.kept[entry.id] or Kept()
        new = {name: text for name, text in answers.items() if name not in kept.answers}
        if not new:
            return
        meta = kept.meta or Meta(serial=os.urandom(8).hex(), made=self.now)
        admins = self.readers.of_file(None, None)
        recipients = {**meta.recipients, **{answer_key(name): admins for name in new}}
        sealed = {name: encrypt(text.encode(), admins) for name, text in new.items()}
        after = replace(
            kept,
            meta=replace(meta, recipients=recipients),
            answers={**kept.answers, **sealed},
        )
        self._keep(entry, after)

    def run(self, entry: Entry, answers: Mapping[str, str]) -> None:
        """Run a generator and keep what it makes, encrypted. Raises ClanError when it fails."""
        inputs = Inputs(
            prompts=dict(answers),
            files={each.name: self._opened(each) for each in entry.depends},
        )
        make = entry.generator.make
        what = f"generator {entry.id}"
        if isinstance(make, MachineKey | Elsewhere):
            raise TypeError(f"{what} is not made here")
        if isinstance(make, Script):
            outputs = run_script(make, inputs, what=what)
        else:
            with discreet(what):
                outputs = dict(make(inputs))
        _refuse_others(entry, outputs)
        after = beside(self.store, entry, self.kept[entry.id], self.sealed(entry, outputs))
        self._keep(entry, resealed(self.readers, self.graph, entry.id, after))

    def sealed(self, entry: Entry, outputs: Mapping[str, bytes]) -> Kept:
        """Return new values as they are kept: secret ones encrypted to their readers."""
        secret = {file.name: file for file in entry.generator.files if file.secret}
        made = [name for name in outputs if name in secret]
        recipients = {name: self.readers.of_file(entry, secret[name]) for name in made}
        return Kept(
            meta=replace(self.meta(entry), recipients=recipients),
            files={name: data for name, data in outputs.items() if name not in secret},
            secrets={name: encrypt(outputs[name], recipients[name]) for name in made},
        )

    def meta(self, entry: Entry) -> Meta:
        """Return the meta of values made now from what is declared now."""
        return Meta(
            serial=os.urandom(8).hex(),
            made=self.now,
            version=entry.generator.version,
            inputs=entry.inputs,
            depends={each.label: mark(self.kept[each]) for each in entry.depends},
        )

    def _keep(self, entry: Entry, kept: Kept) -> None:
        folder.save(self.store.place_of(entry.id), kept)
        self.kept[entry.id] = kept

    def _opened(self, id_: GeneratorId) -> dict[str, bytes]:
        kept = self.kept[id_] or Kept()
        opened = dict(kept.files)
        if kept.secrets:
            identity = self.store.identity()
            opened |= {name: decrypt(data, identity) for name, data in kept.secrets.items()}
        return {name: data for name, data in opened.items() if not is_former(name)}


def _refuse_others(entry: Entry, outputs: Mapping[str, object]) -> None:
    declared = {file.name for file in entry.kept()}
    if set(outputs) != declared:
        lacking = ", ".join(sorted(declared - set(outputs)))
        extra = ", ".join(sorted(set(outputs) - declared))
        said = [f"did not make {lacking}"] if lacking else []
        said += [f"made {extra}, which it does not declare"] if extra else []
        raise ClanError(f"generator {entry.id} {' and '.join(said)}")
    for name, data in outputs.items():
        if not isinstance(data, bytes):
            kind = type(data).__name__
            raise ClanError(f"generator {entry.id} made {name} as {kind}, not as bytes")
