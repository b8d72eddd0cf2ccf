"""Renaming keys and replacing strings, wherever in the text they are spelt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from clan.inventory.document.lines import Splice
from clan.inventory.document.write import json_string, toml_key, toml_string

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.inventory.document.spans import Outline, Section
    from clan.model.inventory import KeyPath


def renamed(
    text: bytes, outline: Outline, keys: Mapping[KeyPath, str], values: Mapping[KeyPath, str]
) -> Iterator[Splice]:
    """Yield what renames every spelling of the keys, and replaces the strings."""
    toml = outline.braces is None
    for section in outline.sections:
        yield from _in_header(text, section, keys)
    for place in outline.places():
        for depth, token in enumerate(place.pair.keys, place.base + 1):
            if (new := keys.get(place.path[:depth])) is not None:
                yield _respelt(text, token.start, token.end, new, bare=toml, toml=toml)
    for path, node in outline.values():
        if (new := values.get(path)) is not None:
            yield _respelt(text, node.start, node.end, new, bare=False, toml=toml)


def _in_header(text: bytes, section: Section, keys: Mapping[KeyPath, str]) -> Iterator[Splice]:
    tokens = iter(section.keys)
    for depth, part in enumerate(section.path, 1):
        if isinstance(part, int):  # counted, not spelt
            continue
        token = next(tokens)
        if (new := keys.get(section.path[:depth])) is not None:
            yield _respelt(text, token.start, token.end, new, bare=True, toml=True)


def _respelt(text: bytes, start: int, end: int, new: str, *, bare: bool, toml: bool) -> Splice:
    """Write `new` with the quotes that the old one had, where they will do."""
    old = text[start:end]
    literal = old.startswith(b"'") and not old.startswith(b"'''")
    if literal and new.isprintable() and "'" not in new:
        written = f"'{new}'"
    elif bare and not old.startswith((b'"', b"'")):
        written = toml_key(new)
    else:
        written = toml_string(new) if toml else json_string(new)
    return Splice(start=start, end=end, text=written.encode())


def renamed_data(
    value: Any, path: KeyPath, keys: Mapping[KeyPath, str], values: Mapping[KeyPath, str]
) -> Any:
    """Return the data with the same renaming."""
    match value:
        case dict():
            return {
                keys.get((*path, key), key): renamed_data(inner, (*path, key), keys, values)
                for key, inner in value.items()
            }
        case list():
            return [
                renamed_data(inner, (*path, index), keys, values)
                for index, inner in enumerate(value)
            ]
        case _:
            return values.get(path, value)
