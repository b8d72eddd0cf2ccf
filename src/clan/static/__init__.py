"""Static programs that clan brings along, for machines whose system has none as good.

A program is the Go module in the folder of its name, which pins all it needs, and has one line in
`TABLE`. What a machine already has, and how it says what it lacks, is `clan.machine`'s.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

MODULES = Path(__file__).parent
"""Where the Go modules are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """What is to be known of a program: `debian` is the package that does in its stead."""

    debian: str


TABLE = {"wireguard-go": Source(debian="wireguard-go")}


@cache
def version(name: str) -> str:
    """Name what a program is built from, the same for every architecture: 16 hex digits."""
    written = [each for each in (MODULES / name).iterdir() if _is_source(each.name)]
    digests = [hashlib.sha256(each.read_bytes()).hexdigest() for each in sorted(written)]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()[:16]


def _is_source(file: str) -> bool:
    return file in {"go.mod", "go.sum"} or (file.endswith(".go") and not file.endswith("_test.go"))
