"""What the pages show can be typed, what they link to is there, and their clan files are right."""

from __future__ import annotations

import re
import shlex
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import click
import pytest

from clan.cli.main import cli
from clan.inventory.load import load_bytes
from clan.inventory.registry import Registry
from clan.inventory.resolve import resolve

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")])
PROMPT = re.compile(r"(?:[a-z]+)?\$ (.*)")
ENDS_A_COMMAND = {"|", "&&", "||", ";"}
REDIRECTS = {">", ">>", "<"}


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"(?ms)^```{language}\n(.*?)^```$", page.read_text("utf-8"))


def typed(block: str) -> Iterator[str]:
    """Yield the lines typed at a prompt, those that go on in the next put together."""
    lines = iter(block.splitlines())
    for line in lines:
        match = PROMPT.fullmatch(line)
        if match is None:
            continue
        command = match[1]
        while command.endswith("\\"):
            command = command[:-1] + next(lines).removeprefix(">")
        yield command


def simple_commands(line: str) -> Iterator[list[str]]:
    """Yield the commands of a line as words, without what goes to and comes from files."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="|&;<>")
    lexer.whitespace_split = True
    words: list[str] = []
    for word in lexer:
        if word in ENDS_A_COMMAND:
            yield words
            words = []
        elif word in REDIRECTS:
            next(lexer)
        else:
            words.append(word)
    yield words


def parse(words: list[str]) -> None:
    """Let click read a command as it would before running it. Raises what click raises."""
    context = cli.make_context("clan", list(words))
    command: click.Command = cli
    while isinstance(command, click.Group):
        rest = [*context._protected_args, *context.args]
        name, found, rest = command.resolve_command(context, rest)
        assert found is not None
        try:
            context = found.make_context(name, rest, parent=context)
        except click.BadParameter as fault:
            # A file of the reader's; all else about the command was right until then.
            if fault.param is not None and isinstance(fault.param.type, click.File | click.Path):
                return
            raise
        command = found
    inner = context.params.get("command") or ()
    if command.name in {"run", "exec"} and inner[:1] == ("clan",):
        parse(list(inner[1:]))


def shown() -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), line)
        for page in PAGES
        for block in blocks(page, "console")
        for line in typed(block)
    ]


@pytest.mark.parametrize(("page", "line"), shown())
def test_what_is_typed_is_a_command_with_these_options(page: str, line: str) -> None:
    del page
    for words in simple_commands(line):
        if words[:1] == ["sudo"]:
            words = words[1:]  # noqa: PLW2901 (what sudo runs is the command)
        if words[0].startswith("scripts/"):
            assert (ROOT / words[0]).stat().st_mode & 0o111
        elif words[0] == "clan":
            parse(words[1:])


def test_a_command_that_is_not_there_would_be_noticed() -> None:
    for wrong in ("network lsit", "ssh --explian nas", "ssh", "ssh --action fast nas"):
        with pytest.raises((click.UsageError, click.exceptions.Exit)):
            parse(wrong.split())


def anchors(page: Path) -> set[str]:
    """Return the anchors of the headings, as GitHub makes them."""
    titles = re.findall(r"^#+ (.*)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def links() -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), target)
        for page in PAGES
        for target in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8"))
        if "://" not in target
    ]


@pytest.mark.parametrize(("page", "target"), links())
def test_what_is_linked_to_is_there(page: str, target: str) -> None:
    file, _, anchor = target.partition("#")
    found = (ROOT / page).parent / file if file else ROOT / page
    assert found.exists()
    if anchor:
        assert anchor in anchors(found)


def clan_files() -> list[tuple[str, str]]:
    return [
        (str(page.relative_to(ROOT)), text)
        for page in PAGES
        for text in blocks(page, "toml")
        if "meta" in tomllib.loads(text)
    ]


@pytest.mark.parametrize(("page", "text"), clan_files())
def test_a_clan_file_that_is_shown_is_right(page: str, text: str, tmp_path: Path) -> None:
    del page
    inventory = load_bytes(tmp_path / "clan.toml", "toml", text.encode())
    assert resolve(inventory, Registry(tmp_path)).warnings == ()


def test_every_page_is_led_to_from_the_readme() -> None:
    seen: set[Path] = set()
    pending = [ROOT / "README.md"]
    while pending:
        page = pending.pop()
        seen.add(page)
        for target in re.findall(r"\]\(([^)\s#]+\.md)[^)]*\)", page.read_text("utf-8")):
            found = (page.parent / target).resolve()
            if found not in seen and found.exists():
                pending.append(found)
    assert set(PAGES) - seen <= {ROOT / "CHANGELOG.md"}
