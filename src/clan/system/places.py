"""Where this user's files are: the XDG base directories.

Source: XDG Base Directory Specification 0.8.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping


def _base(environ: Mapping[str, str], variable: str, fallback: str) -> Path:
    given = environ.get(variable, "")
    # The specification has relative paths ignored.
    base = Path(given) if given.startswith("/") else Path(environ.get("HOME", "/")) / fallback
    return base / "clan"


def state_home(environ: Mapping[str, str]) -> Path:
    """Return the folder for what was learnt and is worth keeping, `$XDG_STATE_HOME/clan`."""
    return _base(environ, "XDG_STATE_HOME", ".local/state")


def cache_home(environ: Mapping[str, str]) -> Path:
    """Return the folder for what can be made again, `$XDG_CACHE_HOME/clan`."""
    return _base(environ, "XDG_CACHE_HOME", ".cache")


def config_home(environ: Mapping[str, str]) -> Path:
    """Return the folder for what this user decided or owns, `$XDG_CONFIG_HOME/clan`."""
    return _base(environ, "XDG_CONFIG_HOME", ".config")
