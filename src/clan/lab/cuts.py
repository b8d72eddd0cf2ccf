"""Cutting what runs over a cable or an uplink, and restoring it exactly.

A cut is a rule in a table of its own (`cuts`, see `clan.lab.router`) with the cut written in its
comment: the kernel's rules are the only record of what is cut, so the two cannot differ.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from clan.lab.network import inside

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.lab.processes import Runner


class Direction(StrEnum):
    """Which packets a cut loses, seen from the machine or site that is cut."""

    IN = "in"
    OUT = "out"
    BOTH = "both"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """One cut. `what` is a machine, a site or the admin; None stands for every protocol or port.

    A packet belongs to a port when it comes from it or goes to it.
    """

    what: str
    protocol: str | None = None
    port: int | None = None
    direction: Direction = Direction.BOTH

    def __str__(self) -> str:
        return f"{self.what} {self.protocol or '-'} {self.port or '-'} {self.direction}"

    @property
    def traffic(self) -> str:
        """What of the traffic is cut, for people: `udp 51820 out`."""
        words = [self.protocol or ("port" if self.port else "all"), str(self.port or "")]
        words += [] if self.direction is Direction.BOTH else [self.direction.value]
        return " ".join(word for word in words if word)


def read(text: str) -> Cut:
    """Read a cut from the words that `str` of it gives."""
    what, protocol, port, direction = text.split()
    return Cut(
        what=what,
        protocol=None if protocol == "-" else protocol,
        port=None if port == "-" else int(port),
        direction=Direction(direction),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The cuts of one namespace. `family` is `bridge` at the switches, `inet` at the internet."""

    namespace: str
    family: str

    def add(self, cut: Cut, device: str, run: Runner) -> None:
        """Make a cut at a device; a cut that is there already stays as it is."""
        if cut not in self.cuts(run):
            text = "".join(f"{line}\n" for line in rules(cut, device, self.family))
            run.step(inside(self.namespace, ["nft", "-f", "-"]), text=text)

    def remove(self, what: str | None, run: Runner) -> None:
        """Undo every cut of one machine or site, or of all."""
        doomed = [rule for rule in self._rules(run) if what in {None, read(rule["comment"]).what}]
        text = "".join(
            f"delete rule {self.family} cuts {rule['chain']} handle {rule['handle']}\n"
            for rule in doomed
        )
        if text:
            run.step(inside(self.namespace, ["nft", "-f", "-"]), text=text)

    def cuts(self, run: Runner) -> list[Cut]:
        """Return the cuts in force, oldest first."""
        return list(dict.fromkeys(read(rule["comment"]) for rule in self._rules(run)))

    def _rules(self, run: Runner) -> Iterable[dict[str, Any]]:
        argv = ["nft", "--json", "list", "table", self.family, "cuts"]
        listed: list[dict[str, Any]] = json.loads(run.step(inside(self.namespace, argv)))[
            "nftables"
        ]
        return [entry["rule"] for entry in listed if "rule" in entry]


def rules(cut: Cut, device: str, family: str) -> tuple[str, ...]:
    """Return the nft commands that make a cut: what is cut is dropped, never refused."""
    protocol = cut.protocol or "{ tcp, udp }"
    if cut.port:
        matches = [f"meta l4proto {protocol} th {end} {cut.port} " for end in ("sport", "dport")]
    elif cut.protocol:
        matches = [f"meta l4proto {protocol} "]
    else:
        matches = [""]
    sides = []
    if cut.direction is not Direction.IN:
        sides.append(("coming", "iifname"))
    if cut.direction is not Direction.OUT:
        sides.append(("going", "oifname"))
    return tuple(
        f'add rule {family} cuts {chain} {side} "{device}" {match}drop comment "{cut}"'
        for chain, side in sides
        for match in matches
    )
