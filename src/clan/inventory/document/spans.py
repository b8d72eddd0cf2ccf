"""Where each key and value of a TOML or JSON text stands, byte by byte.

This is what lets an edit touch only what it means to: everything outside the spans it replaces
stays as it was typed. Only texts that tomllib or json has accepted are given to it; it finds no
faults of its own. The other files of this package do the editing.
"""

from __future__ import annotations

import json
import tomllib
from dataclasses import dataclass
from typing import TYPE_CHECKING

import tree_sitter
import tree_sitter_json
import tree_sitter_toml

if TYPE_CHECKING:
    from collections.abc import Iterator

    from clan.model.inventory import KeyPath


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """A key as it is written between `start` and `end`, and what it means."""

    name: str
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """A value. A `table` has `pairs`, an `array` has `items`; `commas` are where they stand."""

    kind: str
    start: int
    end: int
    pairs: tuple[Pair, ...] = ()
    items: tuple[Node, ...] = ()
    commas: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pair:
    """`a.b = value`, or `"a": value`."""

    keys: tuple[Token, ...]
    value: Node
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Section:
    """The pairs under one TOML header; the first section has none and `header_end` 0.

    `path` is the absolute path of the table, with the index where the header is `[[…]]`.
    `end` is after the last pair, or after the header where there is none.
    """

    path: KeyPath
    keys: tuple[Token, ...]
    pairs: tuple[Pair, ...]
    start: int
    header_end: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A pair and where it is: in a section's lines, or inside the braces of `node`."""

    path: KeyPath
    pair: Pair
    section: Section
    node: Node | None

    @property
    def base(self) -> int:
        """How many keys of the path stand before the pair's own."""
        return len(self.path) - len(self.pair.keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class Outline:
    """A whole text: TOML's sections, or JSON's one with `braces` around it."""

    sections: tuple[Section, ...]
    braces: Node | None = None

    def places(self) -> Iterator[Place]:
        """Yield every pair of the text in order, those inside a value after the pair itself."""
        for section in self.sections:
            for pair in section.pairs:
                yield from _places(section.path, pair, section, self.braces)

    def values(self) -> Iterator[tuple[KeyPath, Node]]:
        """Yield every value that a pair or an array holds."""
        for place in self.places():
            yield place.path, place.pair.value
            yield from _elements(place.path, place.pair.value)


def _places(base: KeyPath, pair: Pair, section: Section, node: Node | None) -> Iterator[Place]:
    path = (*base, *(token.name for token in pair.keys))
    yield Place(path=path, pair=pair, section=section, node=node)
    yield from _inside(path, pair.value, section)


def _inside(path: KeyPath, value: Node, section: Section) -> Iterator[Place]:
    for pair in value.pairs:
        yield from _places(path, pair, section, value)
    for index, item in enumerate(value.items):
        yield from _inside((*path, index), item, section)


def _elements(path: KeyPath, value: Node) -> Iterator[tuple[KeyPath, Node]]:
    for index, item in enumerate(value.items):
        yield (*path, index), item
        yield from _elements((*path, index), item)


def outline_json(text: bytes) -> Outline:
    """Return the spans of a JSON object."""
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_json.language())).parse(text)
    top = next(child for child in tree.root_node.children if child.type == "object")
    braces = _node(top)
    section = Section(path=(), keys=(), pairs=braces.pairs, start=0, header_end=0, end=braces.end)
    return Outline(sections=(section,), braces=braces)


def outline_toml(text: bytes) -> Outline:
    """Return the spans of a TOML document."""
    tree = tree_sitter.Parser(tree_sitter.Language(tree_sitter_toml.language())).parse(text)
    children = tree.root_node.children
    pairs = tuple(_pair(child) for child in children if child.type == "pair")
    end = pairs[-1].end if pairs else 0
    sections = [Section(path=(), keys=(), pairs=pairs, start=0, header_end=0, end=end)]
    arrays: dict[KeyPath, int] = {}
    headed = (child for child in children if child.type in {"table", "table_array_element"})
    sections += [_section(child, arrays) for child in headed]
    return Outline(sections=tuple(sections))


def _section(node: tree_sitter.Node, arrays: dict[KeyPath, int]) -> Section:
    header = next(child for child in node.children if child.type in _KEYS)
    keys = tuple(_tokens(header))
    path: KeyPath = ()
    for token in keys[:-1]:
        path = (*path, token.name)
        if path in arrays:
            path = (*path, arrays[path])
    path = (*path, keys[-1].name)
    if node.type == "table_array_element":
        arrays[path] = arrays.get(path, -1) + 1
        path = (*path, arrays[path])
    pairs = tuple(_pair(child) for child in node.children if child.type == "pair")
    closing = next(child for child in node.children if child.type in {"]", "]]"})
    return Section(
        path=path,
        keys=keys,
        pairs=pairs,
        start=node.start_byte,
        header_end=closing.end_byte,
        end=pairs[-1].end if pairs else closing.end_byte,
    )


_KEYS = {"bare_key", "quoted_key", "dotted_key", "string"}
_TABLES = {"inline_table", "object"}


def _pair(node: tree_sitter.Node) -> Pair:
    # The grammar may count a comment or a carriage return after the value as part of the pair.
    between = next(i for i, child in enumerate(node.children) if child.type in {"=", ":"})
    value = _node(node.children[between + 1])
    keys = tuple(_tokens(node.children[0]))
    return Pair(keys=keys, value=value, start=node.start_byte, end=value.end)


def _tokens(node: tree_sitter.Node) -> Iterator[Token]:
    if node.type == "dotted_key":
        for child in node.children:
            if child.type in _KEYS:
                yield from _tokens(child)
        return
    written = (node.text or b"").decode()
    match node.type:
        case "bare_key":
            name = written
        case "string":
            name = json.loads(written)
        case _:
            name = next(iter(tomllib.loads(f"{written} = 0")))
    yield Token(name=name, start=node.start_byte, end=node.end_byte)


def _node(node: tree_sitter.Node) -> Node:
    kind = "table" if node.type in _TABLES else "array" if node.type == "array" else "scalar"
    inner = node.children if kind != "scalar" else []
    punctuation = {"[", "]", "{", "}", ",", "comment"}
    return Node(
        kind=kind,
        start=node.start_byte,
        end=node.end_byte,
        pairs=tuple(_pair(child) for child in inner if child.type == "pair"),
        items=tuple(
            _node(child) for child in inner if kind == "array" and child.type not in punctuation
        ),
        commas=tuple(child.start_byte for child in inner if child.type == ","),
    )
