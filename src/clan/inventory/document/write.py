"""Values as TOML and JSON write them: what an edit adds to a text."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

_BARE = re.compile(r"[A-Za-z0-9_-]+")


def toml_key(name: str) -> str:
    """Write a key, quoted only where it must be."""
    return name if _BARE.fullmatch(name) else toml_string(name)


def toml_string(text: str) -> str:
    """Write a basic string: JSON's escapes are TOML's, but for DEL, which TOML wants escaped."""
    return json_string(text).replace("\x7f", "\\u007f")


def json_string(text: str) -> str:
    """Write a string as JSON, letters of all scripts as they are."""
    return json.dumps(text, ensure_ascii=False)


def toml_inline(value: Any) -> str:
    """Write a value on one line."""
    match value:
        case str():
            return toml_string(value)
        case list() | tuple():
            return "[" + ", ".join(toml_inline(element) for element in value) + "]"
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            pairs = [f"{toml_key(key)} = {toml_inline(inner)}" for key, inner in value.items()]
            return "{ " + ", ".join(pairs) + " }" if pairs else "{}"


def toml_lines(value: Mapping[str, Any]) -> list[str]:
    """Write a table as lines of dotted keys, one for each value that is not a table."""
    lines: list[str] = []
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            lines += [f"{toml_key(key)}.{line}" for line in toml_lines(inner)]
        else:
            lines.append(f"{toml_key(key)} = {toml_inline(inner)}")
    return lines


def json_pair(name: str, value: Any, unit: str) -> str:
    """Write `"name": value` as json.dumps does, each level indented by `unit`."""
    shape = json.dumps(value, ensure_ascii=False, indent=unit)
    return f"{json_string(name)}: {shape}"


def nix_lines(prefix: str, value: Mapping[str, Any]) -> list[str]:
    """Write a table as lines of Nix bindings below `prefix`."""
    lines: list[str] = []
    for key, inner in value.items():
        path = f"{prefix}.{nix_key(key)}"
        if isinstance(inner, dict) and inner:
            lines += nix_lines(path, inner)
        else:
            lines.append(f"{path} = {nix_value(inner)};")
    return lines or [f"{prefix} = {{ }};"]


_NIX_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*")
_NIX_WORDS = {"assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"}


def nix_key(name: str) -> str:
    """Write an attribute's name, quoted only where it must be."""
    plain = _NIX_NAME.fullmatch(name) and name not in _NIX_WORDS
    return name if plain else nix_value(name)


def nix_value(value: Any) -> str:
    """Write a value as a Nix expression."""
    match value:
        case str():
            escaped = value.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
            return '"' + escaped.replace("\n", "\\n").replace("\r", "\\r") + '"'
        case list() | tuple():
            return "[ " + "".join(f"{nix_value(element)} " for element in value) + "]"
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            pairs = [f"{nix_key(key)} = {nix_value(inner)}; " for key, inner in value.items()]
            return "{ " + "".join(pairs) + "}"
