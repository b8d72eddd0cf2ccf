"""The line of a key, in every way that TOML and JSON can write it."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clan.errors import Fault
from clan.inventory.locate import located, spots
from clan.model.inventory import Source

if TYPE_CHECKING:
    from clan.inventory.locate import Spot
    from clan.model.inventory import KeyPath

TOML = """\
# a comment
top = 1
a.b.c = 1
a . "b" . 'd' = 2
[machines.nas] # tags
tags = [ "x",
  # between
  "y",
  { deep = 1,  deeper.still = 2 },
]
"quo.ted" = { in = { line = 1 } }
'li"teral' = 1
"\\u00e9" = 1
[[list]]
a = 1
[[list]]
a = 2
[list.below]
b = 3
[[list.nested]]
c = 1
[[list.nested]]
c = 2
[machines."my nas"]
text = \"\"\"
[not.a.table]
\"\"\"
after = 1
"""

LINES: list[tuple[KeyPath, int | None]] = [
    ((), None),
    (("top",), 2),
    (("a", "b", "c"), 3),
    (("a", "b", "d"), 4),
    (("a", "b"), 3),
    (("machines", "nas"), 5),
    (("machines", "nas", "tags"), 6),
    (("machines", "nas", "tags", 0), 6),
    (("machines", "nas", "tags", 1), 8),
    (("machines", "nas", "tags", 2), 9),
    (("machines", "nas", "tags", 2, "deeper", "still"), 9),
    (("machines", "nas", "quo.ted", "in", "line"), 11),
    (("machines", "nas", 'li"teral'), 12),
    (("machines", "nas", "é"), 13),
    (("list", 0, "a"), 15),
    (("list", 1, "a"), 17),
    (("list", 1, "below", "b"), 19),
    (("list", 1, "nested", 1, "c"), 23),
    (("machines", "my nas", "text"), 25),
    (("machines", "my nas", "after"), 28),
    # The deepest part that the file has.
    (("machines", "my nas", "nothing", "below"), 24),
    (("machines", "nobody"), 5),
    (("nothing",), None),
]


@pytest.mark.parametrize(("key", "line"), LINES)
def test_the_line_of_a_key_in_toml(key: KeyPath, line: int | None) -> None:
    tomllib.loads(TOML)
    source = Source(path=Path("/c/clan.toml"), language="toml", text=TOML.encode())
    (fault,) = located([Fault(message="x", key=key)], source)
    assert fault.line == line
    assert fault.file == "/c/clan.toml"


def test_faults_come_in_the_order_of_the_file() -> None:
    source = Source(path=Path("/c/clan.toml"), language="toml", text=TOML.encode())
    keys: list[KeyPath] = [("list", 0, "a"), ("top",), (), ("machines", "nas")]
    lines = [f.line for f in located([Fault(message="x", key=key) for key in keys], source)]
    assert lines == [None, 2, 5, 15]


def test_nix_has_the_key_and_no_line() -> None:
    source = Source(path=Path("/c/clan.nix"), language="nix", text=b"{ a = 1; }")
    (fault,) = located([Fault(message="x", key=("a",))], source)
    assert str(fault) == "/c/clan.nix: a: x"


def every_key(value: Any, key: KeyPath = ()) -> list[KeyPath]:
    found: list[KeyPath] = [key] if key else []
    if isinstance(value, dict):
        for name, below in value.items():
            found += every_key(below, (*key, name))
    elif isinstance(value, list):
        for index, below in enumerate(value):
            found += every_key(below, (*key, index))
    return found


def has(spot: Spot | None, key: KeyPath) -> bool:
    for part in key:
        if spot is None or part not in spot.below:
            return False
        spot = spot.below[part]
    return True


trees = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=12,
)


@given(st.dictionaries(st.text(), trees, max_size=4))
def test_every_key_of_any_json_is_found(tree: dict[str, Any]) -> None:
    for indent in (None, 1):
        text = json.dumps(tree, indent=indent).encode()
        root = spots(Source(path=Path("clan.json"), language="json", text=text))
        assert all(has(root, key) for key in every_key(tree))


def test_every_key_of_toml_is_found() -> None:
    root = spots(Source(path=Path("clan.toml"), language="toml", text=TOML.encode()))
    assert all(has(root, key) for key in every_key(tomllib.loads(TOML)))
