"""A command with examples: shown below its help as they are typed, and in the documentation."""

from __future__ import annotations

from typing import Any

import click


class Command(click.Command):
    """A click command whose `examples` are lines to type; one may go on in the next, indented."""

    def __init__(self, *args: Any, examples: tuple[str, ...], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.examples = examples

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Print the examples, unbroken."""
        with formatter.section("Examples"):
            for line in self.examples:
                formatter.write(f"{'':{formatter.current_indent}}{line}\n")
        super().format_epilog(ctx, formatter)
