"""`clan select`: any part of the resolved clan, as JSON."""

from __future__ import annotations

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.output import say_json


@click.command(
    cls=Command,
    examples=(
        "clan select clan.machines.nas.tags",
        "clan select 'clan.instances.*.roles.*.machines'",
        "clan select 'clan.exports.instances.*.networking.{priority,peers}'",
    ),
)
@click.argument("query")
@click.pass_obj
def select(option: str | None, query: str) -> None:
    r"""Print the part of the clan that QUERY names, as JSON.

    Segments are joined by '.': a key, a list's index, '*' for every element, '?key' for one that
    may be absent, '{a,?b}' for several. "Quotes" or '\' take special characters as they are.
    """
    from clan.inventory.select import parse
    from clan.inventory.select import select as take
    from clan.inventory.tree import selectable

    parse(query)  # a wrong query is told before anything is loaded
    say_json(take(query, selectable(context.load_clan(option))))
