"""What the commands of `clan vars` work on, and how they make values and tell of it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from clan.cli import context
from clan.cli.output import say, say_json
from clan.vars.store import Store

if TYPE_CHECKING:
    from clan.model.clan import Clan
    from clan.vars.birth import Birthplace
    from clan.vars.generate import Making, Outcome
    from clan.vars.graph import Graph
    from clan.vars.need import Request


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """What the commands work on: the clan, its generators, and where values are kept."""

    option: str | None
    clan: Clan
    graph: Graph
    store: Store

    @classmethod
    def of(cls, option: str | None) -> Desk:
        """Load the clan and ask its modules. InventoryError has all faults."""
        clan = context.load_clan(option)
        declared = context.generators(option, clan)
        store = Store.of(clan.directory, os.environ)
        return cls(option=option, clan=clan, graph=declared, store=store)


def birthplace(desk: Desk) -> Birthplace:
    """Return the way to the machines where keys are born."""
    from clan.cli.fleet import Fleet, Progress
    from clan.cli.reach import Reach
    from clan.deploy.birthplace import Machines

    reach = Reach.of(desk.option)
    fleet = Fleet(clan=desk.clan, reach=reach, context=reach.context(interactive=False))
    return Machines(remote=fleet.remote, say=Progress(list(fleet.clan.machines), quiet=False))


def making(desk: Desk) -> Making:
    """Return what making values needs: this terminal, this clock."""
    from clan.cli.prompt import ask_prompt
    from clan.vars.generate import Making

    return Making(ask=ask_prompt, now=lambda: datetime.now(UTC), birthplace=birthplace(desk))


def run(desk: Desk, made_with: Making, request: Request) -> list[Outcome]:
    """Make values; a ClanError of a machine or a generator comes out as itself."""
    import asyncio

    from clan.errors import ClanError
    from clan.vars.generate import generate

    try:
        return asyncio.run(generate(desk.store, desk.graph, made_with, request))
    except* ClanError as several:
        raise first(several) from None


def first(group: BaseExceptionGroup[Any]) -> BaseException:
    """Return the first error in a group: what several machines say is mostly the same."""
    found: BaseException = group
    while isinstance(found, BaseExceptionGroup):
        found = found.exceptions[0]
    return found


def tell(
    outcomes: list[Outcome],
    encrypted: list[str],
    *,
    as_json: bool,
    more: dict[str, Any] | None = None,
) -> None:
    """Print what was made and what is due."""
    if as_json:
        made = [{"id": str(each.id), "why": each.why} for each in outcomes if each.made]
        due = [{"id": str(each.id), "why": each.why} for each in outcomes if not each.made]
        say_json({**(more or {}), "made": made, "due": due, "encryptedAnew": encrypted})
        return
    for each in outcomes:
        say(f"{'Made' if each.made else 'Due: '} {each.id} ({each.why})")
    for id_ in encrypted:
        say(f"Encrypted {id_} anew: its readers changed.")
    if not outcomes and not encrypted:
        say("Nothing is missing.")
