"""Two who open ports in one firewall: each takes away its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.machine.firewalls import Firewall, Rule, settle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Plain(Firewall):
    """A firewall that is a set of rules."""

    name = "plain"

    def __init__(self) -> None:
        self.rules: set[Rule] = set()

    def rules_here(self) -> bool:
        return True

    def wanted(self, opened: Iterable[Rule]) -> list[Rule]:
        return list(opened)

    def has(self, rule: Rule) -> bool:
        return rule in self.rules

    def add(self, rule: Rule) -> None:
        self.rules.add(rule)

    def remove(self, rule: Rule) -> None:
        self.rules.discard(rule)


def test_each_who_opens_takes_away_its_own(tmp_path: Path) -> None:
    firewall = Plain()
    theirs: Rule = ("tcp", "22", "")
    firewall.rules.add(theirs)
    generation, mesh = tmp_path / "one", tmp_path / "two"
    settle(generation, [("tcp", "22", ""), ("udp", "51820", "")], [firewall])
    settle(mesh, [("udp", "40001", "")], [firewall])
    settle(generation, [("tcp", "22", "")], [firewall])
    assert firewall.rules == {theirs, ("udp", "40001", "")}
    settle(mesh, [], [firewall])
    settle(generation, [], [firewall])
    assert firewall.rules == {theirs}
