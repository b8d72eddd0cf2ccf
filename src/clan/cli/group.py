"""A group of commands that are imported when they are used, and not to be listed."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import click

from clan.errors import did_you_mean

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem


class LazyGroup(click.Group):
    """A group whose commands are imported when used; listing them imports nothing."""

    def __init__(self, *args: Any, lazy: dict[str, tuple[str, str]], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.lazy = lazy

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command, imported or not, in the order they are declared."""
        del ctx
        return [*self.commands, *self.lazy]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import and return the command."""
        if cmd_name not in self.lazy:
            return super().get_command(ctx, cmd_name)
        module, _, attribute = self.lazy[cmd_name][0].partition(":")
        command = getattr(importlib.import_module(module), attribute)
        if not isinstance(command, click.Command):
            raise TypeError(f"{module}:{attribute} is not a command")
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command, or fail with the nearest name."""
        if args and not args[0].startswith("-") and args[0] not in self.list_commands(ctx):
            near = did_you_mean(args[0], self.list_commands(ctx))
            ctx.fail(f"No such command {args[0]!r}." + (f" ({near})" if near else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands with their one line each, importing none."""
        with formatter.section("Commands"):
            formatter.write_dl(self._rows())
        del ctx

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[str]]:
        """Complete a command's name, importing none; options are completed by click."""
        from click.shell_completion import CompletionItem

        found = [
            CompletionItem(name, help=help_line)
            for name, help_line in self._rows()
            if name.startswith(incomplete)
        ]
        # Not Group's: it would import every command to see whether it is hidden.
        return [*found, *click.Command.shell_complete(self, ctx, incomplete)]

    def _rows(self) -> list[tuple[str, str]]:
        """Return each command's name and its one line."""
        rows = [(name, self.commands[name].get_short_help_str()) for name in self.commands]
        return [*rows, *((name, help_line) for name, (_, help_line) in self.lazy.items())]
