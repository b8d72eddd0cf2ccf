"""Which settings hold names of machines, as the module's schema says.

`MachineName` must name a machine of the clan, `MachineNameOrOther` may. Both follow when a machine
is renamed.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, get_args

from clan.inventory.layers import field_names, nested_schema
from clan.model.module import MayReferToMachine, RefersToMachine

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic import BaseModel

    from clan.model.inventory import KeyPath


class Reference(NamedTuple):
    """A string in settings that is a machine's name, or (not `must`) may be one.

    What may be one may also be `user@NAME`; `user` has all up to the name.
    """

    name: str
    key: KeyPath
    must: bool
    user: str = ""

    def renamed(self, new: str) -> str:
        """Return the string once the machine is called otherwise."""
        return f"{self.user}{new}"


@cache
def referring_fields(schema: type[BaseModel]) -> dict[str, bool]:
    """Return field name -> must, for the fields whose strings are names of machines."""
    found: dict[str, bool] = {}
    for name, field in schema.model_fields.items():
        pending: list[Any] = [*field.metadata, field.annotation]
        while pending:
            part = pending.pop()
            if isinstance(part, RefersToMachine | MayReferToMachine):
                found[name] = isinstance(part, RefersToMachine)
            pending += getattr(part, "__metadata__", ())
            pending += get_args(part)
    return found


@cache
def refers(schema: type[BaseModel]) -> bool:
    """Say whether the schema, or one nested in it, has a field that refers to machines."""
    if referring_fields(schema):
        return True
    nested = (nested_schema(schema, name) for name in schema.model_fields)
    return any(refers(inner) for inner in nested if inner is not None and inner is not schema)


def references(
    schema: type[BaseModel], settings: Mapping[str, Any], key: KeyPath
) -> Iterator[Reference]:
    """Yield the names of machines in settings as a file has them; `key` is where they stand."""
    if not refers(schema):
        return
    spellings = field_names(schema)
    fields = referring_fields(schema)
    for spelt, value in settings.items():
        name = spellings.get(spelt, spelt)
        if name in fields:
            yield from strings(value, (*key, spelt), must=fields[name])
        elif isinstance(value, dict):
            inner = nested_schema(schema, name)
            if inner is not None:
                yield from references(inner, value, (*key, spelt))


def strings(value: Any, key: KeyPath, *, must: bool) -> Iterator[Reference]:
    """Yield the strings of a value: itself, or the elements of a list or table."""
    if isinstance(value, str):
        user, at, name = ("", "", value) if must else value.rpartition("@")
        yield Reference(name, key, must, f"{user}{at}")
    elif isinstance(value, list):
        for index, item in enumerate(value):
            yield from strings(item, (*key, index), must=must)
    elif isinstance(value, dict):
        for name, item in value.items():
            yield from strings(item, (*key, name), must=must)
