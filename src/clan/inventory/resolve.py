"""From the Inventory to the Clan: every tag, default and export worked out, every fault found.

Pure but for loading the modules that the clan names. It refuses a clan with any fault, and says
all of them; what an instance with faults would have exported is not looked at.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from clan.errors import InventoryError
from clan.inventory.boundary import guarded
from clan.inventory.check import check_names, check_networks
from clan.inventory.collector import paused
from clan.inventory.faults import Faults
from clan.inventory.layers import origins, read_layer
from clan.inventory.members import Roster, check_references, count_faults, find_members
from clan.inventory.settings import validate
from clan.model.clan import Clan, Instance, Machine, RoleMember
from clan.model.exports import Exports
from clan.model.inventory import EMPTY, InstanceEntry, RoleEntry
from clan.model.names import ALL, host_name

if TYPE_CHECKING:
    from clan.inventory.registry import LoadedModule, Registry
    from clan.model.inventory import Inventory, KeyPath

INTERNET = "internet"
INTERNET_ROLE = "default"


def resolve(inventory: Inventory, registry: Registry) -> Clan:
    """Return the clan that the inventory describes; an InventoryError has all of its faults."""
    faults = Faults()
    clan = resolve_noting(inventory, registry, faults)
    if not faults.faults and not faults.warnings:
        return clan
    from clan.inventory.locate import located

    if faults.faults:
        raise InventoryError(located(faults.faults, inventory.source))
    warnings = located(faults.warnings, inventory.source)
    return replace(clan, warnings=(*clan.warnings, *warnings))


def resolve_noting(inventory: Inventory, registry: Registry, faults: Faults) -> Clan:
    """Return what can be worked out of the clan, noting every fault on the way."""
    with paused():
        return work_out(inventory, registry, faults)


def work_out(inventory: Inventory, registry: Registry, faults: Faults) -> Clan:
    """Resolve machines, then instances, then their exports."""
    tags = machines_by_tag(inventory)
    roster = Roster(tags)
    check_names("machines", {m.name: m.key for m in inventory.machines.values()}, faults)
    check_names("instances", {i.name: i.key for i in inventory.instances.values()}, faults)
    entries = with_target_hosts(inventory, faults)
    instances: dict[str, Instance] = {}
    for entry in entries.values():
        instance = resolve_instance(entry, registry, roster, faults)
        if instance is not None:
            instances[entry.name] = instance
    clan = Clan(
        directory=inventory.source.directory,
        meta=inventory.meta,
        machines={
            name: Machine(
                name=name,
                host_name=host_name(name),
                tags=entry.tags,
                description=entry.description,
                target_host=entry.target_host,
            )
            for name, entry in inventory.machines.items()
        },
        tags=tags,
        instances=instances,
        exports={},
        warnings=inventory.warnings,
    )
    exports = check_and_export(clan, faults)
    check_networks(instances, exports, faults)
    return replace(clan, exports=exports)


def machines_by_tag(inventory: Inventory) -> dict[str, tuple[str, ...]]:
    """Return tag -> machines in the clan's order; `all`, the one built-in tag, comes first."""
    carried: dict[str, list[str]] = {ALL: list(inventory.machines)}
    for machine in inventory.machines.values():
        for tag in machine.tags:
            if tag != ALL:
                carried.setdefault(tag, []).append(machine.name)
    return {tag: tuple(names) for tag, names in carried.items()}


def with_target_hosts(inventory: Inventory, faults: Faults) -> dict[str, InstanceEntry]:
    """Return the instances, with each machine's `deploy.targetHost` as a peer of `internet`.

    The instance of that name is made when there is none.
    """
    instances = dict(inventory.instances)
    keys: dict[str, KeyPath] = {
        name: (*machine.key, "deploy", "targetHost")
        for name, machine in inventory.machines.items()
        if machine.target_host is not None
    }
    if not keys:
        return instances
    first = next(iter(keys.values()))
    entry = instances.get(INTERNET, InstanceEntry(name=INTERNET, module=INTERNET, key=first))
    if entry.module != INTERNET:
        faults.add(
            entry.key,
            f"{INTERNET!r} is the network of deploy.targetHost, and cannot be of {entry.module!r}",
            "rename the instance",
        )
        return instances
    role = entry.roles.get(INTERNET_ROLE, RoleEntry(key=entry.key))
    joining = {name: key for name, key in keys.items() if name not in role.machines}
    role = replace(
        role,
        machines={**role.machines, **dict.fromkeys(joining, EMPTY)},
        machine_keys={**role.machine_keys, **joining},
    )
    instances[INTERNET] = replace(entry, roles={**entry.roles, INTERNET_ROLE: role})
    return instances


def resolve_instance(
    entry: InstanceEntry, registry: Registry, roster: Roster, faults: Faults
) -> Instance | None:
    """Return one instance; None once its faults are noted."""
    before = len(faults.faults)
    loaded = load_module(entry, registry, faults)
    if loaded is None:
        return None
    module = loaded.module
    members: dict[str, dict[str, RoleMember]] = {name: {} for name in module.roles}
    with guarded(f"module {entry.module!r}", entry.key, faults):
        tree = read_layer(entry.settings, entry.settings_key, module.settings, faults)
        settings = validate(module.settings, tree, entry.settings_key, faults)
        check_references(module.settings, entry.settings, entry.settings_key, roster, faults)
        for name, role_entry in entry.roles.items():
            if name not in module.roles:
                hint = faults.near_or_list(name, module.roles, f"roles of {entry.module!r}")
                faults.add(role_entry.key, f"unknown role {name!r}", hint)
                continue
            members[name] = find_members(entry, name, module.roles[name], roster, faults)
    if len(faults.faults) > before or settings is None:
        return None
    if any(members.values()):
        for key, message in count_faults(entry, members, module.roles):
            faults.add(key, message)
    else:
        faults.warn(entry.key, f"no machine has a role in {entry.name!r}")
    if len(faults.faults) > before:
        return None
    return Instance(
        name=entry.name,
        module=module,
        code=loaded.code,
        settings=settings,
        members=members,
        key=entry.key,
        origins=origins(tree),
    )


def load_module(entry: InstanceEntry, registry: Registry, faults: Faults) -> LoadedModule | None:
    """Return the instance's module; None once it is noted why it cannot be had."""
    try:
        return registry.get(entry.module, entry.module_input)
    except InventoryError as error:
        for fault in error.faults:
            key = (*entry.key, *fault.key) if fault.key else entry.module_key
            faults.add(key, fault.message, fault.hint)
        return None


def check_and_export(clan: Clan, faults: Faults) -> dict[str, Exports]:
    """Return what each instance exports, after its module has checked it."""
    exports: dict[str, Exports] = {}
    for name, instance in clan.instances.items():
        before = len(faults.faults)
        what = f"module {instance.module.name!r} of instance {name!r}"
        with guarded(what, instance.key, faults):
            for fault in instance.module.check(instance, clan):
                faults.add(fault.key or instance.key, fault.message, fault.hint)
            if len(faults.faults) == before:
                exported = instance.module.exports(instance, clan)
                refuse_odd_exports(exported)
                exports[name] = exported
    return exports


def refuse_odd_exports(exported: object) -> None:
    """Refuse what a module must not export; whoever uses it relies on that."""
    if not isinstance(exported, Exports):
        raise TypeError(f"exports must return Exports, not {type(exported).__name__}")
    if exported.networking is not None:
        for name, peer in exported.networking.peers.items():
            if not peer.hosts:
                raise ValueError(f"peer {name!r} has no host")
