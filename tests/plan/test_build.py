"""From a clan to one machine's plan: what its roles say, in the clan's order, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.desk import Desk
from tests.lab.office import MODULE

from clan.model.exports import Var
from clan.model.plan import Due, File, MachinePlan, Package
from clan.plan.build import due, plan

if TYPE_CHECKING:
    from pathlib import Path

    from clan.model.clan import Clan

CLAN = """
[meta]
name = "office"
[machines.nas]
tags = ["server"]
[machines.vps]
tags = ["server"]
[machines.laptop]
[instances.second]
module.name = "story"
roles.default.machines.nas.settings.packages = ["second"]
[instances.first]
module.name = "story"
roles.default.tags.server.settings.packages = ["first"]
roles.default.machines.vps.settings.files = { "/etc/motd" = "hello" }
"""


class NoValues:
    """A clan whose vars are not there yet."""

    def public(self, var: Var) -> str | None:
        del var
        return None


@pytest.fixture
def clan(tmp_path: Path) -> Clan:
    desk = Desk(tmp_path)
    desk.write("modules/story.py", MODULE)
    return desk.open(CLAN)


def test_a_plan_is_what_the_machine_s_roles_say(clan: Clan) -> None:
    nas = plan(clan, "nas", NoValues())
    assert dict(nas.resources) == {
        "second": (Package(name="second"),),
        "first": (Package(name="first"),),
    }
    assert list(nas.resources) == list(clan.instances)
    assert nas.full_name == "nas.office"
    vps = plan(clan, "vps", NoValues())
    assert set(vps.all()) == {Package(name="first"), File(path="/etc/motd", content=b"hello")}


def test_a_machine_without_roles_needs_nothing(clan: Clan) -> None:
    assert plan(clan, "laptop", NoValues()).all() == []


def test_two_plans_are_equal(clan: Clan) -> None:
    assert plan(clan, "nas", NoValues()) == plan(clan, "nas", NoValues())


def test_what_is_due_is_listed() -> None:
    missing = Due(var=Var(machine="nas", generator="keys", file="public"), why="not there yet")
    made = MachinePlan(
        machine="nas", full_name="nas.office", resources={"vpn": (Package(name="tree"), missing)}
    )
    assert due(made) == [missing]
