from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.vars.family import Family

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture
def family(tmp_path: Path) -> Family:
    """Return a family with one admin, Anna, who sits at this computer."""
    folder = tmp_path / "family"
    folder.mkdir()
    found = Family(folder)
    found.admin()
    return found
