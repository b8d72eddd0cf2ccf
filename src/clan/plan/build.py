"""Put a machine's plan together from what the modules say. Pure: values in, a value out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.model.plan import Due, MachinePlan, Resource

if TYPE_CHECKING:
    from clan.model.clan import Clan
    from clan.model.module import Values


def plan(clan: Clan, machine: str, values: Values) -> MachinePlan:
    """Return all that a machine must have, instance by instance, in the clan's order.

    It takes as long as the machine has roles, not as long as the clan has machines.
    """
    resources: dict[str, tuple[Resource, ...]] = {}
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
