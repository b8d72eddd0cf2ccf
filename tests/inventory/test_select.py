from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from clan.inventory.open import open_clan
from clan.inventory.select import SelectError, escape, plain, select
from clan.inventory.tree import Branch, selectable

EXAMPLES = Path(__file__).parents[2] / "examples"
DOCS = Path(__file__).parents[2] / "docs/reference/select.md"

keys = st.text(max_size=6) | st.text(alphabet='ab.,{}*?"\\ 01', max_size=5)
scalars = st.none() | st.booleans() | st.integers() | st.text(max_size=3)
trees = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.lists(inner, max_size=3).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
    ),
    max_leaves=12,
)


def documented() -> tuple[Any, list[tuple[str, Any]]]:
    """Return the tree and the examples of docs/reference/select.md."""
    text = DOCS.read_text().partition("## Examples")[2].partition("\n## ")[0]
    block = re.search(r"```json\n(.*?)```", text, re.DOTALL)
    assert block
    rows = re.findall(r"^\| `(.+?)` \| `(.+)` \|$", text, re.MULTILINE)
    return json.loads(block[1]), [(query, json.loads(result)) for query, result in rows]


def test_the_examples_in_the_documentation_give_what_it_says() -> None:
    tree, rows = documented()
    assert len(rows) >= 20
    assert [(query, select(query, tree)) for query, _ in rows] == rows


def paths(tree: Any, path: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], Any]]:
    found = [(path, tree)]
    match tree:
        case dict():
            children = list(tree.items())
        case list() | tuple():
            children = [(str(index), element) for index, element in enumerate(tree)]
        case _:
            children = []
    for key, element in children:
        found += paths(element, (*path, key))
    return found


def as_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@given(trees)
@example({"?": {"*": {"": [{"a.b": 1}]}}})
@example({"\\": {'"': {"{a,b}": 1}}})
def test_every_path_that_exists_is_selected_by_its_escaped_form(tree: Any) -> None:
    for path, value in paths(tree):
        assert select(".".join(map(escape, path)), tree) == as_json(value)


@given(keys.filter(bool))
def test_a_backslash_before_each_character_makes_a_key(key: str) -> None:
    query = "".join(f"\\{character}" for character in key)
    assert select(query, {key: 1}) == 1
    assert select(f"{{{query}}}", {key: 1}) == {key: 1}


@given(trees, st.text() | st.text(alphabet='ab.,{}*?"\\ 01', max_size=12))
@example([1], "9" * 5000)
@example([1], "٣")
@example({}, "\udc80.\ud800")
def test_any_text_gives_a_value_or_the_select_error(tree: Any, query: str) -> None:
    fault = None
    try:
        json.dumps(select(query, tree))
    except SelectError as caught:
        fault = caught
    if fault:
        assert 0 <= fault.start < fault.end <= len(query) + 1
        assert str(fault).encode()


@given(st.dictionaries(keys, st.integers(), min_size=1))
def test_a_set_selects_its_keys_in_its_order(tree: dict[str, int]) -> None:
    query = "{" + ",".join(escape(key) for key in reversed(tree)) + "}"
    assert list(select(query, tree).items()) == list(reversed(tree.items()))


@pytest.mark.parametrize("example", ["seed-000", "seed-001-single", "seed-001-multiple"])
def test_every_path_of_a_clan_is_selected_by_its_escaped_form(example: str) -> None:
    tree = selectable(open_clan(EXAMPLES / example / "toml/clan.toml"))
    found = paths(plain(tree))
    assert len(found) >= 50
    for path, value in found:
        assert select(".".join(map(escape, path)), tree) == as_json(value)


def test_one_machine_of_ten_thousand_is_one_machine_of_work() -> None:
    asked: list[int] = []
    branch = Branch({str(number): number for number in range(10_000)}, asked.append)
    select("5000", branch)
    select("{1,?2,?no}", branch)
    assert asked == [5000, 1, 2]


def test_the_seed_query_gives_an_empty_mapping_for_what_exports_no_networking() -> None:
    peer = {"name": "m", "SSHOptions": [], "host": {"plain": "m"}}
    tree = {"blabla": {}, "tor": {"networking": {"priority": 10, "peers": {"m": peer}, "x": 1}}}
    assert select("*.networking.{priority,peers}", tree) == {
        "blabla": {},
        "tor": {"priority": 10, "peers": {"m": peer}},
    }


TREE = {"machines": {"nas": {"tags": ["a"]}}, "name": "x", "n": None}


@pytest.mark.parametrize(
    ("query", "message", "mark", "hint"),
    [
        ("machines.nsa", "no 'nsa' here", "         ^~~", "did you mean 'nas'?"),
        ("machines.nas.tags.1", "has 1 elements", "                  ^", None),
        ("machines.nas.tags.x", "this is a list", "                  ^", "an index from 0"),
        ("name.x", "a string has nothing inside", "     ^", None),
        ("n.*", "null has no elements", "  ^", None),
        ("name.", "does not end with '.'", "    ^", "remove it"),
        (".name", "a key is missing", "^", 'the empty key is ""'),
        ("a..b", "a key is missing", "  ^", None),
        ("a.{b", "this set is not closed", "  ^", "close it with '}'"),
        ("a.{}", "at least one key", "  ^~", None),
        ("a.{b,b}", "named twice", "     ^", None),
        ("a.{*}", "names keys only", "   ^", None),
        ('a."b', "this quote is not closed", "  ^", None),
        ('a."b"c', "expected '.' or the end", "     ^", "quote the whole key"),
        ("a.b*", "'*' inside a key", "   ^", "quote the whole key"),
        ("a.*b", "text after '*'", "   ^", r"\*"),
        ("a.b}", "'}' inside a key", "   ^", None),
        ("a\\", "nothing follows", " ^", None),
        ("?", "stands before a key", "^", "?name"),
        ("a.??b", "stands once", "   ^", r"\?"),
        ("?{a,b}", "not before a set", "^", "{?a,?b}"),
        ("機.x", "no '機' here", "^~", None),
        ("機械.?{", "not before a set", "     ^", None),
    ],
)
def test_an_error_points_at_the_character(
    query: str, message: str, mark: str, hint: str | None
) -> None:
    with pytest.raises(SelectError) as caught:
        select(query, TREE)
    head, shown, below = str(caught.value).split("\n")
    assert message in head
    assert shown == f"  {query}"
    assert below == f"  {mark}"
    assert hint is None or hint in (caught.value.hint or "")
    assert caught.value.exit_code == 2
