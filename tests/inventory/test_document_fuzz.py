"""Any document, any path: the edit is exactly what was meant, or it is refused with one error."""

from __future__ import annotations

import json
import tomllib
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from hypothesis import given
from hypothesis import strategies as st

from clan.errors import ClanError
from clan.inventory.document import Document
from clan.inventory.document.write import toml_inline, toml_key

if TYPE_CHECKING:
    from collections.abc import Iterator

names = st.sampled_from(["a", "b", "nas", "x y", "é", "a.b", ""])
scalars = st.sampled_from(["s", "nas", 1, True, 'q"', "#no comment", "a\nb"])
tables = st.recursive(
    st.dictionaries(names, scalars, max_size=3),
    lambda inner: st.dictionaries(
        names, inner | scalars | st.lists(inner | scalars, max_size=3), max_size=4
    ),
    max_leaves=10,
)


@st.composite
def toml(draw: st.DrawFn) -> str:
    """Draw a TOML text: each table as a header, as dotted keys or inline, with comments."""
    return "".join(_section(draw, (), draw(tables)))


def _section(draw: st.DrawFn, path: tuple[str, ...], table: dict[str, Any]) -> Iterator[str]:
    below = []
    for key, value in table.items():
        ways = ["line", "dotted", "header"] if isinstance(value, dict) and value else ["line"]
        way = draw(st.sampled_from(ways))
        if way == "header":
            below.append((key, value))
        elif way == "dotted":
            for inner, each in value.items():
                yield f"{toml_key(key)} . {toml_key(inner)}={_value(draw, each)} # {way}\n"
        else:
            yield f"{draw(st.sampled_from(['', '  ']))}{toml_key(key)} = {_value(draw, value)}\n"
        yield draw(st.sampled_from(["", "\n", "# between\n"]))
    for key, value in below:
        inside = (*path, key)
        yield f"[{'.'.join(map(toml_key, inside))}] # {len(inside)}\n"
        yield from _section(draw, inside, value)


def _value(draw: st.DrawFn, value: Any) -> str:
    if isinstance(value, list) and value and draw(st.booleans()):
        lines = [f"  {toml_inline(each)}, # each\n" for each in value]
        return "[\n" + "".join(lines) + draw(st.sampled_from(["]", "# end\n]"]))
    return toml_inline(value)


def paths(value: Any, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    children: Any = ()
    if isinstance(value, dict):
        children = value.items()
    elif isinstance(value, list):
        children = enumerate(value)
    for key, inner in children:
        yield (*path, key)
        yield from paths(inner, (*path, key))


def texts() -> st.SearchStrategy[tuple[str, str]]:
    return toml().map(lambda text: ("toml", text)) | tables.flatmap(
        lambda data: st.sampled_from([None, 1, "\t"]).map(
            lambda indent: ("json", json.dumps(data, indent=indent))
        )
    )


@given(texts(), st.data())
def test_any_path_of_any_document(text: tuple[str, str], data: st.DataObject) -> None:
    language, written = text
    document = Document(language, written.encode())
    there = list(paths(document.data))
    for _ in range(3):
        if not there:
            break
        path = data.draw(st.sampled_from(there))
        comments = document.text.count(b"# between")
        with suppress(ClanError):
            match data.draw(st.sampled_from(["remove", "rename", "add"])):
                case "remove":
                    document.remove(path)
                case "rename" if isinstance(path[-1], str):
                    document.rename(keys={path: "new"}, values={})
                    assert document.text.count(b"# between") == comments
                case _:
                    document.add(("a", "b"), "m", {"tags": ["a"], "deploy": {"x": "y"}})
                    assert document.text.count(b"# between") == comments
        parsed = json.loads if language == "json" else tomllib.loads
        assert parsed(document.text.decode()) == document.data
        there = list(paths(document.data))
