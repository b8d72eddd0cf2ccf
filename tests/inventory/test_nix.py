"""clan.nix: a table or a function of one, evaluated offline and kept in its folder."""

from __future__ import annotations

import shutil
import time
from typing import TYPE_CHECKING

import pytest

from clan.errors import MissingProgramError
from clan.inventory.nix import condensed

if TYPE_CHECKING:
    from tests.desk import Desk

needs_nix = pytest.mark.skipif(
    shutil.which("nix-instantiate") is None, reason="nix is not installed (apt install nix-bin)"
)
CLAN = '{ machines.nas = { }; meta.name = "home"; }'


@needs_nix
@pytest.mark.parametrize(
    "text",
    [
        CLAN,
        "{ ... }: " + CLAN,
        "{ lib ? null, ... }: " + CLAN,
        "let m = { nas = { }; }; in { machines = m; }",
        "{ machines = import ./machines.nix; }",
        "{ machines = builtins.fromJSON (builtins.readFile ./machines.json); }",
        "{ machines.nas.description = null; }",
    ],
)
def test_a_table_or_a_function_of_one_is_a_clan(text: str, desk: Desk) -> None:
    desk.write("machines.nix", "{ nas = { }; }")
    desk.write("machines.json", '{ "nas": {} }')
    assert list(desk.open(text, "nix").machines) == ["nas"]


@needs_nix
@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            "{\n  machines.nas = { }\n}",
            "clan.nix:3: is not evaluated: syntax error, unexpected '}'",
        ),
        ("{\n  machines = nas;\n}", "clan.nix:2: is not evaluated: undefined variable 'nas'"),
        ("{ machines = import ./bad.nix; }", "bad.nix:2: is not evaluated: cannot add"),
        ("{ machines.nas.tag = [ ]; }", "clan.nix: machines.nas.tag: unknown key 'tag' (did you"),
        ("x: { }", "clan.nix:1: is not evaluated: cannot convert a function to JSON"),
        ("{ lib, ... }: { }", "clan.nix: is not evaluated: "),
        ("[ ]", "clan.nix: must be a table, not a list"),
        ('{ a = throw "not so"; }', "clan.nix: is not evaluated: not so"),
        ("let f = x: f (x + 1); in f 1", "clan.nix: is not evaluated: "),
        ("let a = a; in a", "clan.nix:1: is not evaluated: infinite recursion encountered"),
        ("{ a = builtins.genList (x: x) 1000000000; }", "clan.nix: is not evaluated: "),
        ("{ a = builtins.readFile /etc/hostname; }", "forbidden in restricted mode"),
        ("{ a = import ../secret.nix; }", "forbidden in restricted mode"),
        ('{ a = builtins.fetchurl "http://192.0.2.1/"; }', "forbidden in restricted mode"),
        ("{ a = import <nixpkgs> { }; }", "'nixpkgs' was not found in the Nix search path"),
        ('{ meta.name = builtins.getEnv "PATH"; }', "clan.nix: meta.name: must not be empty"),
    ],
)
def test_a_fault_in_nix_is_one_line_with_its_place(text: str, fault: str, desk: Desk) -> None:
    desk.write("bad.nix", '{\n  nas = 1 + "a";\n}')
    (desk.folder.parent / "secret.nix").write_text("{ }")
    (said,) = desk.faults(text, "nix")
    assert fault in said
    assert "\n" not in said
    assert "«" not in said
    assert not said.endswith(": ")


@needs_nix
def test_what_never_ends_is_given_up(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("clan.inventory.nix.SECONDS", 1)
    text = "let f = n: if n == 0 then 0 else f (n - 1) + f (n - 1); in f 60"
    start = time.monotonic()
    assert desk.faults(text, "nix") == ["clan.nix: was not evaluated within 1 s"]
    assert time.monotonic() - start < 30


def test_without_nix_it_is_said_how_to_get_it(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(desk.folder))
    with pytest.raises(MissingProgramError, match=r"clan\.nix needs nix-instantiate") as caught:
        desk.open(CLAN, "nix")
    assert caught.value.hint == "Debian: `apt install nix-bin`; or write clan.toml"


OLD = """\
error: undefined variable 'nas'

       at «stdin»:2:14:

            1| {
            2|   machines = nas;
             |              ^
(use '--show-trace' to show detailed location information)
"""
NEW = """\
warning: ignoring something
error:
       … while evaluating the attribute 'machines'
         at «stdin»:2:3:
            1| {
            2|   machines = import ./m.nix;

       error: undefined variable 'nas'
       at /home/me/m.nix:7:14:
            6| {
            7|   a = nas;
"""


@pytest.mark.parametrize(
    ("stderr", "said"),
    [
        (OLD, ("«stdin»", "undefined variable 'nas'", 2)),
        (NEW, ("/home/me/m.nix", "undefined variable 'nas'", 7)),
        ("GC Warning: Out of Memory!\n", (None, "GC Warning: Out of Memory!", None)),
        ("", (None, "nix failed", None)),
    ],
)
def test_what_nix_prints_is_condensed_to_its_point(
    stderr: str, said: tuple[str | None, str, int | None]
) -> None:
    assert condensed(stderr) == said
