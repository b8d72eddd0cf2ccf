"""The folder of one generator: its files and `meta.json`, replaced whole or not at all.

    GENERATOR/meta.json
    GENERATOR/FILE/value      public
    GENERATOR/FILE/secret     encrypted with age
    GENERATOR/PROMPT/answer   what a prompt will be told when the generator runs; encrypted

A new state is written beside it as `.GENERATOR.new`; then the old one becomes `.GENERATOR.old`, the
new one takes its name, and the old one is removed. Between the two renames readers are given the
old one, and so they are after a crash there: rename(2) cannot replace a folder that has files.
"""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError
from clan.model.inventory import empty
from clan.system.files import sync_directory
from clan.vars.names import is_plain

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

META = "meta.json"
VALUE = "value"
SECRET = "secret"  # noqa: S105 - a file's name
ANSWER = "answer"
_KINDS = (VALUE, SECRET, ANSWER)
_ATTEMPTS = 20
"""How often a read is tried while another process swaps the folder."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """What the files were made from; nothing here comes from a secret.

    `serial` is random and new whenever the files are. `inputs` is a hash of what the generator
    declared, `depends` has the mark of each dependency by its label (see `need.mark`); None and
    empty where the values were set by hand. `made` is when, in UTC. `recipients` is file -> the
    public keys that it is encrypted to. `due` is why the values should be replaced.
    """

    serial: str
    made: str
    version: int | None = None
    inputs: str | None = None
    depends: Mapping[str, str] = field(default_factory=empty)
    recipients: Mapping[str, tuple[str, ...]] = field(default_factory=empty)
    due: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """What is kept of a generator: `files` are public, `secrets` and `answers` encrypted."""

    meta: Meta | None = None
    files: Mapping[str, bytes] = field(default_factory=empty)
    secrets: Mapping[str, bytes] = field(default_factory=empty)
    answers: Mapping[str, bytes] = field(default_factory=empty)


def load(folder: Path) -> Kept | None:
    """Read the folder; None when it is not there. Raises ClanError for a meta.json that is none."""
    for _ in range(_ATTEMPTS):
        for place in (folder, _old(folder)):
            try:
                before = place.stat().st_ino
                kept = _load(place)
                if place.stat().st_ino == before:  # else the files may be of two states
                    return kept
            except FileNotFoundError:
                continue
        if not folder.exists():
            return None
    raise ClanError("these vars change faster than they can be read", where=str(folder))


def read_file(folder: Path, name: str, kind: str) -> bytes | None:
    """Read one file of the folder; None when it is not there."""
    for place in (folder, _old(folder), folder):
        try:
            return (place / name / kind).read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            continue
    return None


def _load(folder: Path) -> Kept:
    found: dict[str, dict[str, bytes]] = {kind: {} for kind in _KINDS}
    meta = None
    for entry in os.scandir(folder):
        if entry.name == META:
            with open(entry.path, "rb") as file:  # noqa: PTH123 - scandir gives strings
                meta = parse_meta(file.read(), entry.path)
        elif entry.is_dir() and is_plain(entry.name):
            for inner in os.scandir(entry.path):
                if inner.name in found:
                    with open(inner.path, "rb") as file:  # noqa: PTH123
                        found[inner.name][entry.name] = file.read()
    return Kept(meta=meta, files=found[VALUE], secrets=found[SECRET], answers=found[ANSWER])


def parse_meta(data: bytes, where: str) -> Meta:
    """Read a meta.json. Raises ClanError for what is none, as after a merge that was not ended."""
    try:
        tree: Any = json.loads(data)
        meta = Meta(
            serial=_text(tree["serial"]),
            made=_text(tree["made"]),
            version=None if tree.get("version") is None else _number(tree["version"]),
            inputs=None if tree.get("inputs") is None else _text(tree["inputs"]),
            depends={_text(key): _text(mark) for key, mark in tree.get("depends", {}).items()},
            recipients={
                _text(name): tuple(_text(key) for key in keys)
                for name, keys in tree.get("recipients", {}).items()
            },
            due=None if tree.get("due") is None else _text(tree["due"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as fault:
        raise ClanError(
            f"this is no meta.json of vars ({type(fault).__name__})",
            where=where,
            hint="take it from git as it was, or make the values again with --regenerate",
        ) from None
    return meta


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError("not a string")
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool):
        raise TypeError("not a number")
    return value


def write_meta(meta: Meta) -> bytes:
    """Write a meta.json: what is None or empty is left out."""
    tree = {
        "serial": meta.serial,
        "made": meta.made,
        "version": meta.version,
        "inputs": meta.inputs,
        "depends": dict(meta.depends),
        "recipients": {name: list(keys) for name, keys in sorted(meta.recipients.items())},
        "due": meta.due,
    }
    kept = {key: value for key, value in tree.items() if value not in (None, {})}
    return f"{json.dumps(kept, indent=2, ensure_ascii=True)}\n".encode()


def save(folder: Path, kept: Kept) -> None:
    """Replace the folder by what is to be kept. The caller holds the lock. Raises OSError."""
    recover(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    draft = _new(folder)
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir()
    for name, data in _contents(kept):
        path = draft / name
        path.parent.mkdir(exist_ok=True)
        with path.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        sync_directory(path.parent)
    sync_directory(draft)
    old = _old(folder)
    if folder.exists():
        folder.rename(old)
    draft.rename(folder)
    sync_directory(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def remove(folder: Path) -> None:
    """Remove the folder; after a crash it is there, or nobody's. The caller holds the lock."""
    recover(folder)
    draft = _new(folder)
    shutil.rmtree(draft, ignore_errors=True)
    if folder.exists():
        folder.rename(draft)
        sync_directory(folder.parent)
        shutil.rmtree(draft)


def recover(folder: Path) -> None:
    """Undo what a killed process had begun. The caller holds the lock."""
    old = _old(folder)
    if not old.exists():
        return
    if folder.exists():
        shutil.rmtree(old)
    else:
        old.rename(folder)


def _contents(kept: Kept) -> Iterator[tuple[str, bytes]]:
    for name, data in kept.files.items():
        yield f"{name}/{VALUE}", data
    for name, data in kept.secrets.items():
        yield f"{name}/{SECRET}", data
    for name, data in kept.answers.items():
        yield f"{name}/{ANSWER}", data
    if kept.meta is not None:
        yield META, write_meta(kept.meta)


def with_due(kept: Kept, why: str | None) -> Kept:
    """Return the same with a reason to replace it."""
    return kept if kept.meta is None else replace(kept, meta=replace(kept.meta, due=why))


def _old(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _new(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")
