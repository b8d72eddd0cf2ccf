"""Each kind of fault, with the text that a person reads: file, line, key, what to do."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest

from clan.errors import ClanError, InventoryError
from clan.inventory.load import load
from clan.inventory.source import MOST_BYTES

if TYPE_CHECKING:
    from tests.desk import Desk


class Case(NamedTuple):
    name: str
    text: str
    faults: list[str]


def toml_cases() -> list[Case]:
    table = tomllib.loads((Path(__file__).parent / "faults.toml").read_text())
    return [
        Case(case["name"], case["clan"], case["faults"].replace("\n  ", " ").splitlines())
        for case in table["case"]
    ]


@pytest.mark.parametrize("case", toml_cases(), ids=lambda case: case.name)
def test_a_fault_says_where_it_is_and_what_to_do(case: Case, desk: Desk) -> None:
    assert desk.faults(case.text) == case.faults


JSON_CASES = [
    Case(
        "a line in JSON",
        '{\n  "machines": {\n    "nas": {},\n    "vps": {\n      "tag": []\n    }\n  }\n}\n',
        ["clan.json:5: machines.vps.tag: unknown key 'tag' (did you mean 'tags'?)"],
    ),
    Case(
        "a key said twice",
        '{\n  "machines": {\n    "nas": {},\n    "n\\u0061s": {}\n  }\n}\n',
        ["clan.json:4: machines.nas: is there twice, first in line 3 (keep one)"],
    ),
    Case("no table", "[1]", ["clan.json: must be a table, not a list"]),
    Case(
        "a syntax error",
        '{\n  "machines": {,}\n}\n',
        ["clan.json:2: is not JSON: expecting property name enclosed in double quotes"],
    ),
    Case(
        "half a character",
        '{"meta": {"name": "\\ud800"}}',
        ["clan.json: has half a character: \\ud800"],
    ),
    Case(
        "a number of thousands of digits",
        '{"a": ' + "1" * 5000 + "}",
        ["clan.json: has a number of thousands of digits"],
    ),
    Case("nested too deep", "[" * 65 + "]" * 65, ["clan.json: must be a table, not a list"]),
    Case(
        "nested very much too deep",
        '{"a":' * 100_000 + "1" + "}" * 100_000,
        ["clan.json: is nested more than 64 deep"],
    ),
    Case(
        "nested just too deep",
        '{"a":' * 65 + "1" + "}" * 65,
        ["clan.json: is nested more than 64 deep"],
    ),
]


@pytest.mark.parametrize("case", JSON_CASES, ids=lambda case: case.name)
def test_json_has_its_own_faults(case: Case, desk: Desk) -> None:
    assert desk.faults(case.text, "json") == case.faults


def test_a_file_that_is_not_utf8_is_refused_with_the_line(desk: Desk) -> None:
    assert desk.faults(b"[machines.nas]\ndescription = 'caf\xe9'\n") == [
        "clan.toml:2: is not UTF-8 text: byte 0xe9 cannot be there"
    ]


def test_a_file_of_100_mb_is_refused_by_its_size_unread(desk: Desk) -> None:
    path = desk.folder / "clan.toml"
    with path.open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(InventoryError) as caught:
        load(path)
    assert str(caught.value) == "clan.toml: is 100 MiB; a clan's file has at most 16 MiB"


def test_a_file_that_grows_while_it_is_read_is_refused(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = desk.write("clan.json", " " * 50)
    monkeypatch.setattr("clan.inventory.source.MOST_BYTES", 49)
    monkeypatch.setattr("pathlib.Path.stat", lambda _path, **_: type("S", (), {"st_size": 1}))
    with pytest.raises(InventoryError, match="is larger than 0 MiB"):
        load(path)
    assert MOST_BYTES == 16 * 1024 * 1024


def test_what_cannot_be_read_is_an_error_that_names_it(desk: Desk) -> None:
    with pytest.raises(ClanError, match=r"clan\.toml: cannot be read: No such file"):
        load(desk.folder / "clan.toml")
    (desk.folder / "clan.json").mkdir()
    with pytest.raises(ClanError, match=r"clan\.json: cannot be read: Is a directory"):
        load(desk.folder / "clan.json")


def test_a_key_of_a_million_parts_is_refused_at_once(desk: Desk) -> None:
    assert desk.faults("a." * 1_000_000 + "a = 1") == ["clan.toml: has a key of more than 64 parts"]


def test_ten_thousand_misspelt_names_are_told_within_seconds(desk: Desk) -> None:
    names: dict[str, dict[str, str]] = {f"machine{index:05}": {} for index in range(3000)}
    wrong: dict[str, dict[str, str]] = {f"machina{index:05}": {} for index in range(3000)}
    tree = {"machines": names, "instances": {"lan": {"roles": {"default": {"machines": wrong}}}}}
    faults = desk.faults(json.dumps(tree), "json")
    assert len(faults) == 3000
    assert "did you mean" in faults[0]
    assert "did you mean" not in faults[-1]
