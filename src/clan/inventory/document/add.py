"""Adding a table to a table: as a header, a line or a pair between braces, as its siblings are."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from clan.inventory.document.lines import (
    SPACE,
    Splice,
    blank_before,
    indent,
    lead,
    line_end,
    newline,
)
from clan.inventory.document.write import json_pair, toml_inline, toml_key, toml_lines

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clan.inventory.document.spans import Node, Outline, Pair, Section
    from clan.model.inventory import KeyPath

INDENT = "  "
"""One level of JSON, where the file does not show its own."""


def added(
    text: bytes, outline: Outline, parent: tuple[str, ...], name: str, value: Mapping[str, Any]
) -> Splice:
    """Return what adds `name = value` to the table at `parent`, which need not be there yet."""
    within, depth = outline.braces, 0
    for place in outline.places():
        if parent[: len(place.path)] == place.path and len(place.path) > depth:
            within, depth = place.pair.value, len(place.path)
    if outline.braces is not None and within is not None:
        first, *rest = (*parent[depth:], name)
        shape: Any = value
        for key in reversed(rest):
            shape = {key: shape}
        return _into_json(text, within, first, shape, _unit(text, outline.braces))
    if within is not None:
        return _into_inline(within, (*parent[depth:], name), value)
    return _into_toml(text, outline.sections, parent, name, value)


# -- between braces ----------------------------------------------------------------------------


def _into_inline(node: Node, keys: Sequence[str], value: Mapping[str, Any]) -> Splice:
    written = f"{'.'.join(map(toml_key, keys))} = {toml_inline(value)}"
    if not node.pairs:
        return Splice(start=node.start, end=node.end, text=f"{{ {written} }}".encode())
    end = node.pairs[-1].end
    return Splice(start=end, end=end, text=f", {written}".encode())


def _into_json(text: bytes, node: Node, name: str, value: Any, unit: str) -> Splice:
    written = json_pair(name, value, unit)
    if not node.pairs:
        outer = indent(text, node.start)
        inner = _indented(text, "\n" + written, outer + unit) + _indented(text, "\n", outer)
        return Splice(start=node.start + 1, end=node.end - 1, text=inner)
    last = node.pairs[-1]
    before = lead(text, last.start)
    if before.strip(SPACE):
        flat = re.sub(r"\n\s*", " ", written)
        return Splice(start=last.end, end=last.end, text=f", {flat}".encode())
    inner = b"," + _indented(text, "\n" + written, before.decode())
    return Splice(start=last.end, end=last.end, text=inner)


def _unit(text: bytes, braces: Node) -> str:
    """Return what one level is indented by, as the first pair shows it."""
    if braces.pairs:
        before = lead(text, braces.pairs[0].start)
        if before and not before.strip(SPACE):
            return before.decode()
    return INDENT


def _indented(text: bytes, written: str, by: str) -> bytes:
    return written.replace("\n", f"\n{by}").encode().replace(b"\n", newline(text))


# -- in TOML's lines ---------------------------------------------------------------------------


def _into_toml(
    text: bytes,
    sections: Sequence[Section],
    parent: tuple[str, ...],
    name: str,
    value: Mapping[str, Any],
) -> Splice:
    section, pair = _last_child(sections, parent)
    if section is not None and pair is not None:
        return _as_line(text, section, pair, parent=parent, name=name, value=value)
    header = ".".join(map(toml_key, (*parent, name)))
    return _as_section(text, section, [f"[{header}]", *toml_lines(value)])


def _last_child(sections: Sequence[Section], parent: KeyPath) -> tuple[Section | None, Pair | None]:
    """Find the last that is written of `parent`: a section about it, or a pair in one above it."""
    depth = len(parent)
    found: tuple[Section | None, Pair | None] = (None, None)
    for section in sections:
        if section.path[:depth] == parent and section.keys:
            found = (section, None)
        if len(section.path) > depth:
            continue
        for pair in section.pairs:
            path = (*section.path, *(token.name for token in pair.keys))
            if path[:depth] == parent:
                found = (section, pair)
    return found


def _as_line(
    text: bytes,
    section: Section,
    pair: Pair,
    *,
    parent: tuple[str, ...],
    name: str,
    value: Mapping[str, Any],
) -> Splice:
    """Write beside `pair`; where it is a dotted key below its element's name, so are the new."""
    above = len(parent) - len(section.path)
    start = lead(text, pair.start).decode()
    if above:
        start += text[pair.keys[0].start : pair.keys[above - 1].end].decode() + "."
    start += toml_key(name)
    if value and len(pair.keys) > above + 1:
        lines = [f"{start}.{line}" for line in toml_lines(value)]
    else:
        lines = [f"{start} = {toml_inline(value)}"]
    return _new_lines(text, line_end(text, pair.end), lines)


def _as_section(text: bytes, last: Section | None, lines: list[str]) -> Splice:
    """Write after the section `last`, or at the end; a blank line before, and one after."""
    at = len(text) if last is None else line_end(text, last.end)
    before = [] if not text[:at].strip() or blank_before(text, at) else [""]
    follows = text[at : line_end(text, at)].strip()
    return _new_lines(text, at, [*before, *lines, *([""] if follows else [])])


def _new_lines(text: bytes, at: int, lines: list[str]) -> Splice:
    end = newline(text)
    written = b"".join(line.encode() + end for line in lines)
    unfinished = at > 0 and text[at - 1 : at] != b"\n"
    return Splice(start=at, end=at, text=end + written if unfinished else written)
