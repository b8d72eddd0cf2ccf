"""Settings on a role, a tag and a machine: the more specific wins, and all are checked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import Field

from clan.inventory.faults import Faults
from clan.inventory.layers import Tree, merged, read_layer
from clan.inventory.references import Reference, references
from clan.inventory.settings import validate
from clan.model.module import MachineName, MachineNameOrOther, Settings

if TYPE_CHECKING:
    from tests.desk import Desk

MACHINES = """
[machines.nas]
tags = ["home", "backup"]
[machines.tv]
tags = ["home"]
[machines.vps]
tags = ["cloud"]
"""


def members(desk: Desk, text: str) -> dict[str, dict[str, Any]]:
    clan = desk.open(text + MACHINES)
    found = clan.instances["web"].members["default"]
    return {
        name: member.settings.model_dump(exclude_defaults=True) for name, member in found.items()
    }


def test_the_machine_wins_over_its_tag_and_the_tag_over_the_role(desk: Desk) -> None:
    text = """
[instances.web]
module.name = "internet"
[instances.web.roles.default]
settings = { host = "any.example.com", user = "me" }
tags.home.settings = { host = "home.example.com", jump_hosts = ["hop"], port = 1 }
machines.tv.settings = { host = "tv.example.com", port = 2 }
machines.vps.settings.port = 3
"""
    assert members(desk, text) == {
        "nas": {"host": ("home.example.com",), "user": "me", "jump_hosts": ("hop",), "port": 1},
        "tv": {"host": ("tv.example.com",), "user": "me", "jump_hosts": ("hop",), "port": 2},
        "vps": {"host": ("any.example.com",), "user": "me", "port": 3},
    }


def test_a_list_replaces_the_list_below_it_in_whatever_spelling(desk: Desk) -> None:
    text = """
[instances.web]
module.name = "internet"
[instances.web.roles.default]
settings = { host = "any.example.com", jumpHosts = ["a", "b"] }
machines.vps.settings.jump_hosts = ["c"]
"""
    assert members(desk, text)["vps"]["jump_hosts"] == ("c",)


def test_members_come_in_the_order_of_the_clan(desk: Desk) -> None:
    text = """
[instances.web]
module.name = "lan"
[instances.web.roles.default]
machines = { vps = {}, nas = {} }
tags.home = {}
"""
    assert list(members(desk, text)) == ["nas", "tv", "vps"]


@pytest.mark.parametrize(
    ("machine", "agrees"),
    [("", False), ("machines.nas.settings.port = 3", True), ("machines.nas = {}", False)],
)
def test_tags_may_disagree_only_where_the_machine_decides(
    machine: str, agrees: bool, desk: Desk
) -> None:
    text = f"""
[instances.web]
module.name = "internet"
[instances.web.roles.default]
settings.host = "any.example.com"
tags.home.settings.port = 1
tags.backup.settings.port = 2
machines.tv.settings.host = "tv.example.com"
{machine}
"""
    if agrees:
        assert members(desk, text)["nas"]["port"] == 3
    else:
        (fault,) = desk.faults(text + MACHINES)
        assert fault.startswith("clan.toml:7: ")
        assert "tags 'home' and 'backup' set 'port' differently" in fault


def test_tags_that_say_the_same_agree(desk: Desk) -> None:
    text = """
[instances.web]
module.name = "internet"
[instances.web.roles.default]
tags.home.settings = { host = "home.example.com", jumpHosts = ["a"] }
tags.backup.settings.jump_hosts = ["a"]
machines.tv.settings.host = "tv.example.com"
"""
    assert members(desk, text)["nas"]["jump_hosts"] == ("a",)


class Inner(Settings):
    first_key: int = 1
    second: int = 2
    through: MachineNameOrOther | None = None


class Outer(Settings):
    table: Inner = Inner()
    maybe: Inner | None = None
    free: dict[str, dict[str, int]] = Field(default_factory=dict)
    either: int | tuple[int, ...] = 0
    owner: MachineName | None = None
    others: tuple[MachineName, ...] = ()
    several: tuple[Inner, ...] = ()
    needed: str = Field(description="What it is for.")


def settled(*layers: dict[str, Any]) -> Settings | list[str] | None:
    faults = Faults()
    tree: Tree = {}
    for index, layer in enumerate(layers):
        tree = merged(tree, read_layer(layer, (f"layer{index}",), Outer, faults))
    result = validate(Outer, tree, ("machine", "settings"), faults)
    return [str(fault) for fault in faults.faults] if faults.faults else result


def test_tables_merge_key_by_key_at_any_depth() -> None:
    result = settled(
        {"table": {"firstKey": 5}, "free": {"a": {"x": 1}, "b": {"y": 1}}, "needed": "x"},
        {"table": {"second": 6}, "free": {"a": {"x": 2, "z": 3}}},
    )
    assert isinstance(result, Outer)
    assert result.table == Inner(first_key=5, second=6)
    assert result.free == {"a": {"x": 2, "z": 3}, "b": {"y": 1}}


@pytest.mark.parametrize(
    ("layers", "faults"),
    [
        ([{}], ["machine.settings.needed: is missing (What it is for.)"]),
        (
            [{"needed": "x", "table": {"firstKey": "1"}}, {"table": {"second": 1}}],
            ["layer0.table.firstKey: must be a whole number, not '1'"],
        ),
        (
            [{"needed": "x", "table": {"frist_key": 1}}],
            ["layer0.table.frist_key: unknown setting 'frist_key' (did you mean 'first_key'?)"],
        ),
        (
            [{"needed": "x", "table": {"first_key": 1, "firstKey": 1}}],
            ["layer0.table.firstKey: is there twice: as 'first_key' and 'firstKey' (keep one)"],
        ),
        ([{"needed": "x", "table": 7}], ["layer0.table: must be a table, not 7"]),
        (
            [{"needed": "x", "maybe": {"second": True}}],
            ["layer0.maybe.second: must be a whole number, not true"],
        ),
        (
            [{"needed": "x", "either": "y"}],
            ["layer0.either: must be a whole number, not 'y' or must be a list, not 'y'"],
        ),
        (
            [{"needed": "x", "free": {"a": {"x": "1"}}}],
            ["layer0.free.a.x: must be a whole number, not '1'"],
        ),
        (
            [{"needed": "x", "several": [{}, {"firstKey": "z"}]}],
            ["layer0.several[1].firstKey: must be a whole number, not 'z'"],
        ),
        ([{"needed": None}], ["layer0.needed: must be a string, not null"]),
        ([{"needed": 1.5}], ["layer0.needed: must be a string, not 1.5"]),
    ],
)
def test_a_fault_points_at_the_layer_that_the_value_came_from(
    layers: list[dict[str, Any]], faults: list[str]
) -> None:
    assert settled(*layers) == faults


def test_settings_that_name_machines_are_found_wherever_they_are() -> None:
    settings = {
        "owner": "nas",
        "others": ["tv", "vps"],
        "table": {"through": "hop", "second": 1},
        "needed": "nas",
    }
    assert list(references(Outer, settings, ("s",))) == [
        Reference("nas", ("s", "owner"), must=True),
        Reference("tv", ("s", "others", 0), must=True),
        Reference("vps", ("s", "others", 1), must=True),
        Reference("hop", ("s", "table", "through"), must=False),
    ]
