"""The configurations that people have, in each language and spelling, and what they mean."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clan.inventory.load import load, load_bytes
from clan.inventory.open import open_clan
from clan.inventory.registry import Registry
from clan.inventory.resolve import resolve

if TYPE_CHECKING:
    from tests.desk import Desk

EXAMPLES = Path(__file__).parents[2] / "examples"
needs_nix = pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="nix is not installed (apt install nix-bin)"
)


@needs_nix
@pytest.mark.parametrize("name", ["seed-000", "seed-001-single", "seed-001-multiple"])
def test_an_example_says_the_same_in_nix_and_toml(name: str) -> None:
    nix = open_clan(EXAMPLES / name / "nix" / "clan.nix")
    toml = open_clan(EXAMPLES / name / "toml" / "clan.toml")
    assert nix.meta == toml.meta
    assert set(nix.machines) == set(toml.machines)
    assert {n: e.to_json() for n, e in nix.exports.items()} == {
        n: e.to_json() for n, e in toml.exports.items()
    }
    assert nix.warnings == toml.warnings == ()


def test_the_first_example_exports_tor_as_it_is_printed() -> None:
    clan = open_clan(EXAMPLES / "seed-000" / "toml" / "clan.toml")
    networking = clan.exports["tor"].networking
    assert networking is not None
    shape = networking.to_json()
    assert {"priority": shape["priority"], "peers": shape["peers"]} == {
        "priority": 10,
        "peers": {
            "my_cool_machine": {
                "SSHOptions": [],
                "host": {
                    "var": {
                        "file": "hostname",
                        "generator": "tor_tor",
                        "machine": "my_cool_machine",
                    }
                },
                "name": "my_cool_machine",
            }
        },
    }
    assert clan.machines["my_cool_machine"].host_name == "my-cool-machine"
    assert clan.full_name("my_cool_machine") == "my-cool-machine.example"


SPELLINGS = {
    "instances, tags in a table": "[instances.tor]\nroles.server.tags.nixos = {}",
    "instances, tags in a list": '[instances.tor]\nroles.server.tags = ["nixos"]',
    "inventory.instances": '[inventory.instances.tor]\nroles.server.tags = ["nixos"]',
    "a machine by name": "[instances.tor]\nroles.server.machines.nas = {}",
    "machines in a list": '[instances.tor]\nroles.server.machines = ["nas"]',
    "module.name": '[instances.tor]\nmodule.name = "tor"\nroles.server.tags.nixos = {}',
    "module.input": '[instances.tor]\nmodule.input = "clan-core"\nroles.server.tags.nixos = {}',
    "the older one": '[services.tor.tor.roles.server]\ntags = ["nixos"]',
}


@pytest.mark.parametrize("text", SPELLINGS.values(), ids=SPELLINGS)
def test_every_spelling_means_the_same(text: str, desk: Desk) -> None:
    machines = '\n[machines.nas]\ntags = ["nixos"]\n[machines.tv]\n'
    assert list(desk.peers(text + machines, "tor")) == ["nas"]


def test_the_older_spelling_is_read_with_a_warning_that_shows_todays(desk: Desk) -> None:
    text = """\
machines.server1 = {}

[services.wireguard.myinstance]
roles.controller = { endpoint = "vpn.example.com", port = 51821, machines = ["server1"] }
"""
    clan = desk.open(text)
    member = clan.instances["myinstance"].members["controller"]["server1"]
    assert member.settings.model_dump() == {"endpoint": "vpn.example.com", "port": 51821}
    (warning,) = clan.warnings
    assert str(warning) == (
        "clan.toml:3: services.wireguard.myinstance: is the older spelling (today: "
        'instances.myinstance.module.name = "wireguard"; '
        'instances.myinstance.roles.controller.settings.endpoint = "vpn.example.com"; '
        "instances.myinstance.roles.controller.settings.port = 51821; "
        "instances.myinstance.roles.controller.machines.server1 = {})"
    )


def test_the_older_spelling_as_it_is_printed_loads_though_it_names_no_machine(desk: Desk) -> None:
    text = """\
[services.wireguard.myinstance]
roles.controller.endpoint = "vpn.example.com"
roles.controller.port = 51821
"""
    assert desk.warnings(text)[1] == (
        "clan.toml:1: services.wireguard.myinstance: no machine has a role in 'myinstance'"
    )


def test_a_fault_in_the_older_spelling_points_into_it(desk: Desk) -> None:
    text = (
        '[machines.a]\n[services.wireguard.vpn.roles.controller]\nmachines = ["a"]\nendpont = "x"\n'
    )
    role = "services.wireguard.vpn.roles.controller"
    assert [fault.split(" (")[0] for fault in desk.faults(text)] == [
        f"clan.toml:3: {role}.machines[0].settings.endpoint: is missing",
        f"clan.toml:4: {role}.endpont: unknown setting 'endpont'",
    ]


def test_settings_beside_and_below_in_the_older_spelling_are_not_merged(desk: Desk) -> None:
    text = "[services.wireguard.vpn.roles.controller]\nport = 1\nsettings.port = 2\n"
    (fault,) = desk.faults(text)
    assert fault == (
        "clan.toml:3: services.wireguard.vpn.roles.controller.settings: "
        "settings are here and beside: port (keep them in one place)"
    )


def test_snake_case_and_null_are_read_too(desk: Desk) -> None:
    text = {
        "meta": None,
        "machines": {
            "nas": {"deploy": {"target_host": "nas.example.com"}, "tags": None},
            "tv": None,
        },
        "instances": {"internet": {"roles": {"default": {"settings": {"jump_hosts": ["hop"]}}}}},
    }
    peer = desk.peers(json.dumps(text), "internet", "json")["nas"]
    assert peer["jumpHosts"] == ["hop"]
    assert peer["host"] == {"plain": "nas.example.com"}


def test_a_byte_order_mark_is_no_fault(desk: Desk) -> None:
    assert list(desk.open(b"\xef\xbb\xbf[machines.nas]\n").machines) == ["nas"]
    assert list(desk.open(b'\xef\xbb\xbf{"machines": {"nas": {}}}', "json").machines) == ["nas"]


@pytest.mark.parametrize(
    ("meta", "domain"),
    [
        ("", "clan"),
        ('name = "family"', "family"),
        ('name = "The Smiths"\ndomain = "smiths.home"', "smiths.home"),
    ],
)
def test_what_follows_the_dot_is_the_domain_else_the_name(
    meta: str, domain: str, desk: Desk
) -> None:
    clan = desk.open(f"[meta]\n{meta}\n[machines.nas]\n")
    assert clan.full_name("nas") == f"nas.{domain}"


def test_the_tag_all_is_every_machine_whether_it_says_so_or_not(desk: Desk) -> None:
    clan = desk.open('[machines.b]\ntags = ["all", "x", "x"]\n[machines.a]\n')
    assert clan.tags == {"all": ("b", "a"), "x": ("b",)}


def test_a_tag_that_no_machine_has_yet_is_a_warning(desk: Desk) -> None:
    text = "[machines.nas]\n[instances.tor]\nroles.server.tags.phones = {}\n"
    assert desk.warnings(text) == [
        "clan.toml:2: instances.tor: no machine has a role in 'tor'",
        "clan.toml:3: instances.tor.roles.server.tags.phones: no machine has the tag 'phones'",
    ]


def test_load_and_resolve_are_two_steps_for_who_edits_in_between(desk: Desk) -> None:
    path = desk.write("clan.toml", "[machines.nas]\n[services.lan.lan.roles.default]\n")
    inventory = load(path)
    assert [warning.line for warning in inventory.warnings] == [2]
    edited = load_bytes(path, "toml", b"[machines.vps]\n[instances.lan.roles.default.tags.all]\n")
    clan = resolve(edited, Registry(desk.folder))
    assert list(clan.instances["lan"].members["default"]) == ["vps"]
    assert path.read_text().startswith("[machines.nas]")
