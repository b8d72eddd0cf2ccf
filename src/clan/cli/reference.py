"""The pages docs/reference/commands.md and modules.md, made from the commands and modules.

`scripts/docs` writes them; a test fails when they are not what this makes. It owns the layout of
the pages; the words are those of `--help` and of the modules' schemas.
"""

from __future__ import annotations

import inspect
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from clan.cli.main import cli
from clan.inventory.registry import Registry

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from clan.model.module import Module, Settings

MADE = "<!-- Made by scripts/docs; edit the source instead. -->"
COMMANDS_HEAD = f"""# Commands

{MADE}

Every command takes `--help`. A command that fails exits with a code that
[exit-codes.md](exit-codes.md) explains.
"""
MODULES_HEAD = f"""# Modules

{MADE}

A module is a service that machines of a clan can take part in; an instance is a use of it. Settings
of an instance are written as `instances.NAME.settings`, those of a role as
`instances.NAME.roles.ROLE.settings`, or for one machine or tag as
`instances.NAME.roles.ROLE.machines.MACHINE.settings`.
"""


def commands_page() -> str:
    """Return the page of all commands, each with its options."""
    context = click.Context(cli, info_name="clan", max_content_width=100, terminal_width=100)
    parts = [COMMANDS_HEAD]
    for path, command, ctx in walk(cli, context):
        parts += [f"## {path}\n", *_command(command, ctx)]
    return "\n".join(parts).rstrip() + "\n"


def walk(
    command: click.Command, ctx: click.Context
) -> Iterator[tuple[str, click.Command, click.Context]]:
    """Yield every command that is not hidden, with its path; a group comes before its commands."""
    yield ctx.command_path, command, ctx
    if not isinstance(command, click.Group):
        return
    for name in command.list_commands(ctx):
        inner = command.get_command(ctx, name)
        if inner is not None and not inner.hidden:
            yield from walk(inner, click.Context(inner, info_name=name, parent=ctx))


def _command(command: click.Command, ctx: click.Context) -> Iterator[str]:
    usage = " ".join([ctx.command_path, *command.collect_usage_pieces(ctx)])
    yield f"    {usage}\n"
    yield _prose(command.help or command.short_help or "")
    examples = getattr(command, "examples", ())
    if examples:
        yield "Examples:\n"
        yield "\n".join(f"    {line}" for line in examples) + "\n"
    for parameter in command.params:
        record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
        if record is not None:
            yield f"### `{record[0]}`\n"
            yield f"{record[1]}\n"


def _prose(text: str) -> str:
    """Return help text as Markdown: click's backspace mark keeps lines unfilled."""
    paragraphs = []
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        if paragraph.startswith("\b\n"):
            lines = paragraph.removeprefix("\b\n").splitlines()
            paragraphs.append("\n".join(f"    {line}" for line in lines))
        else:
            paragraphs.append(re.sub(r"\s*\n\s*", " ", paragraph))
    return "\n\n".join(paragraphs) + "\n"


def modules_page(registry: Registry) -> str:
    """Return the page of the installed modules, each with its roles and settings."""
    parts = [MODULES_HEAD]
    for name in sorted(registry.installed()):
        parts += [f"## {name}\n", *_module(registry.get(name).module)]
    return "\n".join(parts).rstrip() + "\n"


def _module(module: Module) -> Iterator[str]:
    yield f"{module.description}\n"
    yield from _settings("###", module.name, module.settings)
    for name, role in module.roles.items():
        yield f"### {module.name}: role {name}\n"
        yield f"{role.description}\n"
        if role.least or role.most is not None:
            yield f"Machines: {_how_many(role.least, role.most)}.\n"
        yield from _settings("####", f"{module.name}.{name}", role.settings)


def _how_many(least: int, most: int | None) -> str:
    if most is None:
        return f"at least {least}"
    return f"{least}" if least == most else f"{least} to {most}"


def _settings(level: str, owner: str, schema: type[Settings]) -> Iterator[str]:
    described = schema.model_json_schema(by_alias=True)
    required = described.get("required", ())
    for name, shape in described.get("properties", {}).items():
        yield f"{level} `{owner}`: `{name}`\n"
        kind = _type(shape, described.get("$defs", {}))
        default = shape.get("default")
        if name in required:
            kind += ", must be given"
        elif default is not None:
            kind += f", default `{json.dumps(default, ensure_ascii=False)}`"
        text = shape.get("description", "").replace("\n", " ")
        yield f"{kind[0].upper()}{kind[1:]}. {text}".rstrip() + "\n"


def _type(shape: Mapping[str, Any], definitions: Mapping[str, Any]) -> str:
    """Return what a person calls the type that a JSON Schema describes."""
    if "$ref" in shape:
        return _type(definitions[shape["$ref"].rpartition("/")[2]], definitions)
    if "anyOf" in shape:
        inner = [_type(each, definitions) for each in shape["anyOf"] if each.get("type") != "null"]
        return " or ".join(dict.fromkeys(inner))
    if "enum" in shape or "const" in shape:
        values = shape.get("enum", [shape.get("const")])
        return "one of " + ", ".join(f"`{json.dumps(value)}`" for value in values)
    match shape.get("type"):
        case "array":
            items = shape.get("items") or {}
            return f"list of {_type(items, definitions)}s" if items else "list"
        case "object":
            return "table"
        case None:
            return "value"
        case "integer":
            return "whole number"
        case name:
            return str(name)


def write(folder: Path) -> None:
    """Write both pages."""
    (folder / "commands.md").write_text(commands_page(), "utf-8")
    (folder / "modules.md").write_text(modules_page(Registry(folder)), "utf-8")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
