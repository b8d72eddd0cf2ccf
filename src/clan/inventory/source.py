"""From a clan file's bytes to a tree of tables, lists and values, whatever the language.

It owns what a file must be before anybody looks at its keys: of bounded size, UTF-8, not empty,
free of syntax errors and of keys said twice, not nested beyond reason. Nix is evaluated by
`clan.inventory.nix`.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from clan.errors import ClanError, Fault, InventoryError
from clan.model.inventory import Source

if TYPE_CHECKING:
    from pathlib import Path

MEBIBYTE = 1024 * 1024
MOST_BYTES = 16 * MEBIBYTE
"""Ten thousand machines take about one; what is larger is some other file."""
MOST_DEPTH = 64
BIG_NUMBER = "has a number of thousands of digits"
LANGUAGES = {".toml": "toml", ".json": "json", ".nix": "nix"}

# A key starts where no part of a word, a quote or a dot is before it.
PART = r"""(?>(?>[\w-]+|"[^"\n]*"|'[^'\n]*')[ \t]*\.[ \t]*)"""
LONG_KEY = rf"""(?<![\w"'.-]){PART}{{{MOST_DEPTH},}}"""


def read_source(path: Path) -> Source:
    """Read the file; refused by its size before it is read."""
    try:
        size = path.stat().st_size
        if size > MOST_BYTES:
            message = f"is {size / MEBIBYTE:.0f} MiB; a clan's file has at most"
            raise refused(path, f"{message} {MOST_BYTES // MEBIBYTE} MiB")
        # One byte more than allowed: what grows while it is read is refused too.
        with path.open("rb") as file:
            text = file.read(MOST_BYTES + 1)
    except OSError as fault:
        raise ClanError(f"cannot be read: {fault.strerror}", where=str(path)) from fault
    if len(text) > MOST_BYTES:
        raise refused(path, f"is larger than {MOST_BYTES // MEBIBYTE} MiB")
    language = LANGUAGES.get(path.suffix)
    if language is None:
        raise ClanError("is not named clan.toml, clan.json or clan.nix", where=str(path))
    return Source(path=path, language=language, text=text)


def refused(path: Path, message: str, line: int | None = None) -> InventoryError:
    """Return the error for a file that has no keys yet."""
    return InventoryError([Fault(message=message, file=shown(path), line=line)])


def shown(path: Path) -> str:
    """Return the path as a person here would write it."""
    from pathlib import Path

    here = Path.cwd()
    return str(path.relative_to(here) if path.is_relative_to(here) else path)


def parse(source: Source) -> dict[str, Any]:
    """Return the file's tree; an InventoryError names what keeps it from being one."""
    try:
        text = source.text.decode("utf-8")
    except UnicodeDecodeError as fault:
        line = source.text.count(b"\n", 0, fault.start) + 1
        byte = source.text[fault.start]
        message = f"is not UTF-8 text: byte 0x{byte:02x} cannot be there"
        raise refused(source.path, message, line) from fault
    if not text.strip("\ufeff \t\r\n"):
        message = "is empty"
        raise InventoryError(
            [Fault(message=message, file=shown(source.path))],
            hint="`clan init` writes one to start from",
        )
    parser = {"toml": parse_toml, "json": parse_json, "nix": parse_nix}[source.language]
    try:
        tree = parser(source, text)
    except RecursionError:
        raise refused(source.path, f"is nested more than {MOST_DEPTH} deep") from None
    if not isinstance(tree, dict):
        from clan.inventory.faults import type_name

        raise refused(source.path, f"must be a table, not {type_name(tree)}")
    refuse_odd(source, tree)
    return tree


def parse_toml(source: Source, text: str) -> Any:
    """Read TOML; the first syntax error ends it."""
    import tomllib

    if has_long_key(text):
        raise refused(source.path, f"has a key of more than {MOST_DEPTH} parts")
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except tomllib.TOMLDecodeError as fault:
        message, line = toml_message(str(fault), text)
        raise refused(source.path, message, line) from fault
    except ValueError as fault:
        raise refused(source.path, BIG_NUMBER) from fault


def has_long_key(text: str) -> bool:
    """Say whether a dotted key has too many parts.

    tomllib's time grows with the square of that number: a file of `a.a.a.…` hangs it.
    """
    return any(
        line.count(".") >= MOST_DEPTH and re.search(LONG_KEY, line) for line in text.splitlines()
    )


def toml_message(said: str, text: str) -> tuple[str, int | None]:
    """Part tomllib's message from the line that it ends with."""
    place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)\Z", said)
    if place is None:
        return said, None
    line = int(place[1]) if place[1] else text.count("\n", 0, len(text.rstrip())) + 1
    return f"is not TOML: {said[: place.start()]}", line


def parse_json(source: Source, text: str) -> Any:
    """Read JSON; a key said twice is a fault, for the parser would keep the last in silence."""
    import json

    twice = False

    def table(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        nonlocal twice
        read = dict(pairs)
        twice = twice or len(read) != len(pairs)
        return read

    try:
        tree = json.loads(text.removeprefix("\ufeff"), object_pairs_hook=table)
    except json.JSONDecodeError as fault:
        message = f"is not JSON: {fault.msg[0].lower()}{fault.msg[1:]}"
        raise refused(source.path, message, fault.lineno) from fault
    except ValueError as fault:
        raise refused(source.path, BIG_NUMBER) from fault
    if twice:
        from clan.inventory.locate import repeated_keys

        raise InventoryError(repeated_keys(source))
    return tree


def parse_nix(source: Source, text: str) -> Any:
    """Evaluate Nix."""
    from clan.inventory.nix import evaluate

    return evaluate(source, text)


def refuse_odd(source: Source, tree: dict[str, Any]) -> None:
    """Refuse nesting beyond reason and strings that are no text; walked without recursion."""
    pending: list[tuple[Any, int]] = [(tree, 1)]
    while pending:
        value, depth = pending.pop()
        if depth > MOST_DEPTH:
            raise refused(source.path, f"is nested more than {MOST_DEPTH} deep")
        children: list[Any] = []
        if isinstance(value, dict):
            children = [*value, *value.values()]
        elif isinstance(value, list):
            children = value
        for child in children:
            if isinstance(child, dict | list):
                pending.append((child, depth + 1))
            elif isinstance(child, str) and not child.isascii():
                refuse_halves(source, child)


def refuse_halves(source: Source, text: str) -> None:
    r"""Refuse half a surrogate pair: JSON can spell it (`\ud800`), no other program reads it."""
    try:
        text.encode()
    except UnicodeEncodeError as fault:
        half = f"\\u{ord(text[fault.start]):04x}"
        raise refused(source.path, f"has half a character: {half}") from fault
