r"""The query language of `clan select`: parse a query, apply it to a tree of values, print nothing.

A query is segments joined by `.`. A segment is a key (or the index of a list element), `*` (every
element), `?key` (a key that may be absent), or a set `{a,?b}`; a key with special characters is
`"quoted"`, and `\` takes the next character as it is, everywhere. docs/reference/select.md shows
what each gives. The language is closed: no filters, no functions; that is what `jq` is for.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from clan.errors import UsageError, did_you_mean

_PLAIN_KEY = re.compile(r"[A-Za-z0-9_-]+")
_INDEX = re.compile(r"0|[1-9][0-9]{0,17}")
_SPECIAL = '.{}*"'
_SPACE = " \t"
_FEW = 8
"""As many keys as an error lists before it says only how many there are."""


class SelectError(UsageError):
    """The query is no query, or asks for what is not there; the text points at the character."""

    def __init__(self, message: str, *, query: str, start: int, end: int, hint: str | None) -> None:
        super().__init__(f"{message}\n{underline(query, start, end)}", hint=hint)
        self.query = query
        self.start = start
        self.end = end


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """A key or list index; `start` and `end` are where the query says so."""

    name: str
    optional: bool = False
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Every:
    """`*`: every element. With `?`, an element that lacks the rest of the path is left out."""

    optional: bool = False
    start: int
    end: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Several:
    """`{a,?b}`: these keys, in this order."""

    keys: tuple[Key, ...]
    start: int
    end: int


Segment = Key | Every | Several


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A parsed query: its text, for errors to point into, and its segments."""

    text: str
    segments: tuple[Segment, ...]


def escape(key: str) -> str:
    r"""Write a key as a segment that selects exactly it: `a.b` is `"a.b"`, `q"` is `"q\""`."""
    if _PLAIN_KEY.fullmatch(key):
        return key
    return '"' + key.replace("\\", "\\\\").replace('"', '\\"') + '"'


def select(query: str, tree: Any) -> Any:
    """Return what `query` selects of `tree` (mappings, sequences and scalars) as plain JSON values.

    The empty query selects the whole tree. Raises SelectError, and nothing else, for any text.
    """
    return _Selection(parse(query)).take(tree, 0)


def parse(query: str) -> Query:
    """Read a query. Raises SelectError where it is not one."""
    return Query(text=query, segments=tuple(_Parser(query).segments()))


class _Parser:
    """One pass over the text; `at` is the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    @property
    def next(self) -> str:
        return self.text[self.at : self.at + 1]

    def fail(
        self, message: str, *, start: int, end: int | None = None, hint: str | None = None
    ) -> NoReturn:
        end = start + 1 if end is None else end
        raise SelectError(message, query=self.text, start=start, end=end, hint=hint)

    def segments(self) -> list[Segment]:
        found: list[Segment] = []
        if not self.text:
            return found
        while True:
            found.append(self.segment())
            if not self.next:
                return found
            if self.next != ".":
                self.fail("expected '.' or the end here", start=self.at, hint=_HOW_TO_QUOTE)
            self.at += 1
            if not self.next:
                self.fail("a query does not end with '.'", start=self.at - 1, hint="remove it")

    def segment(self) -> Segment:
        start = self.at
        if self.next == "{":
            return self.several()
        optional = self.question()
        if self.next == "*":
            self.at += 1
            if self.next not in {"", "."}:
                hint = r"'*' stands alone as a segment; the character itself is '\*'"
                self.fail("text after '*'", start=self.at, hint=hint)
            return Every(optional=optional, start=start, end=self.at)
        if optional and self.next == "{":
            self.fail("'?' stands before a key, not before a set", start=start, hint="{?a,?b}")
        return self.key(start, optional=optional, stops=".")

    def question(self) -> bool:
        if self.next != "?":
            return False
        self.at += 1
        if self.next in {"", ".", ",", "}"}:
            self.fail("'?' stands before a key", start=self.at - 1, hint="?name")
        if self.next == "?":
            hint = r"the character itself is '\?'"
            self.fail("'?' stands once before a key", start=self.at, hint=hint)
        return True

    def several(self) -> Several:
        start = self.at
        self.at += 1
        keys: list[Key] = []
        while True:
            self.skip_space()
            if self.next == "}" and not keys:
                self.fail("a set names at least one key", start=start, end=self.at + 1)
            if not self.next:
                self.unclosed(start)
            keys.append(self.member())
            if any(key.name == keys[-1].name for key in keys[:-1]):
                self.fail("named twice in one set", start=keys[-1].start, end=keys[-1].end)
            self.skip_space()
            if self.next == "}":
                self.at += 1
                return Several(keys=tuple(keys), start=start, end=self.at)
            if self.next != ",":
                self.unclosed(start)
            self.at += 1

    def member(self) -> Key:
        start = self.at
        optional = self.question()
        if self.next in {"*", "{"}:
            self.fail("a set names keys only", start=self.at, hint=_HOW_TO_QUOTE)
        return self.key(start, optional=optional, stops=",}")

    def unclosed(self, start: int) -> NoReturn:
        if self.next:
            self.fail("expected ',' or '}' here", start=self.at, hint=_HOW_TO_QUOTE)
        self.fail("this set is not closed", start=start, hint="close it with '}'")

    def skip_space(self) -> None:
        while self.next and self.next in _SPACE:
            self.at += 1

    def key(self, start: int, *, optional: bool, stops: str) -> Key:
        name = self.quoted() if self.next == '"' else self.bare(stops)
        return Key(name=name, optional=optional, start=start, end=self.at)

    def quoted(self) -> str:
        start = self.at
        self.at += 1
        name = ""
        while self.next != '"':
            if not self.next:
                self.fail("this quote is not closed", start=start, hint="close it with '\"'")
            name += self.character()
        self.at += 1
        return name

    def bare(self, stops: str) -> str:
        start = self.at
        name = ""
        kept = 0
        in_set = "}" in stops
        while self.next and self.next not in stops:
            if self.next in _SPECIAL:
                self.fail(f"{self.next!r} inside a key", start=self.at, hint=_HOW_TO_QUOTE)
            escaped = self.next == "\\"
            blank = in_set and self.next in _SPACE
            name += self.character()
            kept = kept if blank and not escaped else len(name)
        if self.at == start:
            self.fail("a key is missing here", start=start, hint='the empty key is ""')
        return name[:kept]

    def character(self) -> str:
        """Take one character; after a backslash, the next one as it is."""
        if self.next == "\\":
            self.at += 1
            if not self.next:
                hint = r"the character itself is '\\'"
                self.fail("nothing follows the backslash", start=self.at - 1, hint=hint)
        taken = self.next
        self.at += 1
        return taken


_HOW_TO_QUOTE = r"""quote the whole key ("a.b") or put '\' before the character"""


class _Absent(Exception):  # noqa: N818 (not an error: what `*` and `?*` catch)
    """The path ends before the query does."""

    def __init__(self, why: str, segment: Key | Every | Several, hint: str | None = None) -> None:
        super().__init__(why)
        self.why = why
        self.segment = segment
        self.hint = hint


class _Selection:
    """A query being applied."""

    def __init__(self, query: Query) -> None:
        self.query = query

    def take(self, tree: Any, depth: int) -> Any:
        """Return what the segments from `depth` on select of `tree`."""
        try:
            return self.descend(tree, depth)
        except _Absent as absent:
            where = absent.segment
            raise SelectError(
                absent.why,
                query=self.query.text,
                start=where.start,
                end=where.end,
                hint=absent.hint,
            ) from None

    def descend(self, value: Any, depth: int) -> Any:
        if depth == len(self.query.segments):
            return plain(value)
        match self.query.segments[depth]:
            case Every() as every:
                return self.every(every, value, depth)
            case Several() as several:
                return self.several(several.keys, value, depth)
            case Key(optional=True) as key:
                return self.several((key,), value, depth)
            case key:
                return self.descend(child(value, key), depth + 1)

    def every(self, segment: Every, value: Any, depth: int) -> Any:
        if not _is_branch(value):
            if segment.optional:
                return {}
            raise _Absent(f"{_kind(value)} has no elements", segment)
        keys = list(value) if isinstance(value, Mapping) else range(len(value))
        taken: dict[Any, Any] = {}
        for key in keys:
            try:
                taken[key] = self.descend(value[key], depth + 1)
            except _Absent:
                if not segment.optional:
                    taken[key] = {}
        return taken if isinstance(value, Mapping) else list(taken.values())

    def several(self, keys: tuple[Key, ...], value: Any, depth: int) -> Any:
        taken = {}
        for key in keys:
            try:
                found = child(value, key)
            except _Absent:
                if not key.optional:
                    raise
                continue
            taken[key.name] = self.descend(found, depth + 1)
        return list(taken.values()) if _is_list(value) else taken


def child(value: Any, key: Key) -> Any:
    """Return the element of `value` that `key` names; raises _Absent with the reason."""
    if isinstance(value, Mapping):
        try:
            return value[key.name]
        except KeyError:
            raise _Absent(
                f"there is no {key.name!r} here", key, _what_there_is(key, value)
            ) from None
    if _is_list(value):
        if not _INDEX.fullmatch(key.name):
            raise _Absent("this is a list", key, "a list takes an index from 0, or '*'")
        if int(key.name) >= len(value):
            raise _Absent(f"the list has {len(value)} elements, counted from 0", key)
        return value[int(key.name)]
    raise _Absent(f"{_kind(value)} has nothing inside", key)


def plain(value: Any) -> Any:
    """Return a tree as dicts, lists and scalars, lazy branches worked out."""
    if isinstance(value, Mapping):
        return {key: plain(value[key]) for key in value}
    if _is_list(value):
        return [plain(element) for element in value]
    return value


def underline(query: str, start: int, end: int) -> str:
    """Return the query, indented, and below it a caret where `start` is and `~` up to `end`.

    What cannot be printed is shown as U+FFFD; wide characters count as the two columns they take.
    """
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in query)
    mark = "^" + "~" * (_columns(shown[start:end]) - 1)
    return f"  {shown}\n  {' ' * _columns(shown[:start])}{mark}"


def _columns(text: str) -> int:
    return sum(_width(character) for character in text)


def _width(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _is_list(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str | bytes)


def _is_branch(value: Any) -> bool:
    return isinstance(value, Mapping) or _is_list(value)


def _kind(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case _:
            return "a string"


def _what_there_is(key: Key, value: Mapping[str, Any]) -> str:
    if near := did_you_mean(key.name, value):
        return near
    if not value:
        return "nothing is here"
    if len(value) > _FEW:
        return f"{len(value)} keys are here; '*' selects all"
    return "here are " + ", ".join(escape(name) for name in value)
