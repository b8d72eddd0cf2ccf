from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from clan.inventory.open import open_clan
from clan.model.exports import Var
from clan.model.inventory import Target
from clan.model.route import Jump, Network, Route
from clan.networks.routes import MOST_TABLES, Destination, RouteTable, destination, fingerprint

if TYPE_CHECKING:
    from pathlib import Path

ROUTE = Route(
    machine="nas",
    network=Network(name="tor", module="tor", technology="a:B", priority=10, settings={"x": [1]}),
    hosts=(Var(machine="nas", generator="tor_tor", file="hostname"), "2001:db8::1"),
    port=2222,
    user="admin",
    jumps=(Jump(target=Target(host="vps", user="me"), machine="vps.family"),),
    ssh_options=("-4",),
)
NAS = Destination(machine="nas", full_name="nas.family", routes=(ROUTE,))


@pytest.fixture
def clan_file(tmp_path: Path) -> Path:
    folder = tmp_path / "family"
    (folder / "modules").mkdir(parents=True)
    file = folder / "clan.toml"
    file.write_text("[meta]\nname = 'family'\n")
    return file


def test_what_is_kept_is_read_back_whole(tmp_path: Path, clan_file: Path) -> None:
    table = RouteTable(tmp_path / "cache", clan_file)
    assert table.read("nas") is None
    table.write("nas", fingerprint(clan_file), NAS)
    assert table.read("nas") == NAS


def test_who_logs_in_to_a_jump_host_is_who_logs_in_to_that_machine(clan_file: Path) -> None:
    clan_file.write_text(JUMPS)
    clan = open_clan(clan_file)
    routes = {name: destination(clan, name).routes[0] for name in ("a", "b", "c")}
    assert routes["a"].jumps[0].target.user == "anna"
    assert routes["b"].jumps[0].target.user == "me"
    assert routes["c"].jumps[0].target.user is None, "one that is no machine is ssh's own matter"


JUMPS = """
[meta]
name = "family"
[machines.vps]
deploy.targetHost = "anna@vps.example.com"
[machines]
a = {}
b = {}
c = {}
[instances.internet.roles.default.machines]
vps = {}
a.settings = { host = "10.0.0.5", jumpHosts = ["vps"] }
b.settings = { host = "10.0.0.6", jumpHosts = ["me@vps"] }
c.settings = { host = "10.0.0.7", jumpHosts = ["hop.example.com"] }
"""


@pytest.mark.parametrize("change", ["clan.toml", "modules/own.py"])
def test_any_change_of_what_routes_come_from_is_seen(
    tmp_path: Path, clan_file: Path, change: str
) -> None:
    table = RouteTable(tmp_path / "cache", clan_file)
    table.write("nas", fingerprint(clan_file), NAS)
    with (clan_file.parent / change).open("a") as file:
        file.write("# more\n")
    assert table.read("nas") is None


def test_for_nix_every_file_it_may_read_counts(tmp_path: Path) -> None:
    (tmp_path / "clan.nix").write_text("import ./more.nix")
    (tmp_path / "more.nix").write_text("{}")
    before = fingerprint(tmp_path / "clan.nix")
    (tmp_path / "more.nix").write_text("{ }")
    assert fingerprint(tmp_path / "clan.nix") != before


def test_a_table_written_for_older_files_is_not_taken_for_the_new(
    tmp_path: Path, clan_file: Path
) -> None:
    table = RouteTable(tmp_path / "cache", clan_file)
    state = fingerprint(clan_file)
    clan_file.write_text("[meta]\nname = 'other'\n")
    table.write("nas", state, NAS)
    assert table.read("nas") is None


def test_old_tables_go(tmp_path: Path, clan_file: Path) -> None:
    table = RouteTable(tmp_path / "cache", clan_file)
    for number in range(3 * MOST_TABLES):
        clan_file.write_text(f"# {number}\n")
        table.write("nas", fingerprint(clan_file), NAS)
    assert len(list(table.clan.iterdir())) <= MOST_TABLES
    assert table.read("nas") == NAS


@pytest.mark.parametrize("text", ["", "{", "[]", '{"machine": 1}'])
def test_a_broken_table_is_no_table(tmp_path: Path, clan_file: Path, text: str) -> None:
    table = RouteTable(tmp_path / "cache", clan_file)
    table.write("nas", fingerprint(clan_file), NAS)
    for file in table.clan.glob("*/*"):
        file.write_text(text)
    assert table.read("nas") is None


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_cache_that_cannot_be_written_is_no_failure(tmp_path: Path, clan_file: Path) -> None:
    (tmp_path / "cache").mkdir(mode=0o500)
    table = RouteTable(tmp_path / "cache", clan_file)
    table.write("nas", fingerprint(clan_file), NAS)
    assert table.read("nas") is None
