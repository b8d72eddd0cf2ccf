"""Modules: installed ones and a clan's own, loaded when named, harmless when broken."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from clan.errors import InventoryError
from clan.inventory.registry import Registry

if TYPE_CHECKING:
    from tests.desk import Desk

OWN = """
from __future__ import annotations
from typing import ClassVar
from clan.errors import Fault
from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Role, Settings

class Member(Settings):
    speed: int = 1

class Carrier(Module):
    name = "pigeon"
    description = "Carrier pigeons."
    roles: ClassVar = {"loft": Role(description="Has a loft.", settings=Member, most=1)}

    def check(self, instance, clan):
        CHECK

    def exports(self, instance, clan):
        EXPORT

module = Carrier
"""
NO_HOST = """
        peer = Peer(name='a', hosts=())
        return Exports(networking=Networking(priority=1, technology='x:Y', peers={'a': peer}))
"""
USE = "[machines.a]\n[machines.b]\n[instances.pigeon]\nroles.loft.machines.a = {}\n"


def own(check: str = "return ()", export: str = "return Exports()") -> str:
    return OWN.replace("CHECK", check).replace("EXPORT", export)


def test_every_module_of_the_registry_loads(desk: Desk) -> None:
    registry = Registry(desk.folder)
    assert {"internet", "lan", "tor", "wireguard"} <= set(registry.names())
    for name in registry.names():
        loaded = registry.get(name)
        assert loaded.module.name == name
        assert loaded.code == f"clan.modules.{name}.module"
        assert loaded.module.description
        for role in loaded.module.roles.values():
            assert role.description
            assert all(field.description for field in role.settings.model_fields.values())
        assert all(field.description for field in loaded.module.settings.model_fields.values())


def test_a_module_that_is_not_named_is_not_loaded(desk: Desk) -> None:
    desk.write("modules/bomb.py", "raise SystemExit('loaded')")
    desk.write("modules/pigeon.py", own())
    assert "bomb" in Registry(desk.folder).names()
    desk.open(USE)


@pytest.mark.parametrize("file", ["modules/pigeon.py", "modules/pigeon/__init__.py"])
@pytest.mark.parametrize("source", ["", 'module.input = "self"\n'])
def test_the_clans_own_module_is_used_like_any(file: str, source: str, desk: Desk) -> None:
    path = desk.write(file, own())
    clan = desk.open(USE + source)
    instance = clan.instances["pigeon"]
    assert instance.module.description == "Carrier pigeons."
    assert instance.code == str(path)


def test_a_package_may_import_its_own_files(desk: Desk) -> None:
    desk.write("modules/pigeon/feathers.py", "COLOUR = 'grey'")
    desk.write("modules/pigeon/__init__.py", own() + "from .feathers import COLOUR\n")
    assert "pigeon" in desk.open(USE).instances


def test_a_name_that_is_installed_and_the_clans_own_must_say_which(desk: Desk) -> None:
    desk.write("modules/lan.py", own().replace("loft", "default"))
    text = "[machines.a]\n[instances.lan]\nroles.default.tags.all = {}\n"
    (fault,) = desk.faults(text)
    assert fault == (
        "clan.toml:2: instances.lan: module 'lan' is both installed and modules/lan.py "
        "(say which with module.input: 'clan-core' or 'self')"
    )
    ours = desk.open(text + 'module.input = "clan-core"\n').instances["lan"]
    theirs = desk.open(text + 'module.input = "self"\n').instances["lan"]
    assert ours.module.description != theirs.module.description == "Carrier pigeons."


def test_own_modules_are_named_when_one_is_misspelt(desk: Desk) -> None:
    desk.write("modules/pigeon.py", own())
    text = USE.replace("instances.pigeon", "instances.pigoen") + 'module.input = "self"\n'
    assert desk.faults(text) == [
        "clan.toml:3: instances.pigoen: unknown module 'pigoen' (did you mean 'pigeon'?)"
    ]


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 / 0", "crashed: ZeroDivisionError: division by zero ({file}:1)"),
        ("raise SystemExit(3)", "crashed: SystemExit: 3 ({file}:1)"),
        ("def", "crashed: SyntaxError: invalid syntax (pigeon.py, line 1)"),
        (
            "import nothing_like_it",
            "crashed: ModuleNotFoundError: No module named 'nothing_like_it' ({file}:1)",
        ),
        ("module = 7", "in {file} is no clan.model.module.Module (it needs a name"),
        ("module = dict", "in {file} is no clan.model.module.Module (it needs a name"),
        (
            "from clan.model.module import Module\nclass module(Module): pass",
            "crashed: AttributeError: 'module' object has no attribute 'name'",
        ),
    ],
)
def test_a_module_that_cannot_be_loaded_is_a_fault_that_names_it(
    code: str, said: str, desk: Desk
) -> None:
    file = desk.write("modules/pigeon.py", code)
    (fault,) = desk.faults(USE)
    assert fault.startswith("clan.toml:3: instances.pigeon: module 'pigeon' ")
    assert said.format(file=file) in fault


def test_a_file_without_a_module_says_what_to_write(desk: Desk) -> None:
    file = desk.write("modules/pigeon.py", "x = 1")
    assert desk.faults(USE) == [
        f"clan.toml:3: instances.pigeon: {file} has no `module` (write `module = YourModule` in it)"
    ]


def test_a_repaired_module_is_loaded_anew(desk: Desk) -> None:
    file = desk.write("modules/pigeon.py", "1 / 0")
    desk.faults(USE)
    file.write_text(own())
    assert "pigeon" in desk.open(USE).instances
    assert f"clan_own {file}" in sys.modules


@pytest.mark.parametrize(
    ("check", "export", "said"),
    [
        ("1 / 0", "return Exports()", "ZeroDivisionError: division by zero ("),
        ("yield 7", "return Exports()", "AttributeError: 'int' object has no attribute 'key' ("),
        ("return ()", "return clan.machines['z']", "KeyError: 'z' ("),
        ("return ()", "return None", "TypeError: exports must return Exports, not NoneType ("),
        (
            "return ()",
            NO_HOST,
            "ValueError: peer 'a' has no host (",
        ),
    ],
)
def test_a_module_that_crashes_does_not_hide_other_faults(
    check: str, export: str, said: str, desk: Desk
) -> None:
    desk.write("modules/pigeon.py", own(check, export))
    crash, other = desk.faults(USE + "[instances.lan.roles.default.machines.c]\n")
    assert crash.startswith(
        f"clan.toml:3: instances.pigeon: module 'pigeon' of instance 'pigeon' crashed: {said}"
    )
    assert crash.endswith("(this is a fault in the module)")
    assert other.startswith("clan.toml:5: instances.lan.roles.default.machines.c: unknown machine")


def test_a_fault_of_a_modules_check_is_told_like_any(desk: Desk) -> None:
    key = "instance.members['loft']['a'].where('speed')"
    desk.write(
        "modules/pigeon.py", own(f"yield Fault(message='too slow', key={key}, hint='feed it')")
    )
    text = "[machines.a]\n[instances.pigeon.roles.loft]\nmachines.a = {}\n"
    at = "instances.pigeon.roles.loft"
    assert desk.faults(text) == [f"clan.toml:3: {at}.machines.a: too slow (feed it)"]
    assert desk.faults(text + "settings.speed = 2\n") == [
        f"clan.toml:4: {at}.settings.speed: too slow (feed it)"
    ]


def test_too_many_machines_in_a_role_are_a_fault(desk: Desk) -> None:
    desk.write("modules/pigeon.py", own())
    assert desk.faults(USE + "roles.loft.tags.all = {}\n") == [
        "clan.toml:4: instances.pigeon.roles.loft: role 'loft' takes at most 1 machine, and has 2"
    ]


def test_settings_of_the_instance_may_name_machines_too(desk: Desk) -> None:
    settings = "class Whole(Settings):\n    home: MachineName = 'a'\n\nclass Carrier"
    code = (
        own()
        .replace("class Carrier", settings)
        .replace("Module, Role", "MachineName, Module, Role")
    )
    desk.write("modules/pigeon.py", code.replace("    roles:", "    settings = Whole\n    roles:"))
    assert desk.open(USE).instances["pigeon"].settings.model_dump() == {"home": "a"}
    (fault,) = desk.faults(USE + "settings.home = 'aa'\n")
    assert fault == (
        "clan.toml:5: instances.pigeon.settings.home: unknown machine 'aa' (did you mean 'a'?)"
    )


def test_two_packages_with_a_module_of_one_name_are_refused(desk: Desk) -> None:
    registry = Registry(desk.folder)
    registry.installed()["lan"] = {"here.lan:Lan", "there.lan:Lan"}
    with pytest.raises(InventoryError, match="two installed packages have a module 'lan'"):
        registry.get("lan")


def test_what_is_no_module_name_is_not_looked_for_in_the_folder(desk: Desk) -> None:
    desk.write("secret.py", "raise SystemExit")
    (desk.folder / "modules").mkdir()
    with pytest.raises(InventoryError, match=r"unknown module '../secret'"):
        Registry(desk.folder).get("../secret", "self")
