"""Edits applied to the clan's folder: locked, checked, written atomically, staged in git.

It owns the order in which things reach the disk, so that a crash at any moment loses nothing, and
refuses an edit that would make a fault that was not there. What an edit does is `edit`'s.
"""

from __future__ import annotations

import shutil
from collections import Counter
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from clan.errors import ClanError, Fault, InventoryError
from clan.inventory.edit import Edit, rename_machine, renamed_fault
from clan.inventory.faults import Faults
from clan.inventory.load import read
from clan.inventory.open import open_source
from clan.inventory.source import read_source
from clan.system.files import (
    copy_tree,
    disk_errors_told,
    locked,
    same_or_subset,
    write_atomic,
)
from clan.system.git import stage

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from clan.inventory.registry import Registry
    from clan.model.inventory import Inventory, KeyPath, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Applied:
    """An edit that is on the disk. `warnings` are what went wrong after that, as staging in git."""

    edit: Edit
    changed: tuple[Path, ...]
    warnings: tuple[str, ...] = ()


def apply(path: Path, registry: Registry, change: Callable[[Inventory], Edit]) -> Applied:
    """Load the clan's file, change it, and write it; one at a time, all or nothing.

    Raises InventoryError with the faults that the edit would make, ClanError when the file is
    changed by somebody else meanwhile.
    """
    with disk_errors_told(), locked(path.parent):
        inventory = as_it_is(path)
        edit = change(inventory)
        refuse_new_faults(inventory, edit, registry)
        _write(edit, inventory.source)
        return _staged(edit, [path])


def as_it_is(path: Path) -> Inventory:
    """Read the clan's file with all its faults: an edit may be what mends them.

    Raises InventoryError when it is no TOML, JSON or Nix at all.
    """
    return read(read_source(path), Faults())


def apply_rename(
    path: Path, registry: Registry, machine: tuple[str, str], vars_folder: Path
) -> Applied:
    """Rename a machine, its vars with it; run again after a crash, it finishes what was begun.

    The vars are copied first, then the file is swapped, then the old vars are removed: whatever
    the file calls the machine, its vars are there under that name.
    """
    old, new = (vars_folder / "per-machine" / name for name in machine)
    with disk_errors_told(), locked(path.parent):
        inventory = as_it_is(path)
        if machine[0] not in inventory.machines and machine[1] in inventory.machines:
            edit = _finish(inventory, registry, machine, vars_folder)
        else:
            edit = rename_machine(inventory, registry, *machine)
            refuse_new_faults(inventory, edit, registry)
            if old.is_dir():
                _copy_vars(old, new)
            _write(edit, inventory.source)
        if not old.is_dir():
            return _staged(edit, [path])
        _remove_vars(old)
        return _staged(edit, [path], [old, new])


def _finish(
    inventory: Inventory, registry: Registry, machine: tuple[str, str], vars_folder: Path
) -> Edit:
    """Return the edit that changes nothing, when all that a rename left over is the old vars."""
    old, new = (vars_folder / "per-machine" / name for name in machine)
    gone = _aside(old)
    if gone.is_dir() and not old.exists():
        gone.rename(old)
    if not old.is_dir() or not same_or_subset(old, new):
        return rename_machine(inventory, registry, *machine)  # says what is wrong
    note = "the file had the new name already; the old vars were left over"
    return Edit(source=inventory.source, notes=(note,), renamed=machine)


def _copy_vars(old: Path, new: Path) -> None:
    """Copy a machine's vars. What an earlier, interrupted rename copied is used if it is whole."""
    if not new.exists():
        copy_tree(old, new)
    elif not (same_or_subset(old, new) and same_or_subset(new, old)):
        raise ClanError(
            f"{new} is there already, with other vars than {old.name}'s",
            hint="they are of an earlier machine of this name: move the folder away",
        )


def _aside(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.old")


def _remove_vars(folder: Path) -> None:
    """Remove a folder of vars; half removed, it has another name, and is taken for nobody's."""
    aside = _aside(folder)
    shutil.rmtree(aside, ignore_errors=True)
    folder.rename(aside)
    shutil.rmtree(aside)


def _write(edit: Edit, before: Source) -> None:
    """Write the file, unless it is no longer what was read: an editor takes no lock."""
    if before.path.read_bytes() != before.text:
        raise ClanError(
            f"{before.path.name} was changed meanwhile", hint="nothing was written; try again"
        )
    if edit.source.text != before.text:
        write_atomic(before.path, edit.source.text)


def _staged(edit: Edit, *changed: list[Path]) -> Applied:
    """Stage what changed; each list is of one folder, for the vars may be in another repository."""
    complaints = [stage(paths[0].parent, paths) for paths in changed]
    return Applied(
        edit=edit,
        changed=tuple(path for paths in changed for path in paths),
        warnings=tuple(f"git could not stage the change: {said}" for said in complaints if said),
    )


def refuse_new_faults(inventory: Inventory, edit: Edit, registry: Registry) -> None:
    """Resolve the edited file in memory; an InventoryError has the faults that are new."""
    after = faults_of(edit.source, registry)
    before = faults_of(inventory.source, registry) if after else []
    if edit.renamed is not None:
        before = [renamed_fault(fault, *edit.renamed) for fault in before]
    # Of three machines with one address, two are left with it when one goes: the same fault in
    # other words. So a key may have as many faults as it had.
    allowed = Counter(_without_indices(fault.key) for fault in before)
    found = Counter(_without_indices(fault.key) for fault in after)
    said = {fault.message for fault in before}
    new = [
        replace(fault, file=None, line=None)  # a line of a text that is on no disk
        for fault in after
        if fault.message not in said
        and found[_without_indices(fault.key)] > allowed[_without_indices(fault.key)]
    ]
    if new:
        raise InventoryError(new, hint="nothing was changed: the clan would have these faults")


def _without_indices(key: KeyPath) -> KeyPath:
    """Drop the indices: a removed element moves those after it, and their faults are the same."""
    return tuple(part for part in key if isinstance(part, str))


def faults_of(source: Source, registry: Registry) -> list[Fault]:
    """Return every fault of the file as it would be with this text."""
    try:
        open_source(source, registry)
    except InventoryError as error:
        return list(error.faults)
    return []
