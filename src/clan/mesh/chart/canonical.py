"""One value, one encoding: JSON without a choice, and records that take each field and no other.

Keys are sorted, nothing stands between tokens, all is ASCII, numbers are integers, bytes are in
base64. Whoever reads a record encodes it again and compares: what is not the same byte for byte is
refused. So two machines that agree on a hash have read the same.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Any

from clan.mesh.errors import MeshError


def encode(value: Any) -> bytes:
    """Return the encoding of dicts, lists, strings, integers and booleans."""
    return json.dumps(
        value, ensure_ascii=True, sort_keys=True, separators=(",", ":"), allow_nan=False
    ).encode("ascii")


def decode(data: bytes, what: str) -> Fields:
    """Return the record that bytes are. Raises MeshError; `what` names it in the message."""
    try:
        value = json.loads(data.decode("ascii"), parse_float=_refused)
    except (ValueError, RecursionError):
        raise MeshError(f"{what} is not written as it must be") from None
    return Fields(value, what)


def check(data: bytes, value: Any, what: str) -> None:
    """Refuse bytes that are not *the* encoding of what was read from them. Raises MeshError."""
    if encode(value) != data:
        raise MeshError(f"{what} is not written in the one way that it can be")


def _refused(digits: str) -> Any:
    raise ValueError(digits)


def base64_of(data: bytes) -> str:
    """Write bytes."""
    return base64.b64encode(data).decode("ascii")


class Fields:
    """A record's fields, each taken once by its name and type; `end` refuses what is left."""

    __slots__ = ("_left", "_what")

    def __init__(self, value: Any, what: str) -> None:
        if type(value) is not dict:
            raise MeshError(f"{what} is no record")
        self._left = dict(value)
        self._what = what

    def has(self, name: str) -> bool:
        """Say whether there is a field that was not taken yet."""
        return name in self._left

    def _take(self, name: str, kind: type) -> Any:
        value = self._left.pop(name, None)
        if type(value) is not kind:  # `True` is no integer here
            raise MeshError(f"{self._what}: {name} is missing or not of its type")
        return value

    def text(self, name: str, longest: int) -> str:
        """Take a string of at most so many characters."""
        value: str = self._take(name, str)
        if len(value) > longest:
            raise MeshError(f"{self._what}: {name} is longer than {longest} characters")
        return value

    def number(self, name: str, least: int, most: int) -> int:
        """Take an integer between two bounds, both included."""
        value: int = self._take(name, int)
        if not least <= value <= most:
            raise MeshError(f"{self._what}: {name} is not between {least} and {most}")
        return value

    def data(self, name: str, least: int, most: int) -> bytes:
        """Take bytes, so many at least and at most."""
        return bytes_of(self._take(name, str), least, most, f"{self._what}: {name}")

    def record(self, name: str) -> dict[str, Any]:
        """Take a record."""
        value: dict[str, Any] = self._take(name, dict)
        return value

    def several(self, name: str, most: int) -> list[Any]:
        """Take a list of at most so many."""
        value: list[Any] = self._take(name, list)
        if len(value) > most:
            raise MeshError(f"{self._what}: {name} has more than {most} entries")
        return value

    def texts(self, name: str, most: int, longest: int) -> tuple[str, ...]:
        """Take a list of strings."""
        values = self.several(name, most)
        if any(type(value) is not str or len(value) > longest for value in values):
            raise MeshError(f"{self._what}: {name} has what is no string, or too long a one")
        return tuple(values)

    def end(self) -> None:
        """Refuse fields that were not taken. Raises MeshError."""
        if self._left:
            raise MeshError(
                f"{self._what}: has {', '.join(sorted(self._left)[:3])[:80]!r}, which this version "
                "of clan does not know"
            )


def bytes_of(value: Any, least: int, most: int, what: str) -> bytes:
    """Read bytes that `base64_of` wrote, so many at least and at most. Raises MeshError."""
    if type(value) is str and len(value) <= (most + 2) // 3 * 4:
        try:
            data = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            data = None
        if data is not None and least <= len(data) <= most:
            return data
    raise MeshError(f"{what} is not {least} to {most} bytes in base64")


def row(value: Any, kinds: tuple[type, ...], what: str) -> list[Any]:
    """Read a list that has just these types in this order. Raises MeshError."""
    if type(value) is not list or tuple(map(type, value)) != kinds:
        raise MeshError(f"{what} has an entry that is not of its form")
    return value
