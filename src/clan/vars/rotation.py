"""What a machine is to make anew at its next update: `vars/per-machine/MACHINE/due.json`.

Keys that never leave a machine cannot be replaced from here. Who removes an admin, or asks for a
new key of a machine that does not answer, leaves word here; `clan machines update` acts on it and
settles it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError
from clan.system.files import write_atomic
from clan.vars.graph import DUE_FILE
from clan.vars.names import GeneratorId
from clan.vars.store import PER_MACHINE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from clan.vars.graph import Graph
    from clan.vars.store import Store

IDENTITY = "identity"
"""The machine's age identity, in /etc/clan."""
HOST_KEY = "host-key"
"""The key that its sshd shows."""
_GENERATOR = "generator/"


@dataclass(frozen=True, slots=True, kw_only=True)
class Rotation:
    """One thing to make: `replace` says that one which is there is to be replaced.

    `what` is IDENTITY, HOST_KEY, or `generator/NAME` of a key that is born on the machine.
    `since` is in UTC, as `2026-01-31T12:00:00Z`.
    """

    what: str
    why: str
    since: str
    replace: bool = True

    @property
    def generator(self) -> str | None:
        """The generator's name, or None for what no generator makes."""
        return self.what.removeprefix(_GENERATOR) if self.what.startswith(_GENERATOR) else None

    @property
    def called(self) -> str:
        """What it is, in words for people."""
        words = {IDENTITY: "its identity", HOST_KEY: "its host key"}
        return words.get(self.what) or f"the key of {self.generator}"


def of_generator(name: str) -> str:
    """Return what a rotation of a generator's key is called."""
    return f"{_GENERATOR}{name}"


def rotations(store: Store, machine: str) -> tuple[Rotation, ...]:
    """Read what is due on a machine. Raises ClanError when the file is none of ours."""
    path = _path(store, machine)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return ()
    return _parse(data, path)


def outstanding(store: Store, machine: str, graph: Graph) -> tuple[Rotation, ...]:
    """Return what is due on a machine and can be made. Raises ClanError.

    Word of a key that nothing declares now is kept: the machine may use the old one again.
    """
    return tuple(
        each
        for each in rotations(store, machine)
        if each.generator is None or _born(each.generator, machine, graph)
    )


def generators_due(store: Store, machine: str, graph: Graph) -> tuple[GeneratorId, ...]:
    """Return the machine's generators whose keys are to be replaced. Raises ClanError."""
    return tuple(
        GeneratorId(machine=machine, name=each.generator)
        for each in outstanding(store, machine, graph)
        if each.generator is not None and each.replace
    )


def _born(generator: str, machine: str, graph: Graph) -> bool:
    entry = graph.entries.get(GeneratorId(machine=machine, name=generator))
    return entry is not None and entry.generator.born_on_machine


def _parse(data: bytes, path: Path) -> tuple[Rotation, ...]:
    try:
        tree: Any = json.loads(data)
        return tuple(
            Rotation(
                what=str(each["what"]),
                why=str(each["why"]),
                since=str(each["since"]),
                replace=each["replace"] is True,
            )
            for each in tree["due"]
        )
    except (ValueError, KeyError, TypeError, RecursionError) as fault:
        raise ClanError(
            f"this is no list of what is due ({type(fault).__name__})", where=str(path)
        ) from None


def leave_word(store: Store, machine: str, due: Iterable[Rotation]) -> None:
    """Add to what is due on a machine; what is due already stays. The caller holds the lock."""
    before = {each.what: each for each in rotations(store, machine)}
    after = dict(before)
    for each in due:
        known = after.get(each.what)
        if known is None or (each.replace and not known.replace):
            after[each.what] = each
    if after != before:
        _write(store, machine, tuple(after.values()))


def settle(store: Store, machine: str, what: str) -> None:
    """Note that a thing was made. The caller holds the lock."""
    before = rotations(store, machine)
    after = tuple(each for each in before if each.what != what)
    if after != before:
        _write(store, machine, after)


def _write(store: Store, machine: str, due: tuple[Rotation, ...]) -> None:
    path = _path(store, machine)
    if not due:
        path.unlink(missing_ok=True)
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    tree = [
        {"what": each.what, "why": each.why, "since": each.since, "replace": each.replace}
        for each in due
    ]
    write_atomic(path, f"{json.dumps({'due': tree}, indent=2)}\n".encode(), mode=0o644)


def _path(store: Store, machine: str) -> Path:
    return store.folder / PER_MACHINE / machine / DUE_FILE
