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
    def present(self, rules: Iterable[Rule]) -> set[Rule]:
        """Return those of the rules that are there, whosever they are. Raises StepError."""

    @abstractmethod
    def add(self, rules: Iterable[Rule]) -> None:
        """Add rules, for now and for later boots; one that is there is no fault.

        Raises StepError.
        """

    @abstractmethod
    def remove(self, rules: Iterable[Rule]) -> None:
        """Take rules away again; one that is gone is no fault. Raises StepError."""


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

    def present(self, rules: Iterable[Rule]) -> set[Rule]:
        """Look through what was added by hand, with a comment or without."""
        shown = run(["ufw", "show", "added"]).splitlines()
        added = {each.partition(" comment ")[0].strip() for each in shown}
        return {rule for rule in rules if " ".join(["ufw", *self._words(rule)]) in added}

    def add(self, rules: Iterable[Rule]) -> None:
        """Add them with a comment, by which its user knows whose they are."""
        for rule in rules:
            run(["ufw", *self._words(rule), "comment", "clan"])

    def remove(self, rules: Iterable[Rule]) -> None:
        """Delete them."""
        for rule in rules:
            kind, *rest = self._words(rule)
            delete = [kind, "delete"] if kind == "route" else ["delete", kind]
            run(["ufw", *delete, *rest])

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
    """The firewall of Fedora and its relatives, which Debian has too (firewall-cmd(1)).

    Each call of its program takes half a second, whatever it has to say: there are few.
    """

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
        default = run(["firewall-cmd", "--get-default-zone"]).strip()
        zones = _zones(run(["firewall-cmd", "--get-active-zones"]))
        zone_of = {interface: zone for zone, those in zones.items() for interface in those}
        return [
            (zone, *rule)
            for rule in opened
            if rule[0] != "forward"
            for zone in ([zone_of.get(rule[2], default)] if rule[2] else sorted({default, *zones}))
        ]

    def present(self, rules: Iterable[Rule]) -> set[Rule]:
        """Ask each zone for its ports now."""
        found = set()
        for zone, those in _by_zone(rules).items():
            shown = run(["firewall-cmd", f"--zone={zone}", "--list-ports"]).split()
            found |= {rule for rule in those if any(_covers(each, rule) for each in shown)}
        return found

    def add(self, rules: Iterable[Rule]) -> None:
        """Add the ports, now and for good."""
        self._change("add", rules)

    def remove(self, rules: Iterable[Rule]) -> None:
        """Remove the ports, now and for good."""
        self._change("remove", rules)

    @staticmethod
    def _change(verb: str, rules: Iterable[Rule]) -> None:
        for zone, those in _by_zone(rules).items():
            ports = [f"--{verb}-port={port}/{protocol}" for _, protocol, port, _ in those]
            for when in ([], ["--permanent"]):
                run(["firewall-cmd", *when, f"--zone={zone}", *dict.fromkeys(ports)])


def _zones(shown: str) -> dict[str, list[str]]:
    """Return zone -> interfaces, as `firewall-cmd --get-active-zones` shows them."""
    found: dict[str, list[str]] = {}
    for line in shown.splitlines():
        if line and not line[0].isspace():
            interfaces = found.setdefault(line.split()[0], [])
        elif line.strip().startswith("interfaces:"):
            interfaces += line.split()[1:]
    return found


def _by_zone(rules: Iterable[Rule]) -> dict[str, list[Rule]]:
    found: dict[str, list[Rule]] = {}
    for rule in rules:
        found.setdefault(rule[0], []).append(rule)
    return found


def _covers(shown: str, rule: Rule) -> bool:
    """Whether a port or a range of them, as 5353/udp or 4000-4010/tcp, has all of a rule's."""
    _, protocol, port, _ = rule
    ports, _, known = shown.partition("/")
    (first, last), (low, high) = _range(port), _range(ports)
    return known == protocol and low <= first and last <= high


def _range(ports: str) -> tuple[int, int]:
    first, _, last = ports.partition("-")
    return int(first), int(last or first)


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
        gone = [rule for rule in ours if rule not in wanted]
        if gone:
            firewall.remove(gone)
            ours = [rule for rule in ours if rule in wanted]
            _note(place, record | {firewall.name: ours})
        begun = f"{firewall.name} begun"
        interrupted = record.pop(begun, [])
        new = [rule for rule in wanted if rule not in ours]
        there = firewall.present(new) if new else set()
        # What was interrupted may be there for now and not for good.
        missing = [r for r in wanted if r in interrupted or (r in new and r not in there)]
        if missing:
            ours = list(dict.fromkeys([*ours, *missing]))
            _note(place, record | {firewall.name: ours, begun: missing})
            firewall.add(missing)
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
