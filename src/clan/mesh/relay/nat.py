"""What the kernel does for a relay: the table, forwarding, and connections that it must forget.

Rules decide about a connection's first datagram alone; the others go as that one went. So after
each change the connections of all flows that changed are forgotten, and those that came to a flow's
port before it had rules.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.system import StepError, run
from clan.mesh.agent.conntrack import Conntrack
from clan.mesh.link import Endpoint
from clan.mesh.relay import table

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.mesh.relay.desk import Flow
    from clan.mesh.relay.table import Told

SETTINGS = Path("/proc/sys/net")
_ACCEPTS, _ACCEPTS_ANYWAY = "1", "2"
"""Values of accept_ra: router advertisements are believed unless, and although, one forwards."""


class Nat:
    """This machine's; `note` is a file, for root and until the next boot alone."""

    def __init__(self, note: Path) -> None:
        self._note = note
        self._conntrack = Conntrack()
        self._rules = ""
        self._done: frozenset[object] | None = None
        self._flows: dict[object, Flow] = {}
        self._seen: dict[int, tuple[int, int]] = {}

    def close(self) -> None:
        """Let go; the rules stay."""
        self._conntrack.close()

    def have(self, told: Told) -> bool:
        """Have the table say this, and forget what went otherwise; say whether it was changed.

        Raises StepError, OSError.
        """
        rules = table.ruleset(told)
        flows = {_essence(flow): flow for flow in told.flows}
        if rules == self._rules and flows.keys() == self._flows.keys():
            return False
        run(["nft", "-f", "-"], stdin=rules.encode())
        if not self._rules:
            # Of an earlier process; what it still has is not known.
            self._conntrack.forget_mark(table.FIRST, table.MASK)
        changed = flows.keys() ^ self._flows.keys()
        known = {**self._flows, **flows}
        self._forget(known[each] for each in changed)
        self._rules, self._flows, self._seen = rules, flows, {}
        return True

    def forget_table(self) -> None:
        """Note that somebody took the table away."""
        self._rules = ""

    def counts(self) -> dict[int, tuple[int, int]]:
        """Return the datagrams that came and left since the last call, by flows' numbers.

        Raises StepError.
        """
        now = {name: _counted(name) for name in ("came", "left")}
        totals = {
            number: (now["came"].get(number, 0), now["left"].get(number, 0))
            for number in now["came"].keys() | now["left"].keys()
        }
        before, self._seen = self._seen, totals
        return {
            number: (came - before.get(number, (0, 0))[0], left - before.get(number, (0, 0))[1])
            for number, (came, left) in totals.items()
        }

    def forward(self) -> tuple[str, ...]:
        """Have the kernel forward; return for which versions of IP that is the mesh's doing.

        Raises OSError.
        """
        ours = self._note.read_text().split() if self._note.exists() else []
        everywhere = {"ipv4": "ipv4/ip_forward", "ipv6": "ipv6/conf/all/forwarding"}
        for name, place in everywhere.items():
            setting = SETTINGS / place
            if not setting.exists() or setting.read_text().strip() != "0":
                continue
            ours = sorted({*ours, name})
            self._note.parent.mkdir(parents=True, exist_ok=True)
            self._note.write_text(" ".join(ours))
            if name == "ipv6":
                _keep_own_routes()
            setting.write_text("1")
        return tuple(ours)

    def _forget(self, flows: Iterable[Flow]) -> None:
        for flow in flows:
            for leg in flow.legs:
                here = Endpoint(host=leg.local, port=leg.port)
                self._conntrack.forget(leg.endpoint, here)


def _essence(flow: Flow) -> object:
    """Return what of a flow the kernel is told, or what its datagrams are known by."""
    legs = tuple((leg.side, leg.endpoint, leg.local, leg.port, leg.mark) for leg in flow.legs)
    return flow.number, flow.seat, legs, flow.in_kernel


def _counted(name: str) -> dict[int, int]:
    """Return the datagrams that a set counted, by flows' numbers."""
    try:
        shown = run(["nft", "-j", "list", "set", "inet", table.TABLE, name])
    except StepError as fault:
        if "No such file" in fault.said:
            return {}
        raise
    found: dict[int, int] = {}
    for each in json.loads(shown)["nftables"]:
        for element in each.get("set", {}).get("elem", ()):
            number = table.number(element["elem"]["val"])
            found[number] = found.get(number, 0) + element["elem"]["counter"]["packets"]
    return found


def _keep_own_routes() -> None:
    """Have routers' advertisements believed although this machine will forward."""
    for setting in (SETTINGS / "ipv6/conf").glob("*/accept_ra"):
        with contextlib.suppress(OSError):  # an interface that went away
            if setting.read_text().strip() == _ACCEPTS:
                setting.write_text(_ACCEPTS_ANYWAY)
