"""Lines of ours in files that are not ours: a marked block, the rest stays as it is, to the byte.

The block's last line says what else was done to the file, so that all of it can be undone: that the
file was made for the block, or that the line above was given the end it did not have.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.layout import draft_of, write

if TYPE_CHECKING:
    from collections.abc import Sequence

BEGIN = b"# begin clan: made by clan, changed by `clan machines update`"
END = b"# end clan"
MADE = END + b", which made this file"
ENDED = END + b", which ended the line above the block"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """A file without our block: what stands above it and below it, and the block's last line."""

    above: bytes
    below: bytes
    end: bytes | None


def set_block(path: Path, lines: Sequence[str], *, mode: int = 0o644) -> None:
    """Have a file contain exactly these lines in its block; without lines there is no block.

    A file that is not there is made where there are lines, and goes with them. Permissions and
    owner stay as they are, and where a link leads to a file it is the file that is changed.
    """
    path = Path(os.path.realpath(path))
    # Left by one that was killed.
    draft_of(path).unlink(missing_ok=True)
    owner = None
    try:
        before = path.read_bytes()
        found = path.stat()
        mode, owner = found.st_mode & 0o7777, (found.st_uid, found.st_gid)
    except FileNotFoundError:
        if lines:
            write(path, with_block(b"", lines, end=MADE), mode)
        return
    after = with_block(before, lines)
    if not after and _parts(before).end == MADE:
        path.unlink()
    elif after != before:
        write(path, after, mode, owner)


def with_block(data: bytes, lines: Sequence[str], *, end: bytes = END) -> bytes:
    """Return a file's bytes with its block replaced: where it stood, else at the end.

    `end` is the last line of a block that is new. A beginning without an end is no block: only
    that line goes, as what follows it may be someone else's.
    """
    parts = _parts(data)
    if not lines:
        above = parts.above.removesuffix(b"\n") if parts.end == ENDED else parts.above
        return above + parts.below
    above = parts.above
    if parts.end is not None:
        end = parts.end
    elif above and not above.endswith(b"\n"):
        above, end = above + b"\n", ENDED
    written = [line.encode("utf-8", "surrogateescape") for line in lines]
    return above + b"".join(line + b"\n" for line in (BEGIN, *written, end)) + parts.below


def _parts(data: bytes) -> _Parts:
    # At `\n` alone: another `\r` is part of its line.
    lines = [line + b"\n" for line in data.split(b"\n")]
    lines[-1] = lines[-1][:-1]
    begin: int | None = None
    for number, line in enumerate(lines):
        mark = line.rstrip(b"\r\n")
        if mark == BEGIN:
            begin = number
        elif mark in {END, MADE, ENDED} and begin is not None:
            rest = _parts(b"".join(lines[number + 1 :]))
            return _Parts(
                above=_without_marks(lines[:begin]), below=rest.above + rest.below, end=mark
            )
    return _Parts(above=_without_marks(lines), below=b"", end=None)


def _without_marks(lines: Sequence[bytes]) -> bytes:
    """Leave out beginnings without an end, so that no later end makes blocks of them."""
    return b"".join(line for line in lines if line.rstrip(b"\r\n") != BEGIN)
