"""`clan mesh root|epoch`: what only the root decides. Its private key is on paper's side alone."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.mesh_desk import as_json_option, mesh_of, network_option
from clan.cli.output import note, say, say_json
from clan.errors import ClanError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from clan.modules.mesh.desk import Desk
    from clan.vars.age import Identity
    from clan.vars.store import Store

RECOVERY = "recovery"

recovery_option = click.option(
    "--recovery",
    default=RECOVERY,
    show_default=True,
    metavar="NAME",
    help="What the recovery key is called, to which the root's is encrypted.",
)


@click.command(
    cls=Command,
    short_help="Begin a mesh: make its root, and the first map.",
    examples=("clan mesh root", "clan mesh root --network home --name anna"),
)
@network_option
@recovery_option
@click.option("--name", help="What you are called as the first admin (default: your user name).")
@as_json_option
@click.pass_obj
def root(
    option: str | None, *, network: str | None, recovery: str, name: str | None, as_json: bool
) -> None:
    """Begin a mesh: make its root, let you sign maps, and sign the first one.

    The root's public key gives the mesh its addresses, for life. Its private key is encrypted to
    the recovery key alone and is nowhere else: it is needed when an admin's key was stolen, or all
    are lost.
    """
    from clan.mesh.chart.content import Content
    from clan.mesh.identity import Key, text
    from clan.modules.mesh import keys, signing
    from clan.modules.mesh.content import content
    from clan.modules.mesh.desk import key_file, own_key, pen
    from clan.modules.mesh.kept import Kept, mesh_errors_told
    from clan.vars.change import set_value
    from clan.vars.store import Store

    clan = context.load_clan(option)
    instance = mesh_of(clan, network)
    graph, store = context.generators(option, clan), Store.of(clan.directory, os.environ)
    kept = Kept(store=store, instance=instance.name)
    if kept.has_root:
        raise ClanError(
            f"the mesh {instance.name} has a root: its machines' addresses follow from it",
            hint=f"`clan mesh epoch --network {instance.name} --new-root` replaces its key",
        )
    to = _recovery(store, recovery)
    key = own_key(os.environ, make=True)
    if key is None:
        raise TypeError("a key that was to be made is not there")
    made = Key.new()
    with mesh_errors_told(), store.locked():
        said = content(instance, clan, store, first_root=made.public, before=Content())
        first = signing.first(said, made, context.user_name(name), pen(key))
        kept.keep_root(made, to)
        kept.keep([first])
    # Last: until it is there, the mesh has not begun, and this can be run again.
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    public = f"{text(made.public)}\n".encode("ascii")
    set_value(store, graph, keys.root_var(instance.name), public, stamp)
    if as_json:
        say_json({"network": instance.name, "root": text(made.public), "admin": text(key.public)})
        return
    say(f"The mesh {instance.name} has a root, {text(made.public)}.")
    say(f"You sign its maps with the key {key_file(os.environ)}.")
    note("`clan machines update` brings the machines into the mesh.")


@click.command(
    cls=Command,
    short_help="Begin anew with the root's key, after a theft.",
    examples=(
        "clan mesh epoch --without ben",
        "clan mesh epoch --recovery-key paper.key --new-root",
    ),
)
@network_option
@click.option(
    "--recovery-key",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE",
    help="The recovery key's file (default: its line is asked for).",
)
@click.option("--without", multiple=True, metavar="ADMIN", help="Who signs no more; repeatable.")
@click.option("--new-root", is_flag=True, help="Make a new root's key as well.")
@recovery_option
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@as_json_option
@click.pass_obj
def epoch(
    option: str | None,
    *,
    network: str | None,
    recovery_key: Path | None,
    without: tuple[str, ...],
    new_root: bool,
    recovery: str,
    yes: bool,
    as_json: bool,
) -> None:
    """Begin a new epoch as the root: its map overrules all that were signed before.

    For when admins have removed each other, or somebody's key was stolen. The map says what the
    clan's file says; whoever signs maps now goes on to, but for those left out.
    """
    import asyncio

    from clan.cli.fleet import Fleet
    from clan.cli.mesh_round import Round
    from clan.mesh.identity import Key
    from clan.modules.mesh.desk import pen
    from clan.modules.mesh.kept import mesh_errors_told
    from clan.modules.mesh.signing import next_epoch

    fleet = Fleet.of(option)
    instance = mesh_of(fleet.clan, network)
    members = list(instance.members["member"])
    begun = Round(fleet=fleet, instance=instance)
    asyncio.run(begun.collect(members))
    store: Store = fleet.reach.store
    to = _recovery(store, recovery) if new_root else ""
    identity = _typed(recovery_key)
    with begun.locked() as desk:
        desk.refuse_unread()
        old = desk.kept.root(identity)
        _asked(desk, without, yes=yes)
        new = Key.new() if new_root else None
        with mesh_errors_told():
            made = next_epoch(desk.held, desk.wanted(), frozenset(without), pen(old), new)
        if new is not None:
            desk.kept.keep_root(new, to)
        desk.take(made)
    given = asyncio.run(begun.hand_out(begun.told))
    if as_json:
        say_json({"network": instance.name, "epoch": made.epoch, "given": given})
        return
    say(f"Signed {made}.")
    say(f"It has reached {', '.join(sorted(given)) or 'no machine yet'}.")


def _asked(desk: Desk, without: Sequence[str], *, yes: bool) -> None:
    from clan.cli.edits import ask
    from clan.cli.mesh_maps import removed_by

    if yes:
        return
    stay = {
        each.name
        for head in desk.held.heads
        for each in head.chain.last.admins
        if each.name not in without
    }
    notes = [f"these sign maps from then on: {', '.join(sorted(stay)) or 'the root alone'}"]
    ask("Begin a new epoch?", [*notes, *removed_by(desk, desk.wanted())])


def _recovery(store: Store, name: str) -> str:
    """Return the recovery key's recipient. Raises ClanError where it would not be one."""
    from clan.vars.admins import read_admins
    from clan.vars.names import nearest

    admins = read_admins(store.folder)
    if name not in admins:
        raise ClanError(
            f"the clan has no recovery key {name!r}, to which the root's could be encrypted",
            hint="`clan vars keys recovery` prints one, for paper"
            if name == RECOVERY
            else nearest(name, admins, "admin"),
        )
    if admins[name].key in store.identity().publics:
        raise ClanError(
            f"{name} is who sits at this computer: the root's key must not be readable here",
            hint="`clan vars keys recovery` prints a key for paper",
        )
    return admins[name].key


def _typed(path: Path | None) -> Identity:
    """Return the recovery key: a file's, or as a person types it. Raises ClanError, UsageError."""
    from clan.cli.ask import has_terminal
    from clan.cli.prompt import ask
    from clan.model.generator import PromptKind
    from clan.vars.age import identity_of, read_identity

    if path is not None:
        return read_identity(path)
    if not has_terminal():
        raise UsageError(
            "this needs the recovery key, and there is no terminal to ask for it at",
            hint="`--recovery-key FILE` names a file that holds it",
        )
    return identity_of(ask("The recovery key, AGE-SECRET-KEY-1…", PromptKind.HIDDEN, "recovery"))
