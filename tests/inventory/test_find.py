"""Which clan a command is about."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clan.errors import ClanError
from clan.inventory.find import find_clan

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def homes(tmp_path: Path) -> Path:
    for name, file in (("family", "clan.toml"), ("work", "clan.json"), ("lab", "clan.nix")):
        (tmp_path / name / "deep" / "deeper").mkdir(parents=True)
        (tmp_path / name / file).touch()
    return tmp_path


def test_it_is_looked_for_upwards_from_where_one_stands(homes: Path) -> None:
    for start in (homes / "family", homes / "family" / "deep" / "deeper"):
        assert find_clan(None, {}, start) == homes / "family" / "clan.toml"


def test_the_option_wins_over_the_environment_and_that_over_the_place(homes: Path) -> None:
    environ = {"CLAN_DIR": str(homes / "work")}
    start = homes / "family"
    assert find_clan(None, environ, start) == homes / "work" / "clan.json"
    assert find_clan(str(homes / "lab"), environ, start) == homes / "lab" / "clan.nix"
    assert find_clan("../lab", environ, start).resolve() == homes / "lab" / "clan.nix"
    assert find_clan("deep/../clan.toml", {}, start).name == "clan.toml"
    assert find_clan("", {"CLAN_DIR": ""}, start) == homes / "family" / "clan.toml"


@pytest.mark.parametrize(
    ("explicit", "environ", "message"),
    [
        (None, {}, "no clan in {0} or above"),
        ("family/deep", {}, "--clan: no clan in {0}/family/deep (clan.toml, clan.json, clan.nix)"),
        ("nowhere", {}, "--clan: {0}/nowhere is no folder"),
        (None, {"CLAN_DIR": "nowhere"}, "CLAN_DIR: {0}/nowhere is no folder"),
    ],
)
def test_no_clan_is_an_error_that_says_how_to_make_one(
    explicit: str | None, environ: dict[str, str], message: str, homes: Path
) -> None:
    with pytest.raises(ClanError) as caught:
        find_clan(explicit, environ, homes)
    assert str(caught.value) == message.format(homes)
    assert caught.value.hint is not None
    assert "clan init" in caught.value.hint


def test_two_clan_files_in_a_folder_are_refused(homes: Path) -> None:
    (homes / "family" / "clan.nix").touch()
    with pytest.raises(ClanError, match=r"family has clan.toml and clan.nix"):
        find_clan(None, {}, homes / "family" / "deep")
