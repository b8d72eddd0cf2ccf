"""What others reach machines by, as their modules say, for firewalls that no machine rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.errors import InventoryError
from clan.inventory.faults import Faults
from clan.model.boundary import guarded

if TYPE_CHECKING:
    from clan.model.clan import Clan
    from clan.model.module import Opening


def openings(clan: Clan) -> list[tuple[str, Opening]]:
    """Return them by machine, each with its instance's name. InventoryError has all faults."""
    faults = Faults()
    found: list[tuple[str, Opening]] = []
    for instance in clan.instances.values():
        with guarded(f"{instance.code}: openings()", instance.key, faults):
            found += [(instance.name, each) for each in instance.module.openings(instance, clan)]
    if faults.faults:
        raise InventoryError(tuple(faults.faults))
    return sorted(found, key=lambda each: (each[1].machine, each[0]))
