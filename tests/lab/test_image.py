from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from clan.errors import LabError, MissingProgramError
from clan.lab import image, repository

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("CLAN_LAB_CACHE", str(tmp_path))
    return tmp_path


def test_an_image_is_kept_by_its_recipe(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = image.wanted()
    assert first.folder.parent == cache
    assert image.wanted() == first
    monkeypatch.setattr(repository, "PACKAGES", (*repository.PACKAGES, "sl"))
    assert image.wanted() != first


def test_without_an_image_the_lab_says_how_to_make_it() -> None:
    with pytest.raises(LabError, match="there is no image") as caught:
        image.find()
    assert "clan lab image" in str(caught.value.hint)


def test_an_image_that_is_there_is_not_made_again() -> None:
    image.wanted().folder.mkdir()
    said: list[str] = []
    assert image.build(said.append) == image.find()
    assert said == []


def test_a_build_that_fails_leaves_no_image_and_takes_away_what_a_killed_one_left(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (cache / ".building-killed/image/root").mkdir(parents=True)
    monkeypatch.setitem(image.SUITES, image.OLDEST, "no-such-suite")
    monkeypatch.setattr(image, "_APT_OPTIONS", ("Acquire::http::Timeout 1",))
    monkeypatch.setenv("PATH", "/nowhere")
    said: list[str] = []
    with pytest.raises(MissingProgramError, match="mmdebstrap is not installed"):
        image.build(said.append)
    assert said == ["making a Debian 12 root"]
    assert [path.name for path in cache.iterdir()] == [".lock"]
