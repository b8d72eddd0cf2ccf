"""Static programs that clan brings along, for machines whose system has none as good.

A program is pinned by the Go module in the folder of its name, and has one line in `TABLE`. What a
machine already has, and how it says what it lacks, is `clan.machine`'s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULES = Path(__file__).parent
"""Where the Go modules are: each pins one program, with all it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What a program is built from: `go` is its package; `debian` is what does in its stead."""

    go: str
    debian: str


TABLE = {
    "wireguard-go": Source(go="golang.zx2c4.com/wireguard", debian="wireguard-go"),
}


@cache
def version(name: str) -> str:
    """Name what a program is built from, the same for every architecture: 16 hex digits."""
    pinned = b"".join((MODULES / name / file).read_bytes() for file in ("go.mod", "go.sum"))
    return hashlib.sha256(pinned).hexdigest()[:16]
