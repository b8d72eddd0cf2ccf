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


def test_columns_of_many_words_are_broken_before_a_long_word_is_in_the_way() -> None:
    address = "[fd51:19c1:3b:f700:1234:5678:9abc:def0]:22"
    row = ("wireguard", "no answer yet from any of them", address)
    shown = lines(table(["Network", "Said", "Address"], [row], width=72))
    assert shown[2:] == [
        f"wireguard  no answer yet      {address}",
        "           from any of them",
    ]


def test_a_word_that_no_column_holds_has_a_line_to_itself() -> None:
    head = ["Network", "Peer", "Round trip", "Address or error"]
    address = "[2001:db8:1234:5678:9abc:def0:1234:5678]:22"
    rows = [
        ("wireguard", "grandmas-laptop", "1234.5 ms", address),
        ("wireguard", "grandpas-laptop", "-", f"no answer from {address} in 5 s (30 s ago)"),
    ]
    assert lines(table(head, rows, width=80)) == [
        "Network    Peer             Round trip  Address or error",
        "-" * 80,
        "wireguard  grandmas-laptop  1234.5 ms",
        f"{address:>80}",
        "wireguard  grandpas-laptop  -           no answer from",
        f"{address:>80}",
        "                                        in 5 s (30 s ago)",
    ]


def test_a_cell_cannot_reach_the_terminal() -> None:
    assert "\x1b" not in click.unstyle(table(["A"], [("\x1b]0;title\x07\n",)], width=80))
