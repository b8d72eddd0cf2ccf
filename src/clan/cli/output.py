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
USUAL_WIDTH = 80
"""Columns of a line of prose where no terminal says otherwise."""
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

    Where that is wider than `width`, columns are broken between words, and a word that is still too
    long for the last one has a line to itself: it is kept whole, to be copied. Cells hold no
    control characters afterwards, whatever they held before.
    """
    cells = [[_clean(cell) for cell in row] for row in rows]
    widths = _widths([list(columns), *cells], width)
    whole = sum(widths) + len(GAP) * (len(widths) - 1)
    lines = [heading(_row(columns, widths)), "-" * whole]
    for row in cells:
        broken = [wrapped(cell, width) for cell, width in zip(row, widths, strict=True)]
        for line in itertools.zip_longest(*broken, fillvalue=""):
            *most, last = line
            if columns_of(last) <= widths[-1]:
                lines.append(_row(line, widths))
            else:
                before = _row(most, widths[:-1])
                lines += [before] if before else []
                lines.append(" " * (whole - columns_of(last)) + last)
    return "\n".join(lines)


def _widths(rows: Sequence[Sequence[str]], width: int | None) -> list[int]:
    """Return how wide each column is in a table of `width`: the widest give way first.

    Down to their longest word at first; then the last one alone, as far as it goes.
    """
    columns = list(zip(*rows, strict=True))
    widths = [max(map(columns_of, column)) for column in columns]
    if width is None:
        return widths
    room = width - len(GAP) * (len(widths) - 1)
    words = [[word for cell in column for word in cell.split(" ")] for column in columns]
    least = [max(_NARROWEST, *map(columns_of, column)) for column in words]
    for floors in (least, [*least[:-1], _NARROWEST]):
        while sum(widths) > room:
            wide = [place for place, now in enumerate(widths) if now > floors[place]]
            if not wide:
                break
            widths[max(wide, key=widths.__getitem__)] -= 1
    return widths


def terminal_width() -> int | None:
    """Return how wide the terminal is; None where the output is no terminal: nothing is broken."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def _row(cells: Sequence[str], widths: Sequence[int]) -> str:
    padded = (
        cell + " " * (width - columns_of(cell)) for cell, width in zip(cells, widths, strict=True)
    )
    return GAP.join(padded).rstrip()


def wrapped(text: str, width: int) -> list[str]:
    """Break a text between words into lines of at most `width` columns, if its words allow."""
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
