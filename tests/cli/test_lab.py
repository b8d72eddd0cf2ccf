from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from clan.cli.lab import clan_folder, lab
from clan.errors import InventoryError, PrivilegeError, UsageError
from clan.lab import repository, schema
from clan.lab.state import State, name_for

if TYPE_CHECKING:
    from collections.abc import Iterator

COMMANDS = sorted(lab.commands)
REFERENCE = Path(__file__).parents[2] / "docs/reference/lab.md"


def test_the_lab_does_what_it_promises() -> None:
    promised = "up down status exec cut restore move shell run image"
    assert sorted(promised.split()) == COMMANDS


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_examples_and_its_place_in_the_reference(name: str) -> None:
    shown = CliRunner().invoke(lab, [name, "--help"])
    assert f"Examples:\n  clan lab {name}" in shown.output.replace("CLAN_LAB_CACHE=/srv/cache ", "")
    assert f"### clan lab {name}\n" in REFERENCE.read_text()


def keys() -> Iterator[tuple[str, str]]:
    for path, model in schema._KEYS.items():
        if path:
            heading = path[-1] if path[-1] != "*" else path[0]
            yield from ((heading, field) for field in model.model_fields)


@pytest.mark.parametrize(("heading", "key"), list(keys()))
def test_every_key_of_the_file_is_in_the_reference(heading: str, key: str) -> None:
    section = REFERENCE.read_text().partition(f"### {heading}\n")[2].partition("\n##")[0]
    assert f"`{key}`" in section


def test_the_references_example_is_a_lab(tmp_path: Path) -> None:
    text = REFERENCE.read_text().partition("```toml\n")[2].partition("```")[0]
    (tmp_path / "lab.toml").write_text(text)
    assert set(schema.load(tmp_path / "lab.toml").machines) == {"nas", "laptop", "vps"}


def test_the_reference_names_every_package_that_can_be_installed() -> None:
    assert [name for name in repository.PACKAGES if name not in REFERENCE.read_text()] == []


@pytest.mark.parametrize(
    "words",
    [
        ["up"],
        ["down"],
        ["status"],
        ["exec", "nas"],
        ["run", "true"],
        ["shell"],
        ["cut", "nas"],
        ["restore"],
        ["move", "nas", "home"],
        ["image"],
    ],
    ids=lambda words: words[0],
)
def test_the_lab_says_that_it_needs_root(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    result = CliRunner().invoke(lab, words, obj=str(tmp_path))
    assert isinstance(result.exception, PrivilegeError)
    assert result.exception.hint == "run it with sudo"


@pytest.mark.skipif(os.geteuid() != 0, reason="the lab needs root")
def test_up_without_a_file_says_where_one_should_be(tmp_path: Path) -> None:
    result = CliRunner().invoke(lab, ["up"], obj=str(tmp_path))
    assert isinstance(result.exception, InventoryError)
    assert str(tmp_path / "lab.toml") in str(result.exception)


def test_the_clans_folder_is_found_from_below(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "lab.toml").touch()
    (below := tmp_path / "vars/nas").mkdir(parents=True)
    monkeypatch.delenv("CLAN_DIR", raising=False)
    monkeypatch.chdir(below)
    assert clan_folder(None) == tmp_path
    assert clan_folder(str(below)) == below
    monkeypatch.setenv("CLAN_DIR", str(below))
    assert clan_folder(None) == below


def test_a_labs_name_is_the_folders_as_far_as_a_name_may_go(tmp_path: Path) -> None:
    assert name_for(tmp_path / "Our Family!") == "our-family"
    assert name_for(tmp_path / "../..") == name_for(tmp_path.parent.parent)
    for name in ("", "../etc", "a.b", "A", "x" * 64):
        with pytest.raises(UsageError, match="cannot be a lab's name"):
            State(name=name)
