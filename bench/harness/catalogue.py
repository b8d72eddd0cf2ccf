"""Which benches there are, and which of their rows a command line means."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import UsageError, did_you_mean

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bench.harness.row import Bench, Row

FOLDER = Path(__file__).parents[1]


def benches() -> dict[str, Bench]:
    """Return every bench by its name: the modules and packages of `bench/` that have a `BENCH`."""
    files = [*FOLDER.glob("*.py"), *(each.parent for each in FOLDER.glob("*/__init__.py"))]
    names = sorted(file.stem for file in files if not file.stem.startswith("_"))
    found = {name: importlib.import_module(f"bench.{name}") for name in names}
    return {name: module.BENCH for name, module in found.items() if hasattr(module, "BENCH")}


def choose(benches: Mapping[str, Bench], wanted: Sequence[str]) -> dict[str, Row]:
    """Return the rows that names mean, as `BENCH.ROW` -> row, in the order of their tables.

    A name is a bench's, or `BENCH.ROW`; no name means all. Raises UsageError for an unknown one.
    """
    rows = {
        f"{name}.{row.name.replace(' ', '-')}": row
        for name, bench in benches.items()
        for row in bench.rows
    }
    for name in wanted:
        if name not in rows and name not in benches:
            near = did_you_mean(name, [*benches, *rows])
            known = f"there are {', '.join([*benches, *rows])}"
            raise UsageError(f"there is no benchmark {name!r}", hint=near or known)
    return {
        name: row
        for name, row in rows.items()
        if not wanted or name in wanted or name.partition(".")[0] in wanted
    }
