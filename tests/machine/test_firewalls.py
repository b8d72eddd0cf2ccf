"""Two who open ports in one firewall: each takes away its own."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clan.machine.firewalls import Firewall, Rule, settle

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


class Plain(Firewall):
    """A firewall that is a set of rules."""

    name = "plain"

    def __init__(self) -> None:
        self.rules: set[Rule] = set()
        self.dies = ""

    def rules_here(self) -> bool:
        return True

    def wanted(self, opened: Iterable[Rule]) -> list[Rule]:
        return list(opened)

    def present(self, rules: Iterable[Rule]) -> set[Rule]:
        return self.rules.intersection(rules)

    def add(self, rules: Iterable[Rule]) -> None:
        for rule in rules:
            if self.dies == "before":
                raise KeyboardInterrupt
            self.rules.add(rule)
            if self.dies == "after":
                raise KeyboardInterrupt

    def remove(self, rules: Iterable[Rule]) -> None:
        self.rules.difference_update(rules)


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


@pytest.mark.parametrize("when", ["before", "after"])
def test_what_was_interrupted_is_done_and_is_still_ours(tmp_path: Path, when: str) -> None:
    firewall = Plain()
    rules: list[Rule] = [("udp", f"4000{number}", "") for number in range(4)]
    settle(tmp_path / "one", rules[:1], [firewall])
    firewall.dies = when
    with pytest.raises(KeyboardInterrupt):
        settle(tmp_path / "one", rules, [firewall])
    firewall.dies = ""
    settle(tmp_path / "one", rules, [firewall])
    assert firewall.rules == set(rules)
    settle(tmp_path / "one", [], [firewall])
    assert firewall.rules == set()
