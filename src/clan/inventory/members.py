"""Who has a role, with which settings: tags become machines, layers become validated settings.

Machines with the same layers share one validated value: a thousand machines of one tag cost one
validation. That is what keeps ten thousand machines linear and fast.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.inventory.layers import Tree, conflicts, merged, origins, read_layer
from clan.inventory.references import references, refers
from clan.inventory.settings import validate
from clan.model.clan import RoleMember
from clan.model.names import ALL

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.inventory.faults import Faults
    from clan.model.inventory import InstanceEntry, KeyPath, RoleEntry
    from clan.model.module import Role, Settings

Layers = tuple[str, ...]
"""The tags that give a machine its role, in the order of the file."""


class Roster:
    """The machines of the clan and what they carry, in the clan's order."""

    def __init__(self, tags: Mapping[str, tuple[str, ...]]) -> None:
        """`tags` is tag -> machines; `all` holds every machine."""
        self.tags = tags
        self.order = {name: index for index, name in enumerate(tags[ALL])}


def find_members(
    instance: InstanceEntry,
    role_name: str,
    role: Role,
    roster: Roster,
    faults: Faults,
) -> dict[str, RoleMember]:
    """Return machine -> RoleMember for one role of an instance, in the clan's order."""
    entry = instance.roles[role_name]
    for tag in entry.tags:
        note_unknown_tag(tag, entry, roster, faults)
    machines = [name for name in entry.machines if known_machine(name, entry, roster, faults)]
    carried: dict[str, Layers] = {}
    for tag in entry.tags:
        for name in roster.tags.get(tag, ()):
            carried[name] = (*carried.get(name, ()), tag)
    for name in machines:
        carried.setdefault(name, ())
    settler = Settler(entry, role.settings, roster, faults)
    members: dict[str, RoleMember] = {}
    for name in sorted(carried, key=roster.order.__getitem__):
        member = settler.member(name, carried[name])
        if member is not None:
            members[name] = member
    settler.check_unused()
    return members


def note_unknown_tag(tag: str, entry: RoleEntry, roster: Roster, faults: Faults) -> None:
    """Note a tag that no machine carries: a fault when it is nearly one that is, else a warning.

    A tag that nobody carries yet is how a clan is prepared for machines to come.
    """
    if tag in roster.tags:
        return
    near = faults.near(tag, roster.tags)
    if near:
        faults.add(entry.tag_keys[tag], f"no machine has the tag {tag!r}", near)
    else:
        faults.warn(entry.tag_keys[tag], f"no machine has the tag {tag!r}")


def known_machine(name: str, entry: RoleEntry, roster: Roster, faults: Faults) -> bool:
    """Say whether the machine is one of the clan's; else it is a fault."""
    if name in roster.order:
        return True
    hint = faults.near_or_list(name, roster.order, "machines")
    faults.add(entry.machine_keys[name], f"unknown machine {name!r}", hint)
    return False


class Settler:
    """Works out the settings of each member of one role."""

    def __init__(
        self, entry: RoleEntry, schema: type[Settings], roster: Roster, faults: Faults
    ) -> None:
        self.entry = entry
        self.schema = schema
        self.roster = roster
        self.faults = faults
        self.role = read_layer(entry.settings, entry.settings_key, schema, faults)
        self.tags: dict[str, Tree] = {}
        for tag, settings in entry.tags.items():
            key = (*entry.tag_keys[tag], "settings")
            self.tags[tag] = read_layer(settings, key, schema, faults)
        self.shared: dict[Layers, RoleMember | None] = {}
        self.used: set[str] = set()
        check_references(schema, entry.settings, entry.settings_key, roster, faults)
        for tag, settings in entry.tags.items():
            key = (*entry.tag_keys[tag], "settings")
            check_references(schema, settings, key, roster, faults)

    def member(self, name: str, tags: Layers) -> RoleMember | None:
        """Return one machine's membership; None once its faults are noted."""
        key = self.entry.machine_keys.get(name)
        settings = self.entry.machines.get(name)
        if settings:
            own_key = (*self.entry.machine_keys[name], "settings")
            own = read_layer(settings, own_key, self.schema, self.faults)
            check_references(self.schema, settings, own_key, self.roster, self.faults)
            return self.settle(name, tags, own, self.entry.machine_keys[name])
        if tags not in self.shared or (key is not None and self.shared[tags] is None):
            at = key or self.entry.tag_keys[tags[0]]
            self.shared[tags] = self.settle(name, tags, {}, at)
        like = self.shared[tags]
        if like is None:
            return None
        at = key or self.entry.tag_keys[tags[0]]
        return RoleMember(machine=name, settings=like.settings, key=at, origins=like.origins)

    def settle(self, name: str, tags: Layers, own: Tree, key: KeyPath) -> RoleMember | None:
        """Merge the layers of one machine and validate the result."""
        self.used.update(tags)
        tree: Tree = {}
        for index, tag in enumerate(tags):
            for before in tags[:index]:
                for _, second in conflicts(self.tags[before], self.tags[tag], own):
                    self.faults.add(
                        second.key,
                        f"tags {before!r} and {tag!r} set {second.key[-1]!r} differently, "
                        f"and {name!r} has both",
                        "set it on the machine",
                    )
            tree = merged(tree, self.tags[tag])
        tree = merged(merged(self.role, tree), own)
        settings = validate(self.schema, tree, (*key, "settings"), self.faults)
        if settings is None:
            return None
        return RoleMember(machine=name, settings=settings, key=key, origins=origins(tree))

    def check_unused(self) -> None:
        """Look at the layers that no machine has yet: a misspelt key is a fault there too."""
        for tag, tree in self.tags.items():
            if tag not in self.used:
                key = (*self.entry.tag_keys[tag], "settings")
                validate(self.schema, tree, key, self.faults, partial=True)
        if self.role:
            validate(self.schema, self.role, self.entry.settings_key, self.faults, partial=True)


def check_references(
    schema: type[Settings],
    settings: Mapping[str, object],
    key: KeyPath,
    roster: Roster,
    faults: Faults,
) -> None:
    """Note the settings that must name a machine of the clan and do not."""
    if not refers(schema):
        return
    for reference in references(schema, settings, key):
        if reference.must and reference.name not in roster.order:
            hint = faults.near_or_list(reference.name, roster.order, "machines")
            faults.add(reference.key, f"unknown machine {reference.name!r}", hint)


def count_faults(
    instance: InstanceEntry,
    members: Mapping[str, Mapping[str, RoleMember]],
    roles: Mapping[str, Role],
) -> Iterator[tuple[KeyPath, str]]:
    """Yield the roles that too few or too many machines have."""
    for name, role in roles.items():
        count = len(members.get(name, ()))
        key = instance.roles[name].key if name in instance.roles else instance.key
        if count < role.least:
            yield key, f"role {name!r} needs at least {machines(role.least)}, and has {count}"
        if role.most is not None and count > role.most:
            yield key, f"role {name!r} takes at most {machines(role.most)}, and has {count}"


def machines(count: int) -> str:
    """Write a number of machines."""
    return "1 machine" if count == 1 else f"{count} machines"
