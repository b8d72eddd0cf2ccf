"""Put a machine's plan together from what the modules say. Pure: values in, a value out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.model.plan import AuthorizedKey, Due, MachinePlan, Resource

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.model.clan import Clan
    from clan.model.module import Values


ADMINS = "(admins)"
"""Whose resources these are: no instance can be called so."""


def plan(clan: Clan, machine: str, values: Values, login_keys: Sequence[str] = ()) -> MachinePlan:
    """Return all that a machine must have, instance by instance, in the clan's order.

    `login_keys` are the admins' public keys, as root's authorized_keys has them on every machine.
    It takes as long as the machine has roles, not as long as the clan has machines.
    """
    resources: dict[str, tuple[Resource, ...]] = {}
    if login_keys:
        resources[ADMINS] = tuple(AuthorizedKey(key=key) for key in login_keys)
    for name, instance in clan.instances.items():
        found: dict[Resource, None] = {}
        for role, members in instance.members.items():
            if machine in members:
                found |= dict.fromkeys(instance.module.plan(machine, role, instance, clan, values))
        if found:
            resources[name] = tuple(found)
    return MachinePlan(machine=machine, full_name=clan.full_name(machine), resources=resources)


def due(plan: MachinePlan) -> list[Due]:
    """List the values that the plan lacks."""
    return [resource for resource in plan.all() if isinstance(resource, Due)]
