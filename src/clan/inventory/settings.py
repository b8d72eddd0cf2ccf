"""Validates merged settings by their schema, and says pydantic's faults in a person's words.

Each fault points at the key that the offending value came from. A value that fits none of several
types is one fault, not one for each type.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NamedTuple

from pydantic import ValidationError
from pydantic.alias_generators import to_camel

from clan.inventory.faults import described
from clan.inventory.layers import field_names, nested_schema, plain

if TYPE_CHECKING:
    from pydantic import BaseModel
    from pydantic_core import ErrorDetails

    from clan.inventory.faults import Faults
    from clan.inventory.layers import Tree
    from clan.model.inventory import KeyPath
    from clan.model.module import Settings


def validate(
    schema: type[Settings], tree: Tree, key: KeyPath, faults: Faults, *, partial: bool = False
) -> Settings | None:
    """Return the settings, or None once their faults are noted.

    `key` is where a setting that is missing would stand. A `partial` tree lacks the layers of any
    machine: only what it does say is looked at.
    """
    try:
        return schema.model_validate_json(json.dumps(plain(tree), default=iso))
    except ValidationError as error:
        details = error.errors(include_url=False, include_context=False)
    said: dict[Place, list[str]] = {}
    for detail in details:
        if partial and (detail["type"] == "missing" or not detail["loc"]):
            continue
        place = find_place(schema, tree, key, detail["loc"])
        said.setdefault(place, []).append(message(detail, place))
    for place, messages in said.items():
        faults.add(place.key, " or ".join(dict.fromkeys(messages)), hint(place, faults))
    return None


def iso(value: Any) -> str:
    """Write TOML's dates and times as JSON can hold them."""
    return str(value.isoformat())


class Place(NamedTuple):
    """Where a fault is: its key in the file and the schema around it.

    `name` is the last part of the key when the schema does not know it, or the file lacks it.
    """

    key: KeyPath
    schema: type[BaseModel] | None
    name: str | None = None


def find_place(
    schema: type[BaseModel], tree: Tree, key: KeyPath, loc: tuple[str | int, ...]
) -> Place:
    """Follow pydantic's location through the tree; what names a member of a union leads nowhere."""
    value: Any = tree
    inner: type[BaseModel] | None = schema
    written = True  # below a list the values are as the file has them, and no leaves
    for part in loc:
        if isinstance(part, int):
            if isinstance(value, list) and 0 <= part < len(value):
                value, key, written, inner = value[part], (*key, part), False, None
        elif isinstance(value, dict) and part in value:
            known = inner is None or part in inner.model_fields
            outer, inner = inner, nested_schema(inner, part) if inner else None
            key, value = (
                (value[part].key, value[part].value) if written else ((*key, part), value[part])
            )
            if not known:
                return Place(key, outer, part)
        elif inner is not None and part in inner.model_fields:
            return Place((*key, inner.model_fields[part].alias or part), inner, part)
        elif isinstance(value, dict) and to_camel(part) in value:
            key, value = (*key, to_camel(part)), value[to_camel(part)]
    return Place(key, inner)


def message(detail: ErrorDetails, place: Place) -> str:
    """Say what pydantic found."""
    kind, said = detail["type"], detail["msg"]
    if kind == "extra_forbidden":
        return f"unknown setting {str(place.key[-1])!r}" if place.key else "unknown setting"
    if kind == "missing":
        return "is missing"
    if kind == "value_error":
        return said.removeprefix("Value error, ")
    if said.startswith("Input should be"):
        rest = said.removeprefix("Input should be").removeprefix(" a valid")
        article = "" if rest.startswith((" a", " one", " less", " greater", " '")) else " a"
        if kind.endswith(("_type", "_parsing")):
            rest = WORDS.get(kind, f"{article}{rest}")
        return f"must be{rest}, not {described(detail['input'])}"
    return said[:1].lower() + said[1:]


WORDS = {
    "int_type": " a whole number",
    "int_from_float": " a whole number",
    "float_type": " a number",
    "bool_type": " true or false",
    "string_type": " a string",
    "list_type": " a list",
    "tuple_type": " a list",
    "dict_type": " a table",
    "model_type": " a table",
}


def hint(place: Place, faults: Faults) -> str | None:
    """Say what a missing setting is, or what an unknown one may have meant."""
    if place.schema is None or place.name is None:
        return None
    field = place.schema.model_fields.get(place.name)
    if field is not None:
        return field.description
    spelt = str(place.key[-1])
    known = [each.alias or name for name, each in place.schema.model_fields.items()]
    near = faults.near(spelt, [*known, *field_names(place.schema)])
    return near or faults.near_or_list(spelt, known, "settings")
