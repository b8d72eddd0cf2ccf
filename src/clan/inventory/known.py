"""A name that must be one of those there are: the error for one that is not, in one wording."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.errors import ClanError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Collection

_FEW = 10
"""Fewer names than this are listed when none of them is near."""


def known(name: str, there: Collection[str], kind: str) -> str:
    """Return the name; a ClanError names the nearest when it is not there."""
    if name in there:
        return name
    near = did_you_mean(name, there)
    listed = f"there are {', '.join(sorted(there))}" if 0 < len(there) < _FEW else None
    raise ClanError(f"there is no {kind} {name!r}", hint=near or listed)
