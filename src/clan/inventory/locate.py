"""Finds the line of each fault, once there is one: only then is a second parser worth its time.

tree-sitter parses the file again into a tree that knows its lines. The deepest part of a fault's
key that the file has gives the line. Nix is a program and not a tree of keys: its faults have the
key alone.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from clan.errors import Fault
from clan.inventory.source import shown

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tree_sitter import Node

    from clan.model.inventory import KeyPath, Source


Wanted = dict[str | int, "Wanted"]


@dataclass(slots=True)
class Spot:
    """A key of the file: its line, what is below it, and where it is said again.

    `wanted` is the part of a fault's key that goes on from here, None when all is wanted: what
    nobody asks for is not looked into, be it a list of a million numbers.
    """

    line: int
    wanted: Wanted | None = None
    below: dict[str | int, Spot] = field(default_factory=dict)
    again: list[int] = field(default_factory=list)

    @property
    def open(self) -> bool:
        """Whether anything below is asked for."""
        return self.wanted is None or bool(self.wanted)


def located(faults: Sequence[Fault], source: Source) -> tuple[Fault, ...]:
    """Return the faults with the file and, where it can be known, the line; in its order."""
    file = shown(source.path)
    root = spots(source, wanted_by(faults))
    found = [
        replace(fault, file=file, line=line_of(fault.key, root) if root else None)
        for fault in faults
    ]
    return tuple(sorted(found, key=lambda fault: fault.line or 0))


def line_of(key: KeyPath, root: Spot) -> int | None:
    """Return the line of the deepest part of the key that the file has; none for an empty key."""
    spot = root
    for part in key:
        if part not in spot.below:
            break
        spot = spot.below[part]
    return None if spot is root else spot.line


def wanted_by(faults: Sequence[Fault]) -> Wanted:
    """Return the keys of the faults as a tree."""
    root: Wanted = {}
    for fault in faults:
        below = root
        for part in fault.key:
            below = below.setdefault(part, {})
    return root


def repeated_keys(source: Source) -> list[Fault]:
    """Return one fault for each key that a JSON file says twice in one table."""
    file = shown(source.path)
    found: list[Fault] = []
    pending: list[tuple[KeyPath, Spot]] = [((), spots(source) or Spot(1))]
    while pending:
        key, spot = pending.pop()
        found += [
            Fault(
                message=f"is there twice, first in line {spot.line}",
                key=key,
                file=file,
                line=line,
                hint="keep one",
            )
            for line in spot.again
        ]
        pending += [((*key, part), below) for part, below in spot.below.items()]
    return sorted(found, key=lambda fault: fault.line or 0)


def spots(source: Source, wanted: Wanted | None = None) -> Spot | None:
    """Return the file's keys with their lines, as deep as they are wanted; None for Nix."""
    root = Spot(1, wanted)
    if source.language == "toml":
        read_toml(source.text, root)
    elif source.language == "json":
        read_json(source.text, root)
    else:
        return None
    return root


def put(spot: Spot, part: str | int, line: int) -> Spot:
    """Return the spot of a key, made when it is new."""
    if part not in spot.below:
        wanted = None if spot.wanted is None else spot.wanted.get(part, {})
        spot.below[part] = Spot(line, wanted)
    return spot.below[part]


def read_toml(text: bytes, root: Spot) -> None:
    """Put the lines of a TOML file's keys below the root."""
    import tree_sitter_toml
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_toml.language())).parse(text)
    for node in tree.root_node.named_children:
        spot = root
        pairs = node.named_children
        if node.type in {"table", "table_array_element"}:
            head, *pairs = pairs
            spot = toml_key(root, head)
            if node.type == "table_array_element":
                spot = put(spot, len(spot.below), line(node))
        elif node.type == "pair":
            pairs = [node]
        for pair in pairs:
            if pair.type == "pair":
                toml_pair(spot, pair)


def toml_key(spot: Spot, node: Node) -> Spot:
    """Follow a key, dotted or not, making what is new."""
    for part in toml_parts(node):
        # Below an array of tables a header speaks of its last element.
        if spot.below and all(isinstance(key, int) for key in spot.below):
            spot = spot.below[len(spot.below) - 1]
        spot = put(spot, part, line(node))
    return spot


def toml_parts(node: Node) -> list[str]:
    """Return the parts of a key in order; a dotted key is a tree that leans left."""
    parts: list[str] = []
    pending = [node]
    while pending:
        part = pending.pop()
        if part.type == "dotted_key":
            pending += part.named_children
        else:
            parts.append(toml_bare(part))
    return parts[::-1]


def toml_bare(node: Node) -> str:
    """Return a key as the parser reads it; a quoted one is read as TOML reads it."""
    text = (node.text or b"").decode("utf-8", "replace")
    if node.type != "quoted_key":
        return text
    import tomllib

    try:
        return next(iter(tomllib.loads(f"{text} = 0")))
    except tomllib.TOMLDecodeError:
        return text


def toml_pair(spot: Spot, node: Node) -> None:
    """Read a pair and what its value holds; without recursion, for a file may nest deep."""
    pending = [(spot, node)]
    while pending:
        above, pair = pending.pop()
        key, *values = pair.named_children
        here = toml_key(above, key)
        opened = [(here, value) for value in values]
        while opened:
            owner, value = opened.pop()
            if not owner.open:
                continue
            if value.type == "inline_table":
                pairs = [each for each in value.named_children if each.type == "pair"]
                pending += [(owner, each) for each in pairs]
            elif value.type == "array":
                elements = [each for each in value.named_children if each.type != "comment"]
                opened += [
                    (put(owner, index, line(each)), each) for index, each in enumerate(elements)
                ]


def read_json(text: bytes, root: Spot) -> None:
    """Put the lines of a JSON file's keys below the root."""
    import tree_sitter_json
    from tree_sitter import Language, Parser

    tree = Parser(Language(tree_sitter_json.language())).parse(text)
    opened = [(root, node) for node in tree.root_node.named_children]
    while opened:
        owner, node = opened.pop()
        for part, value, at in json_parts(node):
            if part in owner.below:
                owner.below[part].again.append(at)
            spot = put(owner, part, at)
            if spot.open:
                opened.append((spot, value))


def json_parts(node: Node) -> Iterator[tuple[str | int, Node, int]]:
    """Yield what an object or array holds: key or index, value, line."""
    if node.type == "object":
        for pair in node.named_children:
            key, value = pair.child_by_field_name("key"), pair.child_by_field_name("value")
            if key is not None and value is not None and key.text is not None:
                yield str(json.loads(key.text, strict=False)), value, line(pair)
    elif node.type == "array":
        for index, element in enumerate(node.named_children):
            yield index, element, line(element)


def line(node: Node) -> int:
    """Return the node's line, counted from 1."""
    return node.start_point[0] + 1
