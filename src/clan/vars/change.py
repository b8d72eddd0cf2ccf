"""Values that a person gives: instead of what a generator makes, or as the answer to a prompt."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from clan.errors import ClanError
from clan.model.generator import Elsewhere
from clan.vars import folder
from clan.vars.age import encrypt
from clan.vars.folder import Kept, Meta
from clan.vars.names import find, generator_of
from clan.vars.need import mark
from clan.vars.readers import Readers, answer_key

if TYPE_CHECKING:
    from clan.model.exports import Var
    from clan.model.generator import Prompt
    from clan.vars.graph import Entry, Graph
    from clan.vars.store import Store


def settable(graph: Graph, text: str) -> tuple[Var, Entry, Prompt | None]:
    """Return what an id names: a file of a generator, or a prompt of it, which goes first.

    Raises ClanError for what nothing declares, for a key that is born on its machine, and for what
    another command makes.
    """
    prompts = {
        id_.var(prompt.name): prompt
        for id_, entry in graph.entries.items()
        for prompt in entry.generator.prompts
    }
    var = find(text, {**graph.vars(), **prompts})
    entry = graph.entries[generator_of(var)]
    if entry.generator.born_on_machine:
        raise ClanError(
            f"{text} belongs to a key that is born on its machine",
            hint=f"`clan vars generate --service {var.generator} --regenerate "
            f"--machine {var.machine}` has the machine make a new one",
        )
    if isinstance(entry.generator.make, Elsewhere):
        command = entry.generator.make.command
        raise ClanError(f"{text} is made by a command of its own", hint=f"`{command}` makes it")
    return var, entry, prompts.get(var)


def set_value(store: Store, graph: Graph, var: Var, data: bytes, now: str) -> None:
    """Keep a file's value as given, `now` in UTC; the generator's other files stay as they are."""
    entry = graph.entries[generator_of(var)]
    file = next(each for each in entry.generator.files if each.name == var.file)
    with store.locked():
        kept, meta = _kept(store, entry, now)
        if {each.name for each in entry.kept()} == {var.file}:
            # All that it makes is new: as if it had run now.
            depends = {
                each.label: mark(folder.load(store.place_of(each))) for each in entry.depends
            }
            meta = Meta(
                serial=meta.serial,
                made=now,
                version=entry.generator.version,
                inputs=entry.inputs,
                depends=depends,
            )
        files = {name: value for name, value in kept.files.items() if name != var.file}
        secrets = {name: value for name, value in kept.secrets.items() if name != var.file}
        recipients = dict(meta.recipients)
        if file.secret:
            recipients[var.file] = Readers.of(store).of_file(entry, file)
            secrets[var.file] = encrypt(data, recipients[var.file])
        else:
            files[var.file] = data
        meta = replace(meta, recipients=recipients)
        folder.save(store.place_of(entry.id), Kept(meta=meta, files=files, secrets=secrets))
        store.stage([store.folder])


def set_answer(store: Store, graph: Graph, var: Var, data: bytes, now: str) -> list[str]:
    """Keep the answer to a prompt, encrypted to the admins, until the generator runs.

    Returns the prompts that are not answered yet. Raises ClanError for what is no text.
    """
    try:
        data.decode()
    except UnicodeDecodeError:
        raise ClanError("the answer to a prompt is text in UTF-8, and this is none") from None
    entry = graph.entries[generator_of(var)]
    with store.locked():
        kept, meta = _kept(store, entry, now)
        meta = replace(meta, serial=meta.serial if kept.meta is None else kept.meta.serial)
        admins = Readers.of(store).of_file(None, None)
        recipients = {**meta.recipients, answer_key(var.file): admins}
        answers = {**kept.answers, var.file: encrypt(data, admins)}
        after = replace(kept, meta=replace(meta, recipients=recipients), answers=answers)
        folder.save(store.place_of(entry.id), after)
        store.stage([store.folder])
    return [each.name for each in entry.generator.prompts if each.name not in answers]


def _kept(store: Store, entry: Entry, now: str) -> tuple[Kept, Meta]:
    """Return what is kept, and its meta with a new serial."""
    kept = folder.load(store.place_of(entry.id)) or Kept()
    serial = os.urandom(8).hex()
    if kept.meta is None:
        return kept, Meta(serial=serial, made=now)
    return kept, replace(kept.meta, serial=serial, made=now)
