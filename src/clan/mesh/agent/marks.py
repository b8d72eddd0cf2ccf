"""The numbers by which the kernel knows what is the mesh's: marks, tables and the rules between.

What a link's WireGuard sends carries the link's mark, and a rule leads it to the table of the
link's uplink. So it leaves by that uplink or not at all, wherever the default route leads. There
are rules where there is another interface for it to lead to (`ground`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.mesh.agent.rtnetlink import PROTOCOL, Rule

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

FIRST = 0x0C1A0000
MASK = 0xFFFFFF00
"""Which bits say that a mark is ours. Tailscale looks for 0x40000 and 0x80000 in 0xff0000, which
these are not; wg-quick and Kubernetes use low numbers."""
_MOST = 0xFF

TABLES = 49_000_000
"""The table of an uplink is this and its interface's index."""
PRIORITY = 4900
"""Of our rules, at most: before Tailscale's (5210)."""

_FAMILIES = (4, 6)


def mark(number: int) -> int:
    """Return the mark of a link of this machine; links are numbered from 1 to 255."""
    if not 1 <= number <= _MOST:
        raise ValueError(f"a machine has no link {number}")
    return FIRST | number


def table(uplink: int) -> int:
    """Return the table of an uplink, by its interface's index."""
    return TABLES + uplink


def rules(uplinks: Mapping[int, int], there: Iterable[Rule] = ()) -> set[Rule]:
    """Return the rules that lead each mark to the table of its uplink, given by its index.

    They come before all others of those that are `there` but the kernel's first. A rule that is
    made without a priority, as wg-quick's for a full tunnel, gets one before all others, and would
    catch the mesh's datagrams: then ours have to move. To be at 0 from the start is no way out, as
    the two rules of wg-quick would then be in the wrong order.
    """
    others = [rule.priority for rule in there if rule.protocol != PROTOCOL and rule.priority > 0]
    first = max(1, min([PRIORITY, *(priority - 1 for priority in others)]))
    return {
        Rule(family=family, priority=first, mark=mark, table=table(index))
        for mark, index in uplinks.items()
        for family in _FAMILIES
    }
