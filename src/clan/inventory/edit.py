"""What each edit does to the clan's file, worked out in memory: Inventory in, Edit out.

It owns which keys an edit is about, at whatever level and in whatever spelling the file has them.
Nothing is read or written here: `clan.inventory.apply` does that, and refuses an edit that would
make new faults. A clan.nix is a program: for it there is a snippet to paste, and no edit.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError, Fault, InventoryError, UsageError, did_you_mean, dotted
from clan.inventory.document import Document
from clan.inventory.document.write import nix_lines
from clan.inventory.known import known
from clan.inventory.references import Reference, references
from clan.model import names

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    from clan.inventory.registry import Registry
    from clan.model.inventory import InstanceEntry, Inventory, KeyPath, RoleEntry, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """The file as it shall be. `notes` say what else changed, or did not, one line each.

    `renamed` is the old and the new name of a machine whose vars follow.
    """

    source: Source
    notes: tuple[str, ...] = ()
    renamed: tuple[str, str] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Membership:
    """Who gets a role: a machine, or (`is_tag`) all machines with a tag."""

    role: str
    name: str
    is_tag: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """A setting of an instance, of a role, or of a machine in a role; `key` leads into tables."""

    key: tuple[str, ...]
    value: Any
    role: str | None = None
    machine: str | None = None


# -- machines ----------------------------------------------------------------------------------


def create_machine(
    inventory: Inventory,
    name: str,
    *,
    tags: Sequence[str] = (),
    description: str = "",
    target_host: str | None = None,
) -> Edit:
    """Add a machine."""
    if name in inventory.machines:
        raise ClanError(f"there is a machine {name!r} already")
    _refuse(names.machine_fault(name))
    for tag in tags:
        _refuse(names.tag_fault(tag))
    value: dict[str, Any] = {}
    if tags:
        value["tags"] = list(dict.fromkeys(tags))
    if description:
        value["description"] = description
    if target_host:
        value["deploy"] = {"targetHost": target_host}
    _refuse_half_characters(value)
    parent = _parent(inventory, "machines")
    _refuse_nix(inventory, nix_lines(".".join((*parent, name)), value))
    document = _document(inventory)
    document.add(parent, name, value)
    return _edit(inventory, document, notes=_new_tags(inventory, tags))


def _new_tags(inventory: Inventory, tags: Sequence[str]) -> list[str]:
    """Say which tags are new though a known one is near: they may be typing errors."""
    known = {tag for machine in inventory.machines.values() for tag in machine.tags}
    known |= {
        tag
        for entry in inventory.instances.values()
        for role in entry.roles.values()
        for tag in role.tags
    }
    new = [tag for tag in tags if tag not in known and tag != names.ALL]
    return [f"tag {tag!r} is new: {near}" for tag in new if (near := did_you_mean(tag, known))]


def delete_machine(inventory: Inventory, registry: Registry, name: str) -> Edit:
    """Remove a machine, and its place in the roles; settings that name it are left to the check."""
    machine = inventory.machines[known(name, inventory.machines, "machine")]
    places = list(_memberships(inventory, name))
    keys = [machine.key, *(key for _, _, key in places)]
    _refuse_nix(inventory, [f"# remove {dotted(key)}" for key in keys])
    document = _document(inventory)
    # Last first: the indices of a list's earlier elements stay what they are.
    for key in sorted(keys, key=_by_index, reverse=True):
        document.remove(key)
    gone = dict.fromkeys(f"{entry.name}.{role}" for entry, role, _ in places)
    notes = [f"removed from the role {place}" for place in gone]
    notes += [
        f"{dotted(found.key)} still names {name!r}"
        for found in _references(inventory, registry, name)
        if not found.must and not any(found.key[: len(key)] == key for key in keys)
    ]
    return _edit(inventory, document, notes=notes)


def rename_machine(inventory: Inventory, registry: Registry, old: str, new: str) -> Edit:
    """Rename a machine: its declaration, its place in the roles, and settings that name it."""
    machine = inventory.machines[known(old, inventory.machines, "machine")]
    if new in inventory.machines:
        raise ClanError(f"there is a machine {new!r} already")
    _refuse(names.machine_fault(new))
    keys = {machine.key: new}
    values: dict[KeyPath, str] = {}
    for _, _, key in _memberships(inventory, old):
        (values if isinstance(key[-1], int) else keys)[key] = new
    found = list(_references(inventory, registry, old))
    values |= {reference.key: reference.renamed(new) for reference in found}
    _refuse_nix(
        inventory,
        [f"# in {dotted(key)}: {old} becomes {new}" for key in (*keys, *values)],
    )
    document = _document(inventory)
    document.rename(keys=keys, values=values)
    notes = [f"{dotted(reference.key)} follows" for reference in found]
    return replace(_edit(inventory, document, notes=notes), renamed=(old, new))


def _by_index(key: KeyPath) -> int:
    return key[-1] if isinstance(key[-1], int) else -1


def _memberships(
    inventory: Inventory, machine: str
) -> Iterator[tuple[InstanceEntry, str, KeyPath]]:
    """Yield instance, role and key of each place where a role lists the machine by name."""
    for entry in inventory.instances.values():
        for name, role in entry.roles.items():
            for key in _member_keys(inventory, role, machine):
                yield entry, name, key


def _member_keys(inventory: Inventory, role: RoleEntry, machine: str) -> list[KeyPath]:
    key = role.machine_keys.get(machine)
    if key is None or not isinstance(key[-1], int) or inventory.source.language == "nix":
        return [] if key is None else [key]
    # A list may have a name twice; the inventory keeps one key of it.
    holder: Any = _document(inventory).data
    for part in key[:-1]:
        holder = holder[part]
    return [(*key[:-1], index) for index, item in enumerate(holder) if item == machine]


def _references(inventory: Inventory, registry: Registry, machine: str) -> Iterator[Reference]:
    """Yield where settings, at any level, name the machine, as the modules' schemas tell."""
    for entry in inventory.instances.values():
        try:
            module = registry.get(entry.module, entry.module_input).module
        except InventoryError:
            continue  # a fault that is there before the edit, and is none of its making
        layers = [(module.settings, entry.settings, entry.settings_key)]
        for name, role in entry.roles.items():
            if name not in module.roles:
                continue
            schema = module.roles[name].settings
            layers.append((schema, role.settings, role.settings_key))
            layers += [
                (schema, settings, (*keys[member], "settings"))
                for members, keys in (
                    (role.tags, role.tag_keys),
                    (role.machines, role.machine_keys),
                )
                for member, settings in members.items()
                if settings
            ]
        for schema, settings, key in layers:
            for reference in references(schema, settings, key):
                if reference.name == machine:
                    yield reference


# -- instances ---------------------------------------------------------------------------------


def add_instance(
    inventory: Inventory,
    registry: Registry,
    name: str,
    *,
    module: str | None = None,
    members: Sequence[Membership] = (),
    settings: Sequence[Setting] = (),
) -> Edit:
    """Add a use of a module; without `module`, of the one called as the instance."""
    if name in inventory.instances:
        raise ClanError(f"there is an instance {name!r} already")
    _refuse(names.instance_fault(name))
    used = known(module or name, registry.names(), "module")
    there = registry.get(used).module.roles
    carried = {tag for machine in inventory.machines.values() for tag in machine.tags}
    value: dict[str, Any] = {}
    if used != name:
        value["module"] = {"name": used}
    for setting in settings:
        path = _holder(inventory, there, used, setting)
        _put(value, (*path, "settings", *setting.key), setting.value)
    for member in members:
        known(member.role, there, f"role of {used!r}")
        if member.is_tag:
            known(member.name, [names.ALL, *carried], "tag")
        else:
            known(member.name, inventory.machines, "machine")
        kind = "tags" if member.is_tag else "machines"
        table = value.setdefault("roles", {}).setdefault(member.role, {}).setdefault(kind, {})
        table.setdefault(member.name, {})
    _refuse_half_characters(value)
    parent = _parent(inventory, "instances")
    _refuse_nix(inventory, nix_lines(".".join((*parent, name)), value))
    document = _document(inventory)
    document.add(parent, name, value)
    return _edit(inventory, document)


def _holder(
    inventory: Inventory, roles: Collection[str], module: str, setting: Setting
) -> tuple[str, ...]:
    """Return the path, inside the instance, of what the setting is of."""
    if setting.role is None:
        return ()
    known(setting.role, roles, f"role of {module!r}")
    if setting.machine is None:
        return ("roles", setting.role)
    known(setting.machine, inventory.machines, "machine")
    return ("roles", setting.role, "machines", setting.machine)


def _put(tree: dict[str, Any], path: Sequence[str], value: Any) -> None:
    """Set a value in nested tables, making those that are missing."""
    for depth, key in enumerate(path[:-1], 1):
        tree = tree.setdefault(key, {})
        if not isinstance(tree, dict):
            raise UsageError(f"{dotted(path[:depth])} is set both as a value and as a table")
    if path[-1] in tree:
        raise UsageError(f"{dotted(path)} is set twice")
    tree[path[-1]] = value


def remove_instance(inventory: Inventory, name: str) -> Edit:
    """Remove a use of a module, with all its settings."""
    entry = inventory.instances[known(name, inventory.instances, "instance")]
    _refuse_nix(inventory, [f"# remove {dotted(entry.key)}"])
    document = _document(inventory)
    document.remove(entry.key)
    return _edit(inventory, document)


# -- what they share ---------------------------------------------------------------------------


def _refuse(fault: str | None) -> None:
    if fault is not None:
        raise UsageError(fault)


def _refuse_half_characters(value: Any) -> None:
    """Refuse bytes of the command line that are no UTF-8: no file of ours can hold them."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError as fault:
        raise UsageError(f"not UTF-8 text: {fault.object!r}") from None


def _refuse_nix(inventory: Inventory, snippet: Sequence[str]) -> None:
    if inventory.source.language == "nix":
        pasted = "\n".join(f"    {line}" for line in snippet)
        raise ClanError(
            f"{inventory.source.path.name} is a program, and is edited by hand",
            hint=f"put this into it:\n{pasted}",
        )


def _document(inventory: Inventory) -> Document:
    return Document(inventory.source.language, inventory.source.text)


def _edit(inventory: Inventory, document: Document, *, notes: Sequence[str] = ()) -> Edit:
    source = replace(inventory.source, text=document.text)
    return Edit(source=source, notes=tuple(notes))


def _parent(inventory: Inventory, section: str) -> tuple[str, ...]:
    """Return where the file has its machines or instances: at the top, or below `inventory`."""
    keys = [entry.key for entry in inventory.instances.values()]
    keys += [machine.key for machine in inventory.machines.values()]
    for key in keys:
        if key[-2:-1] == (section,):
            return tuple(str(part) for part in key[:-1])
    below = any(key[0] == "inventory" for key in keys)
    return ("inventory", section) if below else (section,)


def renamed_fault(fault: Fault, old: str, new: str) -> Fault:
    """Return a fault as it reads once a machine is called otherwise."""
    key = tuple(new if part == old else part for part in fault.key)
    return replace(fault, key=key, message=fault.message.replace(repr(old), repr(new)))
