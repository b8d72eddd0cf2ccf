"""Settings in layers: role < tag < machine, merged before the role's schema validates them.

The more specific layer wins. Tables merge key by key, everything else is replaced, lists too. Two
tags are of one rank, so one key set differently by two of a machine's tags is a fault, unless the
machine itself sets it.

It owns which key of the file each merged value came from. `settings` validates the result.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from pydantic import BaseModel

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.inventory.faults import Faults
    from clan.model.inventory import KeyPath


class Leaf(NamedTuple):
    """A value and the key that the file sets it with; a table's value is again of leaves."""

    value: Any
    key: KeyPath


Tree = dict[str, Leaf]
"""Field name (or free key) -> Leaf; the spelling of the file is in the leaf's key."""


@cache
def field_names(schema: type[BaseModel]) -> dict[str, str]:
    """Return every spelling that the schema takes -> the field's name."""
    spellings: dict[str, str] = {}
    for name, field in schema.model_fields.items():
        spellings[field.alias or name] = name
        spellings[name] = name
    return spellings


@cache
def nested_schema(schema: type[BaseModel], name: str) -> type[BaseModel] | None:
    """Return the schema of a field that is a table, be it optional."""
    field = schema.model_fields.get(name)
    pending = [field.annotation] if field else []
    while pending:
        annotation = pending.pop()
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            return annotation
        if annotation is not None and not isinstance(annotation, type):
            pending += get_args(annotation)
    return None


def read_layer(
    settings: Mapping[str, Any], key: KeyPath, schema: type[BaseModel] | None, faults: Faults
) -> Tree:
    """Return one layer with its keys as field names; a key in both spellings is a fault."""
    spellings = field_names(schema) if schema else {}
    tree: Tree = {}
    for spelt, value in settings.items():
        name = spellings.get(spelt, spelt)
        here = (*key, spelt)
        if name in tree:
            other = str(tree[name].key[-1])
            faults.add(here, f"is there twice: as {other!r} and {spelt!r}", "keep one")
        if isinstance(value, dict):
            inner = nested_schema(schema, name) if schema else None
            value = read_layer(value, here, inner, faults)  # noqa: PLW2901 - the table as a tree
        tree[name] = Leaf(value, here)
    return tree


def is_table(leaf: Leaf) -> bool:
    """Say whether a leaf holds leaves."""
    return isinstance(leaf.value, dict)


def merged(low: Tree, high: Tree) -> Tree:
    """Return the lower layer with the higher one over it."""
    result = dict(low)
    for name, leaf in high.items():
        below = low.get(name)
        if below is not None and is_table(below) and is_table(leaf):
            leaf = Leaf(merged(below.value, leaf.value), leaf.key)  # noqa: PLW2901 - as above
        result[name] = leaf
    return result


def conflicts(one: Tree, other: Tree, over: Tree) -> Iterator[tuple[Leaf, Leaf]]:
    """Yield what two layers of one rank set differently and the layer over them does not set."""
    for name, leaf in other.items():
        first, above = one.get(name), over.get(name)
        if first is None or (above is not None and not is_table(above)):
            continue
        if is_table(first) and is_table(leaf):
            yield from conflicts(first.value, leaf.value, above.value if above else {})
        elif plain(first.value) != plain(leaf.value):
            yield first, leaf


def plain(value: Any) -> Any:
    """Return a tree's values without where they came from."""
    if isinstance(value, dict):
        return {name: plain(leaf.value) for name, leaf in value.items()}
    return value


def origins(tree: Tree) -> dict[str, KeyPath]:
    """Return field name -> the key that set it."""
    return {name: leaf.key for name, leaf in tree.items()}
