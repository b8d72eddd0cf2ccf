"""What the kernel does for a relay: the table, the ways that its datagrams take, and their number.

Rules name the next hop, as nobody looks for a route where they stand. It is that of the kernel's
own route to a leg, with the mark of the uplink that the leg came in by; it is asked for again
whenever something around this machine changed.
"""

from __future__ import annotations

import json
from ipaddress import ip_address
from typing import TYPE_CHECKING

from clan.machine.system import StepError, run
from clan.mesh.agent.kernel import Kernel
from clan.mesh.relay import table
from clan.mesh.relay.desk import Count
from clan.mesh.relay.table import FRAGMENTS, PASSED, TABLE, NextHop, Passed

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from clan.mesh.relay.desk import Flow, Leg


class Forwarding:
    """This machine's, over `uplinks`: their indices by name. Raises OSError without netlink."""

    def __init__(self) -> None:
        self._kernel = Kernel()
        self._uplinks: Mapping[str, int] = {}
        self._hops: dict[tuple[str, int], NextHop | None] = {}
        self._upheld: object = None
        self._seen: dict[int, Count] = {}

    def close(self) -> None:
        """Let go; the rules stay."""
        self._kernel.close()

    def settle(self, uplinks: Mapping[str, int]) -> None:
        """Look for ways anew, as something around this machine changed."""
        self._uplinks = dict(sorted(uplinks.items()))
        self._hops = {}

    def forget_table(self) -> None:
        """Note that somebody took the table away."""
        self._upheld = None

    def passed(self, flows: Iterable[Flow]) -> list[Passed]:
        """Return the flows that the kernel can pass on: those to both of whose legs it has a way.

        Raises NetlinkError.
        """
        found = []
        for flow in flows:
            hops = [hop for leg in flow.legs if (hop := self._hop(leg))]
            if flow.is_ready and flow.is_plain and len(hops) == len(flow.legs):
                found.append(Passed(flow=flow, hops=(hops[0], hops[1])))
        return found

    def have(self, passed: list[Passed]) -> bool:
        """Have the table say this; say whether it was changed. Raises StepError."""
        rules = table.ruleset(passed, self._uplinks)
        # An interface that was made anew has its name again, and none of the rules.
        wanted = rules, tuple(self._uplinks.values())
        if wanted == self._upheld:
            return False
        run(["nft", "-f", "-"], stdin=rules.encode())
        self._upheld, self._seen = wanted, {}
        return True

    def counts(self) -> dict[int, Count]:
        """Return what came since the last call, by flows' numbers. Raises StepError."""
        before, self._seen = self._seen, _counted()
        found = {}
        for number, now in self._seen.items():
            old = before.get(number, Count())
            found[number] = Count(now.passed - old.passed, now.fragments - old.fragments)
        return found

    def _hop(self, leg: Leg) -> NextHop | None:
        key = leg.endpoint.host, leg.mark
        if key not in self._hops:
            self._hops[key] = self._looked_for(*key)
        return self._hops[key]

    def _looked_for(self, host: str, mark: int) -> NextHop | None:
        address = ip_address(host)
        route = self._kernel.route(address, mark=mark)
        if route is None:
            return None
        neighbour = route.gateway or address
        names = (name for name, index in self._uplinks.items() if index == route.index)
        name = next(names, None)
        # The mesh's own interfaces are none; IPv4 by way of an IPv6 neighbour, rules cannot say.
        if name is None or neighbour.version != address.version:
            return None
        return NextHop(interface=name, neighbour=str(neighbour))


def _counted() -> dict[int, Count]:
    try:
        shown = run(["nft", "-j", "list", "counters", "table", "netdev", TABLE])
    except StepError as fault:
        if "No such file" in fault.said:
            return {}
        raise
    listed = (each["counter"] for each in json.loads(shown)["nftables"] if "counter" in each)
    packets = {each["name"]: each["packets"] for each in listed}
    numbers = [int(name.removeprefix(PASSED)) for name in packets if name.startswith(PASSED)]
    return {
        each: Count(passed=packets[f"{PASSED}{each}"], fragments=packets[f"{FRAGMENTS}{each}"])
        for each in numbers
    }
