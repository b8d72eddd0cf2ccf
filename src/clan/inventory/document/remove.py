"""Removing an element: its lines, its place between commas, all headers that are about it.

Comments inside what is removed go with it; those on lines of their own before and after stay,
for nobody can tell from a line whether it is about this element or those that follow.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from clan.inventory.document.lines import (
    SPACE,
    Splice,
    back_over_blank_lines,
    blank_before,
    lead,
    line_end,
    line_start,
    only_comment_after,
    skip_blank_lines,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.inventory.document.spans import Node, Outline, Place, Section
    from clan.model.inventory import KeyPath


def removed(text: bytes, outline: Outline, path: KeyPath) -> Iterator[Splice]:
    """Yield what removes the element at `path`; the table or list that held it stays."""
    if isinstance(path[-1], int):
        # An element written as `[[…]]` is in no list of this kind, and is not removed.
        for where, holder in outline.values():
            if where == path[:-1]:
                yield from _item(text, holder, path[-1])
        return
    sections = [section for section in outline.sections if section.path[: len(path)] == path]
    starts = {section.start for section in sections if section.keys}
    places = [
        place
        for place in outline.places()
        if place.base < len(path) <= len(place.path)
        and place.path[: len(path)] == path
        and not (place.section.keys and place.section.start in starts)
    ]
    # Where headers or dotted keys about the element are all that makes the table that held it,
    # the first of them is shortened to make that table.
    last_child = not _holder_remains(outline, path, places)
    for section in sections:
        if last_child:
            yield from _shortened_section(text, section, len(path) - 1)
        else:
            yield _section(text, section)
        last_child = False
    for place in places:
        if place.node is not None:
            yield from _item(text, place.node, place.node.pairs.index(place.pair))
        elif last_child:
            token = place.pair.keys[len(path) - 2 - place.base]
            yield Splice(start=token.end, end=place.pair.end, text=b" = {}")
        else:
            start, end = place.pair.start, place.pair.end
            yield Splice(start=line_start(text, start), end=line_end(text, end))
        last_child = False


def _holder_remains(outline: Outline, path: KeyPath, places: list[Place]) -> bool:
    """Say whether something else in the text still makes the table that held the element."""
    holder = path[:-1]
    if not holder or any(place.node is not None for place in places):
        return True
    headers = (section.path for section in outline.sections)
    if any(each[: len(holder)] == holder and each[: len(path)] != path for each in headers):
        return True
    return any(
        place.path[: len(holder)] == holder and place.path[: len(path)] != path
        for place in outline.places()
    )


def _shortened_section(text: bytes, section: Section, depth: int) -> Iterator[Splice]:
    """Make `[a.b.c]` and its lines `[a.b]`, where `depth` is 2."""
    tokens = [index for index, part in enumerate(section.path) if isinstance(part, str)]
    last = section.keys[tokens.index(depth - 1)]
    yield Splice(start=last.end, end=section.keys[-1].end)
    if section.pairs:
        start = line_end(text, section.header_end)
        yield Splice(start=start, end=line_end(text, section.end))


def _section(text: bytes, section: Section) -> Splice:
    start = line_start(text, section.start)
    end = line_end(text, section.end)
    if blank_before(text, start):
        end = skip_blank_lines(text, end)
        if end == len(text):
            start = back_over_blank_lines(text, start)
    return Splice(start=start, end=end)


def _item(text: bytes, node: Node, index: int) -> Iterator[Splice]:
    """Remove one element between brackets, with its comma, and its line if it has its own."""
    elements = node.pairs or node.items
    start, end = elements[index].start, elements[index].end
    inner = text[node.start + 1 : start] + text[end : node.end - 1]
    if len(elements) == 1 and not inner.strip(b" \t\r\n,"):
        yield Splice(start=node.start + 1, end=node.end - 1)
        return
    if index < len(node.commas):
        end = node.commas[index] + 1
    elif index:
        comma = node.commas[index - 1]
        if not text[comma + 1 : start].strip(b" \t\r\n"):
            yield Splice(start=comma, end=end)
            return
        yield Splice(start=comma, end=comma + 1)
    if not lead(text, start).strip(SPACE) and only_comment_after(text, end):
        yield Splice(start=line_start(text, start), end=line_end(text, end))
        return
    while text[end : end + 1] in {b" ", b"\t"}:
        end += 1
    yield Splice(start=start, end=end)
