"""temporary until the branch with links is merged."""

from __future__ import annotations

from typing import Any


def apply(link: dict[str, Any]) -> None: ...
def remove(name: str) -> None: ...
