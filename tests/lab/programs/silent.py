"""An agent that keeps every map it has to itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clan.mesh import __main__, digest

if TYPE_CHECKING:
    from collections.abc import Iterator

honest = digest.missing


def withheld(*what: Any) -> Iterator[bytes]:
    return (each for each in honest(*what) if each[0] != digest.MAP)


digest.missing = withheld  # type: ignore[assignment]
__main__.main()
