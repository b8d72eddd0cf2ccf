"""The numbers by which the kernel knows what is the mesh's: marks, tables and the rules between.

What a link's WireGuard sends carries the link's mark, and a rule leads it to the table of the
link's uplink. So it leaves by that uplink or not at all, wherever the default route leads.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.agent.rtnetlink import Rule

if TYPE_CHECKING:
    from collections.abc import Mapping

FIRST = 0x0C1A0000
MASK = 0xFFFFFF00
"""Which bits say that a mark is ours. Tailscale looks for 0x40000 and 0x80000 in 0xff0000, which
these are not; wg-quick and Kubernetes use low numbers."""
_MOST = 0xFF

TABLES = 49_000_000
"""The table of an uplink is this and its interface's index."""
PRIORITY = 4900
"""Of our rules: before Tailscale's (5210) and wg-quick's (32765), which would catch it all."""

_FAMILIES = (4, 6)


def mark(number: int) -> int:
    """Return the mark of a link of this machine; links are numbered from 1 to 255."""
    if not 1 <= number <= _MOST:
        raise ValueError(f"a machine has no link {number}")
    return FIRST | number


def table(uplink: int) -> int:
    """Return the table of an uplink, by its interface's index."""
    return TABLES + uplink


def rules(uplinks: Mapping[int, int]) -> set[Rule]:
    """Return the rules that lead each mark to the table of its uplink, given by its index."""
    return {
        Rule(family=family, priority=PRIORITY, mark=mark, table=table(index))
        for mark, index in uplinks.items()
        for family in _FAMILIES
    }
