"""Lines of ours in files that are not ours: a marked block, the rest stays as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.machine.layout import write

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

BEGIN = "# begin clan: made by clan, changed by `clan machines update`"
END = "# end clan"


def set_block(path: Path, lines: Sequence[str], *, mode: int = 0o644) -> None:
    """Have a file contain exactly these lines in its block; without lines there is no block.

    A file that is not there is made where there are lines. Its permissions stay as they are.
    """
    try:
        before = path.read_text("utf-8", "surrogateescape")
        mode = path.stat().st_mode & 0o7777
    except FileNotFoundError:
        if not lines:
            return
        before = ""
    after = with_block(before, lines)
    if after != before:
        write(path, after.encode("utf-8", "surrogateescape"), mode)


def with_block(text: str, lines: Sequence[str]) -> str:
    """Return the text with its block replaced: where it stood, else at the end."""
    kept: list[str] = []
    place: int | None = None
    inside = False
    for line in text.splitlines(keepends=True):
        mark = line.rstrip("\r\n")
        if mark == BEGIN and not inside:
            inside = True
            place = len(kept) if place is None else place
        elif mark == END and inside:
            inside = False
        elif not inside:
            kept.append(line)
    if not lines:
        return "".join(kept)
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    block = [f"{line}\n" for line in (BEGIN, *lines, END)]
    place = len(kept) if place is None else place
    return "".join([*kept[:place], *block, *kept[place:]])
