"""A family sets up its clan: what they type, what they see, what the file says."""

from __future__ import annotations

import json
import os
import pty
import re
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.conftest import Run


@pytest.fixture
def family(clan: Run) -> Run:
    assert clan("init").code == 0
    nas = ("nas", "--tag", "server", "--target-host", "root@192.168.1.10")
    assert clan("machines", "create", *nas).code == 0
    assert clan("machines", "create", "laptop", "--description", "Anna's").code == 0
    assert clan("instances", "add", "tor", "--role", "server:tag=server").code == 0
    return clan


def test_a_first_clan_is_made_and_never_overwritten(clan: Run, home: Path) -> None:
    first = clan("init")
    assert (first.code, first.out) == (0, "Wrote clan.toml.\n")
    assert clan("check").out == "All is well with home: no machines, no instances, no networks.\n"
    assert clan("show").out == "home\n\nNo machines\n\nNo networks\n\nNo instances\n"
    listed = clan("network", "list")
    assert (listed.code, listed.out) == (0, "")
    assert "There are no networks yet. `clan instances add lan" in listed.err
    for language in ("toml", "json", "nix"):
        again = clan("init", "--format", language)
        assert again.code == 2
        assert "there is a clan already: clan.toml" in again.err
    assert [path.name for path in home.iterdir()] == ["clan.toml"]


@pytest.mark.parametrize("language", ["toml", "json", "nix"])
@pytest.mark.parametrize("name", ["family", 'The "Smiths" ${x} \\', "☕"])
def test_a_first_clan_is_right_in_every_language(clan: Run, language: str, name: str) -> None:
    if language == "nix" and shutil.which("nix") is None:
        pytest.skip("nix is not installed")
    made = clan("init", "sub/folder", "--name", name, "--format", language, "--json")
    assert json.loads(made.out) == {"file": f"sub/folder/clan.{language}"}
    assert clan("--clan", "sub/folder", "check").code == 0
    shown = clan("--clan", "sub/folder", "select", "clan.meta.name")
    assert json.loads(shown.out) == name


def test_the_file_that_comes_of_it_is_what_a_person_would_write(family: Run, home: Path) -> None:
    text = (home / "clan.toml").read_text()
    written = "\n".join(line for line in text.splitlines() if not line.startswith("#"))
    assert re.sub(r"\n\n+", "\n\n", written).strip() == (
        '[meta]\nname = "home"\n\n'
        '[machines.nas]\ntags = ["server"]\ndeploy.targetHost = "root@192.168.1.10"\n\n'
        '[machines.laptop]\ndescription = "Anna\'s"\n\n'
        "[instances.tor]\nroles.server.tags.server = {}"
    )
    assert all(len(line) <= 80 for line in text.splitlines())
    assert family("check").code == 0


def test_the_clan_is_shown_in_eighty_columns(family: Run) -> None:
    assert family("show").out == (
        "home\n\n"
        "2 machines\n\n"
        "Machine  Target host        Tags    Description\n"
        "-----------------------------------------------\n"
        "nas      root@192.168.1.10  server\n"
        "laptop   -                  -       Anna's\n\n"
        "2 networks, tried in this order\n\n"
        "Network   Priority  Module    Peers\n"
        "-----------------------------------\n"
        "internet  2000      internet  nas\n"
        "tor       10        tor       nas\n\n"
        "2 instances\n\n"
        "Instance  Module    Roles\n"
        "--------------------------------\n"
        "tor       tor       server: nas\n"
        "internet  internet  default: nas\n"
    )
    many = [f"machine-number-{number}" for number in range(30)]
    for name in many:
        assert family("machines", "create", name, "--tag", "server").code == 0
    shown = family("show").out
    assert all(len(line) <= 80 for line in shown.splitlines())
    assert "and 21 more" in shown


def test_the_seed_query_prints_the_seed_shape(family: Run) -> None:
    result = family("select", "clan.exports.instances.*.networking.{priority,peers}")
    assert json.loads(result.out)["tor"] == {
        "priority": 10,
        "peers": {
            "nas": {
                "name": "nas",
                "SSHOptions": [],
                "host": {"var": {"machine": "nas", "generator": "tor_tor", "file": "hostname"}},
            }
        },
    }


def test_an_instance_without_networking_selects_as_an_empty_mapping(
    family: Run, home: Path
) -> None:
    (home / "modules").mkdir()
    (home / "modules/blabla.py").write_text(
        "from clan.model.module import Module, Role\n"
        "class Blabla(Module):\n"
        "    name = 'blabla'\n    description = 'Talks.'\n"
        "    roles = {'default': Role(description='Talks.')}\n"
        "module = Blabla\n"
    )
    assert family("instances", "add", "blabla", "--role", "default:nas").code == 0
    result = family("select", "clan.exports.instances.*.networking.priority")
    assert json.loads(result.out) == {"tor": 10, "internet": 2000, "blabla": {}}
    result = family("select", "clan.exports.instances.?*.networking.priority")
    assert json.loads(result.out) == {"tor": 10, "internet": 2000}


def test_every_part_of_the_clan_can_be_selected(family: Run) -> None:
    machine = json.loads(family("select", "clan.machines.nas").out)
    assert machine == {
        "name": "nas",
        "hostName": "nas",
        "tags": ["server"],
        "description": "",
        "deploy": {"targetHost": "root@192.168.1.10"},
    }
    assert json.loads(family("select", "clan.tags").out) == {
        "all": ["nas", "laptop"],
        "server": ["nas"],
    }
    roles = json.loads(family("select", "clan.instances.internet.roles").out)
    assert roles["default"]["machines"]["nas"]["settings"]["jumpHosts"] == []
    assert json.loads(family("select", "").out) == {
        "clan": json.loads(family("show", "--json").out)
    }


def test_a_wrong_query_is_told_before_the_clan_is_looked_for(clan: Run) -> None:
    result = clan("select", "clan.")
    assert (result.code, result.out) == (2, "")
    assert result.err.splitlines()[1:3] == ["  clan.", "      ^"]


def test_lists_are_for_people_and_for_programs(family: Run) -> None:
    assert family("machines", "list").out.splitlines()[2:] == [
        "nas      root@192.168.1.10  server",
        "laptop   -                  -       Anna's",
    ]
    listed = json.loads(family("machines", "list", "--tag", "server", "--json").out)
    assert [machine["name"] for machine in listed] == ["nas"]
    assert "did you mean 'server'?" in family("machines", "list", "--tag", "sever").err
    assert json.loads(family("instances", "list", "--json").out)[0] == {
        "name": "tor",
        "module": "tor",
        "roles": {"server": ["nas"], "client": []},
        "network": True,
    }


def test_a_machine_is_renamed_and_deleted(family: Run, home: Path) -> None:
    (home / "vars/per-machine/nas/tor_tor/hostname").mkdir(parents=True)
    (home / "vars/per-machine/nas/tor_tor/hostname/value").write_text("x.onion")
    assert family("machines", "rename", "nas", "box").code == 0
    assert (home / "vars/per-machine/box/tor_tor/hostname/value").read_text() == "x.onion"
    deleted = family("machines", "delete", "box", "--yes", "--json")
    assert json.loads(deleted.out) == {"changed": ["clan.toml"], "notes": []}
    assert "Its vars are still in" in deleted.err
    assert "box is of no machine of the clan" in family("check").err
    assert json.loads(family("select", "clan.tags").out) == {"all": ["laptop"]}


def test_without_a_terminal_nothing_asks_and_nothing_is_deleted(family: Run, home: Path) -> None:
    before = (home / "clan.toml").read_bytes()
    for command in (["machines", "delete", "nas"], ["instances", "remove", "tor"]):
        result = family(*command)
        assert result.code == 2
        assert "`--yes` goes ahead without asking" in result.err
    assert (home / "clan.toml").read_bytes() == before


@pytest.mark.parametrize(("answer", "code", "left"), [(b"y\n", 0, False), (b"\n", 1, True)])
def test_at_a_terminal_it_asks(
    family: Run, home: Path, answer: bytes, code: int, *, left: bool
) -> None:
    assert family("check").code == 0
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "clan", "machines", "delete", "nas"]
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs)
    os.write(ours, answer)
    assert process.wait(20) == code
    os.close(theirs)
    assert b"Delete machine nas from clan.toml? [y/N]" in os.read(ours, 4096)
    os.close(ours)
    assert ("[machines.nas]" in (home / "clan.toml").read_text()) is left


def test_every_fault_is_printed_with_its_line(family: Run, home: Path) -> None:
    file = home / "clan.toml"
    file.write_text(file.read_text() + '\n[instances.lan]\nroles.default.machines = ["a", "b"]\n')
    result = family("check")
    assert result.code == 3
    faults = [line for line in result.err.splitlines() if line.startswith("error: clan.toml:")]
    assert len(faults) == 2
    told = family("check", "--json")
    assert told.code == 3
    assert not json.loads(told.out)["ok"]
    assert [fault["key"][-1] for fault in json.loads(told.out)["faults"]] == [0, 1]


def test_it_is_said_what_a_firewall_in_front_has_to_let_in(clan: Run, home: Path) -> None:
    (home / "clan.toml").write_text("""\
[machines.berlin.deploy]
targetHost = "root@203.0.113.5"
[machines.nas.deploy]
targetHost = "root@192.168.1.5"
[machines.oslo]
[instances.mesh.roles.member]
tags = ["all"]
[instances.mesh.roles.member.machines.nas.settings]
addresses = ["nas.lan"]
[instances.mesh.roles.member.machines.oslo.settings]
addresses = ["oslo.example.org"]
tls = true
[instances.wireguard.roles.controller.machines.berlin.settings]
endpoint = "vpn.example.org"
""")
    shown = clan("check").out.splitlines()
    assert [" ".join(line.split()) for line in shown[-4:]] == [
        "berlin UDP 443, 23600-23663 mesh to relay",
        "berlin UDP 51820 wireguard to be called",
        "oslo UDP 443, 23600-23663 mesh to relay",
        "oslo TCP 443 mesh for streams",
    ]
    told = json.loads(clan("check", "--json").out)["openings"]
    assert [each["ports"] for each in told][:2] == [[[443, 443], [23600, 23663]], [[51820, 51820]]]


def test_a_module_that_crashes_at_that_is_a_fault(clan: Run, home: Path) -> None:
    (home / "modules").mkdir()
    (home / "modules/pigeon.py").write_text("""\
from clan.model.module import Module, Role

class Pigeon(Module):
    name, description = "pigeon", "Birds."
    roles = {"default": Role(description="Has some.")}

    def openings(self, instance, clan):
        yield 1 / 0

module = Pigeon
""")
    (home / "clan.toml").write_text("[instances.pigeon]\n")
    told = clan("check")
    assert told.code == 3
    assert "clan.toml:1: instances.pigeon: " in told.err
    assert "openings() crashed: ZeroDivisionError" in told.err


def test_a_faulty_file_can_be_mended_by_an_edit(family: Run, home: Path) -> None:
    file = home / "clan.toml"
    file.write_text(file.read_text() + '\n[machines."10"]\n')
    assert family("check").code == 3
    assert family("machines", "rename", "10", "ten").code == 0
    assert family("check").code == 0


def test_settings_are_set_on_all_levels(family: Run) -> None:
    added = family(
        *("instances", "add", "vpn", "--module", "wireguard", "--role", "peer:laptop"),
        *("--set", "controller:nas:endpoint=vpn.example.com", "--set", "priority=7"),
        *("--set", "controller:port=51821", "--set", "peer:laptop:controller=nas"),
    )
    assert added.code == 0
    vpn = json.loads(family("select", "clan.instances.vpn.{settings,roles}").out)
    assert vpn["settings"]["priority"] == 7
    assert vpn["roles"]["controller"]["machines"] == {
        "nas": {"settings": {"endpoint": "vpn.example.com", "port": 51821}}
    }
    assert vpn["roles"]["peer"]["machines"] == {"laptop": {"settings": {"controller": "nas"}}}


def test_a_wrong_setting_or_role_is_refused(family: Run) -> None:
    assert family("instances", "add", "b", "--module", "tor", "--set", "priority=x").code == 3
    assert family("instances", "add", "b", "--module", "tor", "--set", "=x").code == 2
    assert family("instances", "add", "b", "--module", "tor", "--role", "server").code == 2
    assert family("instances", "add", "b", "--module", "tor", "--set", "priority=7").code == 0
    assert json.loads(family("select", "clan.instances.b.settings.priority").out) == 7


def test_what_the_disk_refuses_is_told(clan: Run) -> None:
    result = clan("init", "/proc/nowhere")
    assert (result.code, result.out) == (1, "")
    assert result.err.startswith("error: /proc/nowhere: ")


def test_what_is_no_text_is_refused(family: Run) -> None:
    for arguments in (
        ["machines", "create", "pi", "--description", "\udcff"],
        ["machines", "create", "\udcff"],
        ["instances", "add", "b", "--module", "tor", "--set", "\udcff=\udcff"],
        ["select", "\udcff"],
        ["init", "sub", "--name", "\udcff"],
    ):
        result = family(*arguments)
        assert result.code == 2
        assert "udcff" in result.err


def test_a_terminal_that_lacks_a_letter_gets_its_escape(family: Run, home: Path) -> None:
    assert family("machines", "create", "pi", "--description", "☕ 😀").code == 0
    environment = os.environ | {"PYTHONIOENCODING": "latin-1"}
    for arguments, written in ((["list"], r"\u2615"), (["list", "--json"], r"\u2615 \ud83d\ude00")):
        done = subprocess.run(
            [sys.executable, "-m", "clan", "machines", *arguments],
            check=True,
            capture_output=True,
            text=True,
            cwd=home,
            env=environment,
        )
        assert written in done.stdout


def test_a_reader_that_stops_early_is_no_fault(family: Run, home: Path) -> None:
    assert family("check").code == 0
    line = f"{sys.executable} -m clan select clan | head -n 1"
    done = subprocess.run(
        ["bash", "-c", line], check=True, capture_output=True, text=True, cwd=home
    )
    assert (done.stdout, done.stderr) == ("{\n", "")


def test_a_nix_clan_is_edited_by_hand_with_a_snippet(clan: Run, home: Path) -> None:
    if shutil.which("nix") is None:
        pytest.skip("nix is not installed")
    (home / "clan.nix").write_text("{ machines.nas = { }; }\n")
    result = clan("machines", "create", "pi", "--tag", "a")
    assert result.code == 1
    assert 'machines.pi.tags = [ "a" ];' in result.err
    assert (home / "clan.nix").read_text() == "{ machines.nas = { }; }\n"


def test_changes_are_staged_and_not_committed(home: Path, clan: Run) -> None:
    subprocess.run(["git", "init", "-q", str(home)], check=True)
    clan("init")
    clan("machines", "create", "nas")
    status = ["git", "-C", str(home), "status", "--short"]
    assert subprocess.run(status, check=True, capture_output=True, text=True).stdout == (
        "A  clan.toml\n"
    )


def test_colour_is_for_terminals_that_want_it(
    family: Run, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def at_terminal(*arguments: str) -> bytes:
        ours, theirs = pty.openpty()
        command = [sys.executable, "-m", "clan", *arguments]
        subprocess.run(command, check=False, stdin=theirs, stdout=theirs, stderr=theirs)
        os.close(theirs)
        text = os.read(ours, 65536)
        os.close(ours)
        return text

    assert home.is_dir()
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert b"\x1b[" in at_terminal("machines", "list")
    assert b"\x1b[" in at_terminal("machines", "delete", "nobody", "--yes")
    monkeypatch.setenv("NO_COLOR", "1")
    assert b"\x1b[" not in at_terminal("machines", "list")
    assert b"\x1b[" not in at_terminal("machines", "delete", "nobody", "--yes")
    assert "\x1b[" not in family("machines", "list").out
    assert "\x1b" not in family("machines", "delete", "\x1b[31m").err
