"""The reference pages say what the program does."""

from __future__ import annotations

import re
from pathlib import Path

import click

from clan import errors
from clan.cli.main import cli
from clan.cli.reference import commands_page, modules_page, walk
from clan.errors import ClanError
from clan.inventory.registry import Registry

REFERENCE = Path(__file__).parents[2] / "docs/reference"
STALE = "run scripts/docs"


def test_the_pages_are_what_scripts_docs_makes() -> None:
    assert (REFERENCE / "commands.md").read_text("utf-8") == commands_page(), STALE
    assert (REFERENCE / "modules.md").read_text("utf-8") == modules_page(Registry(REFERENCE)), STALE


def headings(page: str) -> str:
    text = (REFERENCE / page).read_text("utf-8")
    return "\n".join(line for line in text.splitlines() if line.startswith("#"))


def test_every_command_and_option_has_its_heading() -> None:
    sections = re.split(r"^## ", (REFERENCE / "commands.md").read_text("utf-8"), flags=re.MULTILINE)
    documented = {section.partition("\n")[0]: section for section in sections}
    for path, command, _ in walk(cli, click.Context(cli, info_name="clan")):
        assert path in documented
        for parameter in command.params:
            if isinstance(parameter, click.Option) and not parameter.hidden:
                assert re.search(rf"^### `.*{parameter.opts[-1]}\b", documented[path], re.MULTILINE)


def test_lists_of_commands_break_off_no_sentence() -> None:
    for path, command, ctx in walk(cli, click.Context(cli, info_name="clan")):
        if isinstance(command, click.Group):
            assert "..." not in command.get_help(ctx).partition("Commands:")[2], path


def test_every_command_that_prints_has_json_and_every_command_an_example() -> None:
    for path, command, _ in walk(cli, click.Context(cli, info_name="clan")):
        if isinstance(command, click.Group):
            continue
        assert getattr(command, "examples", ()), path
        options = {option for parameter in command.params for option in parameter.opts}
        assert "--json" in options or path in NOTHING_TO_TELL, path


NOTHING_TO_TELL = {
    # JSON or another program's language in any case
    "clan select",
    "clan completion",
    "clan connect",
    "clan known-hosts",
    # what they start has the say
    *(f"clan lab {name}" for name in ("exec", "run", "shell")),
    # done or not
    *(f"clan lab {name}" for name in ("image", "up", "down", "cut", "restore", "move")),
}


def test_every_module_role_and_setting_has_its_heading() -> None:
    registry = Registry(REFERENCE)
    found = headings("modules.md").splitlines()
    for name in registry.installed():
        module = registry.get(name).module
        assert f"## {name}" in found
        for role in module.roles:
            assert f"### {name}: role {role}" in found
        schemas = {name: module.settings}
        schemas |= {f"{name}.{role}": module.roles[role].settings for role in module.roles}
        for owner, schema in schemas.items():
            for field in schema.model_fields.values():
                assert any(line.endswith(f"`{owner}`: `{field.alias}`") for line in found)


def classes(of: type[ClanError]) -> list[type[ClanError]]:
    return [of, *(inner for each in of.__subclasses__() for inner in classes(each))]


def test_the_table_of_exit_codes_agrees_with_the_errors() -> None:
    text = (REFERENCE / "exit-codes.md").read_text("utf-8")
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| .+ \|$", text, re.MULTILINE)
    documented = {name: int(code) for code, name in rows}
    there = {each.__name__: each.exit_code for each in classes(ClanError)}
    ours = {name: code for name, code in there.items() if hasattr(errors, name)}
    assert documented == ours
    assert set(there.values()) == set(documented.values())
    tree = re.findall(r"^[^\w\n]*(\w+Error) +(\d+) ", errors.__doc__ or "", re.MULTILINE)
    assert {name: int(code) for name, code in tree} == ours
