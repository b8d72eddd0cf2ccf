"""What is fast stays fast: help and completion import nothing that they do not need."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

HEAVY = {"asyncio", "cryptography", "rich", "pydantic", "tomlkit", "tree_sitter", "pyrage"}
CODE = """
import sys
from clan.cli.main import main
try:
    main()
finally:
    print(*sorted(set(sys.argv.pop().split(",")) & set(sys.modules)), file=sys.stderr)
"""
CLAN = """
[machines.nas]
tags = ["server"]
[machines.nuc]
[inventory.instances.tor]
[inventory.instances.home.module]
name = "mesh"
[inventory.instances.mesh]
[inventory.instances.meshes.module]
name = "tor"
"""


def run(folder: Path, *arguments: str, **environment: str) -> tuple[str, str]:
    """Run `clan`; return its output, and which heavy modules it imported."""
    code = CODE.replace("sys.argv.pop()", repr(",".join(HEAVY)))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        check=False,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | environment,
    )
    return done.stdout, done.stderr.strip()


def complete(folder: Path, words: str) -> list[str]:
    """Return what bash is offered for the last of the words; nothing heavy may be imported."""
    number = str(len(words.split(" ")) - 1)
    asked = {"_CLAN_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": number}
    out, heavy = run(folder, **asked)
    assert heavy == ""
    return [line.partition(",")[2] for line in out.splitlines() if line]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "clan.toml").write_text(CLAN)
    (tmp_path / "modules/ours").mkdir(parents=True)
    (tmp_path / "modules/ours/__init__.py").touch()
    (tmp_path / "modules/tiny.py").touch()
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["--version"],
        ["machines", "--help"],
        ["machines", "delete", "--help"],
        ["instances", "add", "--help"],
        ["select", "--help"],
        ["vars", "--help"],
        ["vars", "keys", "remove", "--help"],
        ["completion", "bash"],
    ],
)
def test_help_imports_nothing_heavy(tmp_path: Path, arguments: list[str]) -> None:
    out, heavy = run(tmp_path, *arguments)
    assert "clan" in out
    assert heavy == ""


def test_listing_networks_imports_nothing_that_only_connecting_needs(tmp_path: Path) -> None:
    modules = {"lan": "lan", "internet": "internet", "tor": "tor", "home": "mesh"}
    modules["vpn"] = "wireguard"
    members = {
        "tor": "roles.server.tags = ['all']",
        "home": "roles.member.tags = ['all']",
        "vpn": "roles.controller.machines.nas",
    }
    lines = ["[machines.nas]", "deploy.targetHost = 'nas.example.com'"]
    for name, module in modules.items():
        lines += [f"[instances.{name}]", f"module.name = '{module}'"]
        lines += [members.get(name, "roles.default.tags = ['all']")]
    lines[-1] += ".settings.endpoint = 'vpn.example.com'"
    (tmp_path / "clan.toml").write_text("\n".join(lines))
    out, heavy = run(tmp_path, "network", "list")
    assert all(name in out for name in modules)
    assert heavy == "pydantic"


def test_a_public_value_is_read_without_what_only_secrets_need(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from clan.vars.store import Store;"
        "store = Store.of(Path(sys.argv[1]), {}); store.write('nas', 'a', 'b', 'c');"
        "assert store.host_key('nas') is None and store.read('nas', 'a', 'b') == 'c';"
        "print(*{'pyrage', 'asyncio', 'pydantic', 'tomllib'} & set(sys.modules))"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    assert subprocess.run(command, check=True, capture_output=True).stdout.strip() == b""


COMPLETIONS = [
    ("clan mach", ["machines"]),
    ("clan machines re", ["rename"]),
    ("clan machines rename n", ["nas", "nuc"]),
    ("clan machines list --tag ", ["all", "server"]),
    ("clan machines delete nas --", ["--yes", "--json", "--help"]),
    ("clan instances remove t", ["tor"]),
    ("clan instances add t", ["tiny", "tor"]),
    ("clan instances add x --module o", ["ours"]),
    ("clan instances add x --role server:", None),
    ("clan --clan . machines rename nu", ["nuc"]),
    ("clan mesh status n", ["nas", "nuc"]),
    ("clan mesh map --network ", ["home", "mesh"]),
    ("clan mesh lo", ["log"]),
    ("clan completion f", ["fish"]),
]


@pytest.mark.parametrize(("words", "offered"), COMPLETIONS)
def test_names_are_completed(folder: Path, words: str, offered: list[str] | None) -> None:
    found = complete(folder, words)
    if offered is None:
        assert found == ["server:nas", "server:nuc", "server:tag=all", "server:tag=server"]
    else:
        assert found == offered


@pytest.mark.parametrize("text", ["{ nix", "[machines", "\udcff", "machines = 3", "[[machines]]"])
def test_a_file_with_faults_completes_what_can_be_read(tmp_path: Path, text: str) -> None:
    (tmp_path / "clan.toml").write_bytes(text.encode(errors="surrogateescape"))
    assert complete(tmp_path, "clan machines rename n") == []


def test_without_a_clan_there_are_no_names(tmp_path: Path) -> None:
    assert complete(tmp_path, "clan machines rename n") == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_says_how_to_install_it(tmp_path: Path, shell: str) -> None:
    out, _ = run(tmp_path, "completion", shell)
    assert f"# To install: clan completion {shell} > " in "\n".join(out.splitlines()[:2])
    assert "_CLAN_COMPLETE" in out


def test_bash_completes_with_the_script(folder: Path) -> None:
    script, _ = run(folder, "completion", "bash")
    bin_folder = os.path.dirname(sys.executable)  # noqa: PTH120 (a path for the environment)
    ask = (
        f"{script}\nCOMP_WORDS=(clan machines rename n) COMP_CWORD=3\n"
        '_clan_completion clan; printf "%s\\n" "${COMPREPLY[@]}"'
    )
    path = f"{bin_folder}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", ask],
        check=True,
        capture_output=True,
        text=True,
        cwd=folder,
        env=os.environ | {"PATH": path},
    )
    assert done.stdout.split() == ["nas", "nuc"]
