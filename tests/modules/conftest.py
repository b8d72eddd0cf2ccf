from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.desk import Desk

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Desk:
    monkeypatch.chdir(tmp_path)  # so that faults name `clan.toml` and not a long path
    return Desk(tmp_path)
