"""What the commands that edit the clan's file have in common: asking first, telling afterwards."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import click

from clan.cli.output import note, say, say_json, warn
from clan.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from clan.inventory.apply import Applied


def ask(question: str, notes: Sequence[str] = ()) -> None:
    """Ask at the terminal, `notes` above the question; end the command unless the answer is yes.

    Without a terminal nobody can answer, and a pipe's `y` is nobody's decision: it refuses.
    """
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "this needs an answer, and there is no terminal to ask at",
            hint="`--yes` goes ahead without asking",
        )
    for line in notes:
        note(f"  {line}")
    if not click.confirm(question, err=True):
        note("Nothing was changed.")
        raise click.exceptions.Exit(1)


def applied(done: Applied, text: str, *, as_json: bool) -> None:
    """Tell what an edit changed, and what went wrong after it."""
    for warning in done.warnings:
        warn(warning)
    if as_json:
        changed = [shown(path) for path in done.changed]
        say_json({"changed": changed, "notes": list(done.edit.notes)})
        return
    say(text)
    for line in done.edit.notes:
        note(f"  {line}")


def shown(path: Path) -> str:
    """Return a path as a person here would write it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
