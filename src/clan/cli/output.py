"""What commands print: JSON, plain tables, and colour where a person looks at it.

It knows widths and colours, and nothing of a clan. Data goes to standard output, all else to
standard error, so that a pipe never sees a warning.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import sys
import unicodedata
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

GAP = "  "
_NARROWEST = 12
"""Columns that a column of a table keeps even where there is no room for them."""


def wants_color() -> bool | None:
    """Return False where NO_COLOR is set (https://no-color.org), else None: a terminal decides."""
    return False if os.environ.get("NO_COLOR") else None


def say(text: str = "") -> None:
    """Print a line of data."""
    click.echo(text, color=wants_color())


def note(text: str) -> None:
    """Print a line for the person at the terminal, to standard error."""
    click.echo(text, err=True, color=wants_color())


def warn(text: str) -> None:
    """Print a warning to standard error."""
    note(f"{click.style('warning:', fg='yellow', bold=True)} {text}")


def say_json(value: Any) -> None:
    """Print a value as JSON; letters of all scripts as they are, where the output can hold them."""
    holds_all = (sys.stdout.encoding or "").casefold().replace("-", "") == "utf8"
    click.echo(json.dumps(value, indent=2, ensure_ascii=not holds_all))


def heading(text: str) -> str:
    """Return a line that stands above others."""
    return click.style(text, bold=True)


def table(columns: Sequence[str], rows: Iterable[Sequence[str]], *, width: int | None) -> str:
    """Return rows under a head and a rule, each column as wide as its widest cell.

    Where that is wider than `width`, the widest columns are broken between words. Cells hold no
    control characters afterwards, whatever they held before.
    """
    cells = [[_clean(cell) for cell in row] for row in rows]
    widths = [
        max(columns_of(cell) for cell in column) for column in zip([*columns], *cells, strict=True)
    ]
    gaps = len(GAP) * (len(widths) - 1)
    while width is not None and sum(widths) + gaps > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    lines = [heading(_row(columns, widths)), "-" * (sum(widths) + gaps)]
    for row in cells:
        broken = [_wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        lines += [_row(line, widths) for line in itertools.zip_longest(*broken, fillvalue="")]
    return "\n".join(lines)


def terminal_width() -> int | None:
    """Return how wide the terminal is; None where the output is no terminal: nothing is broken."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * (width - columns_of(cell)) for cell, width in zip(cells, widths, strict=True)
    )
    return GAP.join(padded).rstrip()


def _wrapped(text: str, width: int) -> list[str]:
    lines = [""]
    for word in text.split(" "):
        longer = f"{lines[-1]} {word}" if lines[-1] else word
        if columns_of(longer) <= width or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def _clean(text: str) -> str:
    return "".join(c if c.isprintable() else " " for c in text)


def columns_of(text: str) -> int:
    """Return how many columns of a terminal the text takes."""
    if text.isascii():
        return len(text)
    return sum(
        0 if unicodedata.combining(c) else 2 if unicodedata.east_asian_width(c) in "WF" else 1
        for c in text
    )
