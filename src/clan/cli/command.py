"""A command with examples: shown below its help as they are typed, and in the documentation."""

from __future__ import annotations

from typing import Any

import click

SENTENCE = 200
"""Letters that a first sentence may have."""


class Command(click.Command):
    """A click command whose `examples` are lines to type; one may go on in the next, indented."""

    def __init__(self, *args: Any, examples: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def get_short_help_str(self, limit: int = 45) -> str:
        """Return the first sentence of the help, whole: a list of commands breaks its lines."""
        return super().get_short_help_str(limit=max(limit, SENTENCE))

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the examples, unbroken."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)
