"""The tor module: what a clan with onion services has made, and what its machines get."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.desk import Desk

from clan.model.exports import Var
from clan.model.generator import Inputs, Needed
from clan.model.plan import Due, File, HealthCheck, Package, Unit
from clan.modules.tor.module import TorModule
from clan.modules.tor.onion import is_address

if TYPE_CHECKING:
    from pathlib import Path

    from clan.model.generator import Generator
    from clan.model.plan import Resource

CLAN = """
[machines.nas]
[machines.laptop]
[instances.tor]
roles.server.machines.nas = {}
roles.client.machines.laptop = {}
"""
AUTHORITY = f"a orport=5000 no-v2 v3ident={'A' * 40} 198.51.100.1:7000 {'B' * 40}"
AUTH = Var(machine=None, generator="tor_tor_auth", file="client_key.pub")
NOTHING = Inputs(prompts={}, files={})


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)
    return Desk(tmp_path)


class Known:
    """The public vars that are there."""

    def __init__(self, **values: str) -> None:
        self.values = values

    def public(self, var: Var) -> str | None:
        return self.values.get(var.file.replace(".", "_"))


KNOWN = Known(client_key_pub="A" * 52)


def plan(
    desk: Desk, machine: str, role: str, text: str = CLAN, values: Known = KNOWN
) -> list[Resource]:
    clan = desk.open(text)
    return list(TorModule().plan(machine, role, clan.instances["tor"], clan, values))


def generators(desk: Desk) -> dict[tuple[str | None, str], Generator]:
    clan = desk.open(CLAN)
    found = TorModule().generators(clan.instances["tor"], clan)
    return {(generator.machine, generator.name): generator for generator in found}


def files(resources: list[Resource]) -> dict[str, File]:
    return {each.path: each for each in resources if isinstance(each, File)}


def test_a_server_has_a_key_and_the_clan_one_for_its_clients(desk: Desk) -> None:
    made = generators(desk)
    assert set(made) == {("nas", "tor_tor"), (None, "tor_tor_auth")}
    assert made[None, "tor_tor_auth"].users == ()


def test_what_tells_the_name_is_secret_and_the_name_stays_in_the_clan(desk: Desk) -> None:
    service = generators(desk)["nas", "tor_tor"]
    assert all(file.secret for file in service.files)
    assert [f.name for f in service.files if f.needed is Needed.NEVER] == ["hostname"]
    assert callable(service.make)
    first, second = (dict(service.make(NOTHING)) for _ in range(2))
    assert set(first) == {file.name for file in service.files}
    assert is_address(first["hostname"].decode().strip())
    assert first["hostname"] != second["hostname"]


def test_a_server_is_a_tor_of_its_own_that_lets_in_who_has_the_key(desk: Desk) -> None:
    resources = plan(desk, "nas", "server")
    found = files(resources)
    folder = "/etc/clan/tor/tor/server"
    assert isinstance(found[f"{folder}/hs_ed25519_secret_key"].content, Var)
    assert found[f"{folder}/clan.auth"].content == b"descriptor:x25519:" + b"A" * 52 + b"\n"
    torrc = found[f"{folder}/torrc"].content
    assert isinstance(torrc, bytes)
    assert b"HiddenServicePort 22 127.0.0.1:22\n" in torrc
    assert b"SocksPort 0\n" in torrc
    assert b"DirAuthority" not in torrc
    (unit,) = (each for each in resources if isinstance(each, Unit))
    assert unit.name == "clan-tor-tor.service"
    assert set(unit.restart_on) == set(found)
    assert Package(name="tor") in resources
    assert any(isinstance(each, HealthCheck) for each in resources)
    assert resources == plan(desk, "nas", "server")


def test_without_the_clients_key_the_service_waits_for_it(desk: Desk) -> None:
    (due,) = plan(desk, "nas", "server", values=Known())
    assert isinstance(due, Due)
    assert due.var == AUTH


def test_a_client_is_a_daemon_beside_the_system_s(desk: Desk) -> None:
    resources = plan(desk, "laptop", "client")
    torrc = files(resources)["/etc/clan/tor/tor/client/torrc"].content
    assert isinstance(torrc, bytes)
    assert b"SocksPort unix:/run/clan-tor-tor.client/socks" in torrc
    assert b"127.0.0.1" not in torrc
    port = CLAN + "[instances.tor.roles.client.settings]\nsocks_port = 9150\n"
    torrc = files(plan(desk, "laptop", "client", port))["/etc/clan/tor/tor/client/torrc"].content
    assert isinstance(torrc, bytes)
    assert b"SocksPort 127.0.0.1:9150\n" in torrc


def test_authorities_of_one_s_own_reach_machines_and_the_admin(desk: Desk) -> None:
    text = CLAN + f'[instances.tor.settings]\nauthorities = ["{AUTHORITY}"]\ntesting = true\n'
    for machine, role in (("nas", "server"), ("laptop", "client")):
        torrc = files(plan(desk, machine, role, text))[f"/etc/clan/tor/tor/{role}/torrc"].content
        assert isinstance(torrc, bytes)
        assert f"DirAuthority {AUTHORITY}\n".encode() in torrc
        assert b"TestingTorNetwork 1\n" in torrc
    networking = desk.open(text).exports["tor"].networking
    assert networking is not None
    assert networking.settings == {"authorities": [AUTHORITY], "testing": True}


def test_a_line_that_would_not_be_an_authority_is_a_fault(desk: Desk) -> None:
    for line in ("198.51.100.1:7000", AUTHORITY + "\\nSocksPort 1", "SocksPort 1"):
        text = CLAN + f'[instances.tor.settings]\nauthorities = ["{line}"]\n'
        (fault,) = desk.faults(text)
        assert "FINGERPRINT" in fault


def test_a_test_network_without_authorities_is_a_fault(desk: Desk) -> None:
    (fault,) = desk.faults(CLAN + "[instances.tor.settings]\ntesting = true\n")
    assert fault.startswith("clan.toml:8: instances.tor.settings.testing")


def test_what_was_replaced_goes_on_beside_what_replaces_it(desk: Desk) -> None:
    both = Known(client_key_pub="A" * 52, former_client_key_pub="B" * 52, former="nas\n")
    resources = plan(desk, "nas", "server", values=both)
    found = files(resources)
    folder = "/etc/clan/tor/tor/server"
    assert found[f"{folder}/former.auth"].content == b"descriptor:x25519:" + b"B" * 52 + b"\n"
    assert found[f"{folder}/former.hs_ed25519_secret_key"].content == Var(
        machine="nas", generator="tor_tor", file="former.hs_ed25519_secret_key"
    )
    torrc = found[f"{folder}/torrc"].content
    assert isinstance(torrc, bytes)
    assert [line for line in torrc.decode().splitlines() if line.startswith("Hidden")] == [
        "HiddenServiceDir /run/clan-tor-tor/onion",
        "HiddenServicePort 22 127.0.0.1:22",
        "HiddenServiceDir /run/clan-tor-tor/former.onion",
        "HiddenServicePort 22 127.0.0.1:22",
    ]
    (unit,) = (each for each in resources if isinstance(each, Unit))
    assert set(unit.restart_on) == set(found)
    keys = Known(client_key_pub="A" * 52, former_client_key_pub="B" * 52)
    found = files(plan(desk, "nas", "server", values=keys))
    assert "former.auth" in " ".join(found)
    assert "former.hs" not in " ".join(found)


def test_both_are_kept_for_the_machines_that_they_lead_to(desk: Desk) -> None:
    made = generators(desk)
    assert {each.overlaps for each in made.values()} == {("nas",)}
