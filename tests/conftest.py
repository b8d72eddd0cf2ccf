from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from pathlib import Path

# Machines are shared: a slow example says nothing about the code. `scripts/check` takes a few of
# each property's examples, `scripts/test` many.
THOROUGH = bool(os.environ.get("CLAN_TEST_THOROUGH"))
settings.register_profile(
    "clan",
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    derandomize=True,
    max_examples=200 if THOROUGH else 25,
)
settings.load_profile("clan")


@pytest.fixture(autouse=True)
def own_home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Keep every test away from this user's own clan, memories and caches."""
    for name in ("CLAN_DIR", "CLAN_VARS_DIR", "NO_COLOR", "CLICOLOR_FORCE"):
        monkeypatch.delenv(name, raising=False)
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name, folder in (
        ("XDG_STATE_HOME", "state"),
        ("XDG_CACHE_HOME", "cache"),
        ("XDG_CONFIG_HOME", "config"),
    ):
        monkeypatch.setenv(name, str(home / folder))
    return home
