"""What a clan's file may say: the one schema of clan.toml, clan.json and clan.nix.

    meta.{name,description,domain}
    machines.M.{tags,description}   machines.M.deploy.targetHost
    instances.I.{module.{name,input},settings,roles}
    instances.I.roles.R.{settings,tags,machines}
    instances.I.roles.R.tags = ["t"]         or  .tags.t = {}      or  .tags.t.settings
    instances.I.roles.R.machines = ["m"]     or  .machines.m = {}  or  .machines.m.settings

All of it may also stand below `inventory`. Keys of several words are camelCase or snake_case, not
both. The older `services.MODULE.INSTANCE.roles.ROLE.SETTING` is read with a warning. It is read
by hand, not by pydantic: a tag list that may be a table, two spellings of a key and a fault per
key are what this file is about, and a command has 150 ms.

It refuses unknown keys, wrong types and bad names. Whether a machine, a module or a role exists
is for `resolve`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from clan.inventory.faults import described, type_name
from clan.model import names
from clan.model.inventory import (
    EMPTY,
    InstanceEntry,
    Inventory,
    MachineEntry,
    Meta,
    RoleEntry,
    Target,
)
from clan.model.target import parse_target

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.inventory.faults import Faults
    from clan.model.inventory import KeyPath, Source

SECTIONS = ("meta", "machines", "instances", "services")
ROLE_KEYS = ("settings", "tags", "machines")
DEFAULT_NAME = "clan"
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class At(NamedTuple):
    """A value and the key where the file has it."""

    value: Any
    key: KeyPath


def read_tree(tree: dict[str, Any], source: Source, faults: Faults) -> Inventory:
    """Return the inventory that the tree describes, noting every fault on the way."""
    top = read_keys(At(tree, ()), (*SECTIONS, "inventory"), faults)
    places = [top]
    if "inventory" in top:
        places.append(read_keys(top["inventory"], SECTIONS, faults))
    meta: Meta | None = None
    machines: dict[str, MachineEntry] = {}
    instances: dict[str, InstanceEntry] = {}
    for place in places:
        if "meta" in place:
            if meta is not None:
                faults.add(place["meta"].key, "is there twice: `meta` and `inventory.meta`")
            meta = read_meta(place["meta"], faults)
        for name, at in read_table(place.get("machines"), faults):
            if name in machines:
                faults.add(at.key, f"machine {name!r} is there twice", "remove one")
            machines[name] = read_machine(name, at, faults)
        for name, at in read_table(place.get("instances"), faults):
            add_instance(read_instance(name, at, faults), instances, faults)
        for entry in read_services(place.get("services"), faults):
            add_instance(entry, instances, faults)
    return Inventory(
        source=source,
        meta=meta or Meta(name=DEFAULT_NAME, domain=DEFAULT_NAME),
        machines=machines,
        instances=instances,
    )


def add_instance(entry: InstanceEntry, instances: dict[str, InstanceEntry], faults: Faults) -> None:
    """Add an instance; one that is written in two places is a fault, not a merge."""
    if entry.name in instances:
        first = ".".join(str(part) for part in instances[entry.name].key)
        faults.add(entry.key, f"instance {entry.name!r} is there twice", f"it is also {first}")
    instances[entry.name] = entry


def read_meta(at: At, faults: Faults) -> Meta:
    """Read what the clan is called."""
    fields = read_keys(at, ("name", "description", "domain"), faults)
    name = read_string(fields.get("name"), faults)
    domain = read_string(fields.get("domain"), faults)
    if "name" in fields and name is not None and not name.strip():
        faults.add(fields["name"].key, "must not be empty")
    elif domain is not None and not names.is_domain(domain):
        faults.add(
            fields["domain"].key,
            f"{domain!r} cannot follow the dot in `nas.{DEFAULT_NAME}`: "
            "letters, digits and '-', labels joined by dots",
        )
    elif domain is None and name is not None and not names.is_domain(name):
        slug = re.sub(r"[^a-z0-9]+", "-", name.casefold()).strip("-")[:63].strip("-")
        faults.add(
            fields["name"].key,
            f"{name!r} cannot follow the dot in a machine's full name",
            f'keep it and set meta.domain, as in `domain = "{slug or DEFAULT_NAME}"`',
        )
    return Meta(
        name=name or DEFAULT_NAME,
        description=read_string(fields.get("description"), faults) or "",
        domain=domain or name or DEFAULT_NAME,
    )


def read_machine(name: str, at: At, faults: Faults) -> MachineEntry:
    """Read one machine."""
    fault = names.machine_fault(name)
    if fault:
        faults.add(at.key, fault)
    fields = read_keys(at, ("tags", "description", "deploy"), faults)
    tags: dict[str, None] = {}
    if "tags" in fields and not isinstance(fields["tags"].value, list):
        at_tags = fields["tags"]
        faults.add(at_tags.key, f"must be a list, not {type_name(at_tags.value)}")
    else:
        tags = dict.fromkeys(tag for tag, _ in read_tags(fields.get("tags"), faults))
    target = None
    if "deploy" in fields:
        deploy = read_keys(fields["deploy"], ("targetHost",), faults)
        target = read_target(deploy.get("targetHost"), faults)
    return MachineEntry(
        name=name,
        tags=tuple(tags),
        description=read_string(fields.get("description"), faults) or "",
        target_host=target,
        key=at.key,
    )


def read_target(at: At | None, faults: Faults) -> Target | None:
    """Read `[user@]host[:port]`."""
    text = read_string(at, faults)
    if at is None or text is None:
        return None
    try:
        return parse_target(text)
    except ValueError as fault:
        faults.add(at.key, str(fault), "write it as [user@]host[:port], IPv6 in brackets")
        # Kept as it is, so that the machine does not seem to lack an address too.
        return Target(host=text)


def read_instance(name: str, at: At, faults: Faults) -> InstanceEntry:
    """Read one instance."""
    fault = names.instance_fault(name)
    if fault:
        faults.add(at.key, fault)
    fields = read_keys(at, ("module", "settings", "roles"), faults)
    module = read_keys(fields["module"], ("name", "input"), faults) if "module" in fields else {}
    roles = {
        role: read_role(read_keys(value, ROLE_KEYS, faults), value.key, faults)
        for role, value in read_table(fields.get("roles"), faults)
    }
    return InstanceEntry(
        name=name,
        module=read_string(module.get("name"), faults) or name,
        module_input=read_string(module.get("input"), faults),
        settings=read_settings(fields.get("settings"), faults),
        roles=roles,
        key=at.key,
        settings_key=(*at.key, "settings"),
        module_key=module["name"].key if "name" in module else at.key,
    )


def read_role(fields: Mapping[str, At], key: KeyPath, faults: Faults) -> RoleEntry:
    """Read one role: its settings, and the tags and machines that have it."""
    tags = dict(read_tags(fields.get("tags"), faults))
    machines = dict(read_members(fields.get("machines"), faults))
    return RoleEntry(
        settings=read_settings(fields.get("settings"), faults),
        tags={name: member_settings(at, faults) for name, at in tags.items()},
        machines={name: member_settings(at, faults) for name, at in machines.items()},
        settings_key=(*key, "settings"),
        tag_keys={name: at.key for name, at in tags.items()},
        machine_keys={name: at.key for name, at in machines.items()},
        key=key,
    )


def read_services(at: At | None, faults: Faults) -> Iterator[InstanceEntry]:
    """Read the older spelling, where a role's settings stand beside its tags and machines."""
    for module, instances in read_table(at, faults):
        for name, instance in read_table(instances, faults):
            fault = names.instance_fault(name)
            if fault:
                faults.add(instance.key, fault)
            fields = read_keys(instance, ("roles",), faults)
            roles: dict[str, RoleEntry] = {}
            for role, value in read_table(fields.get("roles"), faults):
                entries = dict(read_table(value, faults))
                known = {key: entries.pop(key) for key in ROLE_KEYS if key in entries}
                entry = read_role(known, value.key, faults)
                beside = {key: old.value for key, old in entries.items()}
                if beside and "settings" in known:
                    faults.add(
                        known["settings"].key,
                        f"settings are here and beside: {', '.join(sorted(beside))}",
                        "keep them in one place",
                    )
                elif beside:
                    entry = replace_settings(entry, beside)
                roles[role] = entry
            faults.warn(instance.key, "is the older spelling", todays(module, name, roles))
            yield InstanceEntry(
                name=name,
                module=module,
                roles=roles,
                module_key=instance.key[:-1],
                key=instance.key,
                settings_key=(*instance.key, "settings"),
            )


def replace_settings(entry: RoleEntry, settings: Mapping[str, Any]) -> RoleEntry:
    """Return the role with settings that the file has beside its tags and machines."""
    from dataclasses import replace

    return replace(entry, settings=settings, settings_key=entry.key)


def todays(module: str, name: str, roles: Mapping[str, RoleEntry]) -> str:
    """Write how an instance of the older spelling is written today."""
    lines = [f'instances.{name}.module.name = "{module}"'] if module != name else []
    for role, entry in roles.items():
        at = f"instances.{name}.roles.{role}"
        lines += [f"{at}.settings.{key} = {literal(entry.settings[key])}" for key in entry.settings]
        lines += [f"{at}.tags.{tag} = {{}}" for tag in entry.tags]
        lines += [f"{at}.machines.{machine} = {{}}" for machine in entry.machines]
    return "today: " + "; ".join(lines or [f"instances.{name} = {{}}"])


def literal(value: Any) -> str:
    """Write a value as TOML and JSON do, where they agree; a table is not spelt out."""
    import json

    return "{ … }" if isinstance(value, dict) else json.dumps(value, default=str)


# Below: what every table, list and string has in common.


def read_keys(at: At, known: tuple[str, ...], faults: Faults) -> dict[str, At]:
    """Return the table's values by key in today's spelling; other keys are faults.

    A value of null says nothing, as Nix code that leaves a key open writes it.
    """
    found: dict[str, At] = {}
    for spelt, value in read_table(at, faults):
        key = spelt if spelt in known else camel(spelt)
        if key not in known:
            hint = faults.near_or_list(spelt, known, "known keys")
            faults.add(value.key, f"unknown key {spelt!r}", hint)
        elif key in found:
            other = str(found[key].key[-1])
            faults.add(value.key, f"is there twice: as {other!r} and {spelt!r}", "keep one")
        elif value.value is not None:
            found[key] = value
    return found


def camel(key: str) -> str:
    """Return `target_host` as `targetHost`."""
    return re.sub(r"(?<=[a-z0-9])_([a-z])", lambda match: match[1].upper(), key)


def read_table(at: At | None, faults: Faults, wanted: str = "a table") -> Iterator[tuple[str, At]]:
    """Yield a table's keys and values; nothing when it is not there."""
    if at is None or at.value is None:
        return
    if not isinstance(at.value, dict):
        faults.add(at.key, f"must be {wanted}, not {type_name(at.value)}")
        return
    for name, value in at.value.items():
        yield name, At(value, (*at.key, name))


def read_string(at: At | None, faults: Faults) -> str | None:
    """Return a string; None when it is not there or is none."""
    if at is None:
        return None
    if not isinstance(at.value, str):
        faults.add(at.key, f"must be a string, not {described(at.value)}")
        return None
    if not at.value.isprintable() and CONTROL.search(at.value):
        faults.add(at.key, "must be text without control characters")
    return at.value


def read_settings(at: At | None, faults: Faults) -> Mapping[str, Any]:
    """Return settings as they are written: their schema is the module's."""
    if at is None:
        return EMPTY
    if not isinstance(at.value, dict):
        faults.add(at.key, f"must be a table, not {type_name(at.value)}")
        return EMPTY
    return at.value


def read_members(at: At | None, faults: Faults) -> Iterator[tuple[str, At]]:
    """Yield names from a table of them, or from a list; a name twice in a list is one."""
    if at is None:
        return
    if not isinstance(at.value, list):
        yield from read_table(at, faults, "a table or a list")
        return
    for index, name in enumerate(at.value):
        item = At(name, (*at.key, index))
        text = read_string(item, faults)
        if text is not None:
            yield text, At(None, item.key)


def read_tags(at: At | None, faults: Faults) -> Iterator[tuple[str, At]]:
    """Yield tags from a table or a list, noting those that are none."""
    for tag, value in read_members(at, faults):
        fault = names.tag_fault(tag)
        if fault:
            faults.add(value.key, fault)
        yield tag, value


def member_settings(at: At, faults: Faults) -> Mapping[str, Any]:
    """Return the settings of one tag or machine in a role."""
    if at.value is None:
        return EMPTY
    return read_settings(read_keys(at, ("settings",), faults).get("settings"), faults)
