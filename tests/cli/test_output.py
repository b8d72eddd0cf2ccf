from __future__ import annotations

import click

from clan.cli.output import table


def lines(text: str) -> list[str]:
    return click.unstyle(text).splitlines()


def test_columns_are_as_wide_as_their_cells() -> None:
    assert lines(table(["Name", "Tags"], [("nas", "a, b"), ("機械", "é")], width=80)) == [
        "Name  Tags",
        "----------",
        "nas   a, b",
        "機械  é",
    ]


def test_what_is_too_wide_is_broken_between_words() -> None:
    row = ("laptop", "one, two, three, four, five", "a description of many words, for people")
    assert lines(table(["Machine", "Tags", "Description"], [row], width=48)) == [
        "Machine  Tags                Description",
        "-" * 48,
        "laptop   one, two, three,    a description of",
        "         four, five          many words, for",
        "                             people",
    ]
    assert len(lines(table(["Machine", "Tags", "Description"], [row], width=None))) == 3


def test_a_long_word_is_kept_whole_to_be_copied() -> None:
    assert "x" * 50 in table(["A", "B"], [("y", "x" * 50)], width=40)


def test_a_cell_cannot_reach_the_terminal() -> None:
    assert "\x1b" not in click.unstyle(table(["A"], [("\x1b]0;title\x07\n",)], width=80))
