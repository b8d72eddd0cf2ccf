from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import pytest
from tests.cli.family import Family
from tests.sshd import Keys, Sshd, make_key, serving

from clan.cli.main import main

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a user gets of a command."""

    code: Any
    out: str
    err: str


class Run(Protocol):
    def __call__(self, *arguments: str) -> Result: ...


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in an empty folder, with nothing in the environment that is about a clan."""
    monkeypatch.delenv("CLAN_DIR", raising=False)
    monkeypatch.delenv("CLAN_VARS_DIR", raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def clan(home: Path, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run `clan` with these arguments in the folder."""
    assert home.is_dir()

    def run(*arguments: str) -> Result:
        capfd.readouterr()
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        out, err = capfd.readouterr()
        return Result(code=stop.value.code, out=out, err=err)

    return run


@pytest.fixture
def keys(tmp_path: Path) -> Keys:
    identity = tmp_path / "id"
    make_key(identity)
    return Keys(identity=identity)


@pytest.fixture
def nas(tmp_path: Path, keys: Keys) -> Iterator[Sshd]:
    with serving(tmp_path, "nas", keys) as server:
        yield server


@pytest.fixture
def impostor(tmp_path: Path, keys: Keys) -> Iterator[Sshd]:
    with serving(tmp_path, "impostor", keys) as server:
        yield server


@pytest.fixture
def family(tmp_path: Path, keys: Keys) -> Family:
    return Family(tmp_path / "family", keys)
