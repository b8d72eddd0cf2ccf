"""Firewalls of somebody else's: they are asked to let through what a generation opens.

A packet passes a Linux machine when every table lets it: an accept in ours overrides no drop in
another. So what ours opens is opened in ufw and in firewalld too, where those rule, in their own
way and for good, as they load their rules at a boot themselves:

- ufw: rules with the comment `clan`, as its user would add them.
- firewalld: the port in every zone that an interface is in, now and permanently. No policy or zone
  of ours: firewalld makes those only with a reload, which takes away whatever others have added
  until then. Its zones forward inside themselves unless somebody has switched that off.

What somebody had opened already stays theirs. What we add is written down before, so that it is
taken away again whatever happens, and that it is done after, so that it is done. `settle` is cheap
while there is nothing to do: it is called every half a minute, as a firewall may be installed, or
started, later than we were.

Rules that nobody manages are only looked at: `clan.machine.blockers`.
"""

from __future__ import annotations

import json
import shutil
from abc import ABC, abstractmethod
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from clan.machine.layout import write
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping

Rule = tuple[str, ...]
"""`(protocol, port, interface)`, the last perhaps empty, or `("forward", interface)`; firewalld's
have the zone before that."""


class Firewall(ABC):
    """A firewall that somebody manages."""

    name: ClassVar[str]

    @abstractmethod
    def rules_here(self) -> bool:
        """Whether it is at work on this machine."""

    @abstractmethod
    def wanted(self, opened: Iterable[Rule]) -> list[Rule]:
        """Return the rules that let through what is opened. Raises StepError."""

    @abstractmethod
    def has(self, rule: Rule) -> bool:
        """Whether a rule is there, whosever it is. Raises StepError."""

    @abstractmethod
    def add(self, rule: Rule) -> None:
        """Add a rule, for now and for later boots. Raises StepError."""

    @abstractmethod
    def remove(self, rule: Rule) -> None:
        """Take a rule away again; one that is gone is no fault. Raises StepError."""


class Ufw(Firewall):
    """Debian's and Ubuntu's simple firewall (ufw(8))."""

    name = "ufw"
    configuration = Path("/etc/ufw/ufw.conf")

    def rules_here(self) -> bool:
        """Whether it is enabled."""
        try:
            text = self.configuration.read_text("utf-8", "replace")
        except OSError:
            return False
        return "enabled=yes" in text.lower().split() and shutil.which("ufw") is not None

    def wanted(self, opened: Iterable[Rule]) -> list[Rule]:
        """Return them all: it has neither zones nor anything else to know."""
        return list(opened)

    def has(self, rule: Rule) -> bool:
        """Look through what was added by hand, with a comment or without."""
        line = " ".join(["ufw", *self._words(rule)])
        added = run(["ufw", "show", "added"]).splitlines()
        return any(each.partition(" comment ")[0].strip() == line for each in added)

    def add(self, rule: Rule) -> None:
        """Add it with a comment, by which its user knows whose it is."""
        run(["ufw", *self._words(rule), "comment", "clan"])

    def remove(self, rule: Rule) -> None:
        """Delete it."""
        kind, *rest = self._words(rule)
        run(["ufw", kind, "delete", *rest] if kind == "route" else ["ufw", "delete", kind, *rest])

    @staticmethod
    def _words(rule: Rule) -> list[str]:
        """Write a rule as `ufw show added` does."""
        if rule[0] == "forward":
            return ["route", "allow", "in", "on", rule[1], "out", "on", rule[1]]
        protocol, port, interface = rule
        port = port.replace("-", ":")  # a range
        if interface:
            return ["allow", "in", "on", interface, "to", "any", "port", port, "proto", protocol]
        return ["allow", f"{port}/{protocol}"]


class Firewalld(Firewall):
    """The firewall of Fedora and its relatives, which Debian has too (firewall-cmd(1))."""

    name = "firewalld"

    def rules_here(self) -> bool:
        """Whether its daemon runs."""
        if shutil.which("firewall-cmd") is None:
            return False
        try:
            return run(["firewall-cmd", "--state"]).strip() == "running"
        except StepError:
            return False

    def wanted(self, opened: Iterable[Rule]) -> list[Rule]:
        """Return each port in all zones that are in use, or in that of its interface."""
        zones = {run(["firewall-cmd", "--get-default-zone"]).strip()}
        for line in run(["firewall-cmd", "--get-active-zones"]).splitlines():
            if line and not line[0].isspace():
                zones.add(line.split()[0])
        return [
            (zone, *rule)
            for rule in opened
            if rule[0] != "forward"
            for zone in sorted({_zone_of(rule[2])} if rule[2] else zones)
        ]

    def has(self, rule: Rule) -> bool:
        """Ask whether the zone has the port now."""
        try:
            run(["firewall-cmd", *self._words("query", rule)])
        except StepError:
            return False
        return True

    def add(self, rule: Rule) -> None:
        """Add the port, now and for good."""
        for when in ([], ["--permanent"]):
            run(["firewall-cmd", *when, *self._words("add", rule)])

    def remove(self, rule: Rule) -> None:
        """Remove the port, now and for good."""
        for when in ([], ["--permanent"]):
            run(["firewall-cmd", *when, *self._words("remove", rule)])

    @staticmethod
    def _words(verb: str, rule: Rule) -> list[str]:
        zone, protocol, port, _ = rule
        return [f"--zone={zone}", f"--{verb}-port={port}/{protocol}"]


def _zone_of(interface: str) -> str:
    try:
        return run(["firewall-cmd", f"--get-zone-of-interface={interface}"]).strip()
    except StepError:
        return run(["firewall-cmd", "--get-default-zone"]).strip()


FIREWALLS: tuple[Firewall, ...] = (Ufw(), Firewalld())


def settle(
    place: Path, opened: Collection[Rule], firewalls: Iterable[Firewall] = FIREWALLS
) -> None:
    """Have the firewalls that rule here let through what is opened, and no more of what was.

    `place` is the file in which what was added is noted: whoever opens has one. Raises StepError.
    """
    record = _read(place)
    for firewall in firewalls:
        ours = record.get(firewall.name, [])
        if not (opened or ours) or not firewall.rules_here():
            continue
        wanted = firewall.wanted(opened)
        for rule in [rule for rule in ours if rule not in wanted]:
            firewall.remove(rule)
            ours = [each for each in ours if each != rule]
            _note(place, record | {firewall.name: ours})
        begun = f"{firewall.name} begun"
        interrupted = record.pop(begun, [])
        for rule in [rule for rule in wanted if rule not in ours or rule in interrupted]:
            if not firewall.has(rule):
                ours = list(dict.fromkeys([*ours, rule]))
                _note(place, record | {firewall.name: ours, begun: [rule]})
                firewall.add(rule)
                _note(place, record | {firewall.name: ours})
        record = record | {firewall.name: ours}


def openings(manifest: Mapping[str, Any]) -> list[Rule]:
    """Return what a generation opens."""
    ports = [
        (each["protocol"], str(each["port"]), each["interface"] or "")
        for each in manifest.get("openings", ())
    ]
    return [*ports, *(("forward", name) for name in manifest.get("forwardings", ()))]


def _read(place: Path) -> dict[str, list[Rule]]:
    try:
        shape = json.loads(place.read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return {name: [tuple(rule) for rule in rules] for name, rules in shape.items()}


def _note(place: Path, record: Mapping[str, list[Rule]]) -> None:
    write(place, json.dumps(record).encode())
