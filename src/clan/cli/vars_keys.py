"""`clan vars keys`: who reads the clan's secrets and logs in to its machines."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from clan.cli import context
from clan.cli.command import Command
from clan.cli.edits import ask
from clan.cli.output import note, say, say_json, table, terminal_width, warn
from clan.vars.store import Store

if TYPE_CHECKING:
    from collections.abc import Iterable

    from clan.model.clan import Clan
    from clan.vars.graph import Graph
    from clan.vars.names import GeneratorId
    from clan.vars.people import Removal


@click.group()
def keys() -> None:
    """Say who reads the clan's secrets and logs in to its machines."""


def _opened(option: str | None) -> tuple[Clan, Graph, Store]:
    clan = context.load_clan(option)
    declared = context.generators(option, clan)
    return clan, declared, Store.of(clan.directory, os.environ)


@keys.command(
    "list",
    cls=Command,
    examples=("clan vars keys list", "clan vars keys list --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_keys(option: str | None, *, as_json: bool) -> None:
    """List the admins: their keys, and what may log in."""
    from clan.errors import ClanError
    from clan.vars.admins import read_admins
    from clan.vars.survey import SINGLE_ADMIN

    store = Store.of(context.clan_file(option).parent, os.environ)
    admins = read_admins(store.folder).values()
    try:
        mine = store.identity().publics
    except ClanError:
        mine = ()
    if as_json:
        say_json(
            [
                {
                    "name": each.name,
                    "key": each.key,
                    "logins": list(each.logins),
                    "leaving": each.leaving,
                    "here": each.key in mine,
                }
                for each in admins
            ]
        )
        return
    if not admins:
        note("There is no admin yet. `clan vars keys generate` makes you the first.")
        return
    rows = [
        (
            each.name,
            "you" if each.key in mine else "leaving: remove again" if each.leaving else "",
            str(len(each.logins)),
            each.key,
        )
        for each in admins
    ]
    say(table(("Admin", "", "Logins", "Key"), rows, width=terminal_width()))
    if len(admins) == 1:
        warn(f"{rows[0][0]} is {SINGLE_ADMIN}")


@keys.command(
    cls=Command,
    short_help="Make your own private key.",
    examples=("clan vars keys generate", "clan vars keys generate --name anna"),
)
@click.option("--name", help="What the first admin is called (default: your user name).")
@click.option("--json", "as_json", is_flag=True, help="Print the public key as JSON.")
@click.pass_obj
def generate(option: str | None, *, name: str | None, as_json: bool) -> None:
    """Make your own private key, and you the first admin where the clan has none.

    The key is `$XDG_CONFIG_HOME/clan/age.key`; one that is there is used, and so is an
    unencrypted ~/.ssh/id_ed25519 where there is none.
    """
    from clan.vars.admins import Admin, read_admins
    from clan.vars.people import add_admin

    _, graph, store = _opened(option)
    path, public, made = _own_key(store)
    admins = read_admins(store.folder)
    first = not admins
    known = next((each.name for each in admins.values() if each.key == public), None)
    if first:
        add_admin(
            store, graph, Admin(name=context.user_name(name), key=public, logins=_own_logins())
        )
    if as_json:
        say_json({"path": str(path), "key": public, "made": made, "added": first})
        return
    say(f"Made the private key {path}." if made else f"Your private key is {path}.")
    say(f"Its public key is {public}")
    if first:
        say(f"{context.user_name(name)} is the clan's first admin.")
        warn("it is the only one: `clan vars keys recovery` prints a spare, for paper")
    elif known is not None:
        say(f"You are the clan's admin {known}.")
    else:
        note(f"An admin adds you: clan vars keys add {context.user_name(name)} --key '{public}'")


def _own_key(store: Store) -> tuple[Path, str, bool]:
    """Return this computer's key: file, recipient, and whether it was made just now."""
    from clan.vars.age import new_key, read_identity

    for path in store.keys:
        if path.exists():
            return path, read_identity(path).publics[0], False
    secret, public = new_key()
    path = store.keys[0]
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    text = f"# created: {stamp}\n# public key: {public}\n{secret}\n"
    from clan.system.files import disk_errors_told, write_atomic

    with disk_errors_told():
        write_atomic(path, text.encode(), mode=0o600)
    return path, public, True


def _own_logins() -> tuple[str, ...]:
    from clan.vars.admins import login_key

    path = Path.home() / ".ssh/id_ed25519.pub"
    try:
        return (login_key(path.read_text("utf-8")),)
    except FileNotFoundError:
        return ()


@keys.command(
    cls=Command,
    short_help="Add an admin, who can read everything.",
    examples=(
        "clan vars keys add ben --key age1… --login ben.pub",
        "clan vars keys add ben --key 'ssh-ed25519 AAAA…'",
    ),
)
@click.argument("name")
@click.option(
    "--key",
    help="What to encrypt to: `age1…` or `ssh-ed25519 …` (default: yours, for the first).",
)
@click.option(
    "--login",
    "logins",
    multiple=True,
    metavar="FILE",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="SSH public keys that may log in to every machine; repeatable.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def add(
    option: str | None, name: str, *, key: str | None, logins: tuple[Path, ...], as_json: bool
) -> None:
    """Add an admin: every secret is encrypted to them too, and their SSH keys may log in.

    The keys reach the machines at their next update. Run again after a crash, it goes on.
    """
    from clan.errors import UsageError
    from clan.vars.admins import Admin, login_key, path_of, read_admins
    from clan.vars.people import add_admin

    _, graph, store = _opened(option)
    path_of(store.folder, name)  # a name that cannot be a file's is the first thing to say
    if key is None and set(read_admins(store.folder)) - {name}:
        raise UsageError(
            f"only an admin can add {name}, with what {name} has for a public key",
            hint=f"there, `clan vars keys generate` shows it; then "
            f"`clan vars keys add {name} --key 'age1…'` here",
        )
    public = key or _own_key(store)[1]
    lines = [line for path in logins for line in path.read_text("utf-8").splitlines()]
    wanted = tuple(login_key(line) for line in lines if line.strip() and line[0] != "#")
    if public.startswith("ssh-ed25519") and not wanted:
        wanted = (login_key(public),)
    done = add_admin(store, graph, Admin(name=name, key=public, logins=wanted))
    _added(name, done, logins=len(wanted), as_json=as_json)


def _added(name: str, done: Iterable[GeneratorId], *, logins: int, as_json: bool) -> None:
    changed = [str(each) for each in done]
    if as_json:
        say_json({"added": name, "encryptedAnew": changed, "logins": logins})
        return
    count = f"the secrets of {len(changed)} generator{'' if len(changed) == 1 else 's'}"
    also = f"{count} are encrypted to them too" if changed else "they read every secret from now on"
    say(f"Added {name}: {also}.")
    if logins:
        note("`clan machines update` lets them log in to the machines.")


@keys.command(
    cls=Command,
    short_help="Remove an admin, and replace what they could read.",
    examples=("clan vars keys remove ben", "clan vars keys remove ben --yes --json"),
)
@click.argument("name")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what follows as JSON.")
@click.pass_obj
def remove(option: str | None, name: str, *, yes: bool, as_json: bool) -> None:
    """Remove an admin, and replace what they could read.

    What can be made anew is; each machine that they could log in to replaces its own keys at its
    next update; what only a person can replace is listed, and stays due. Run again after a crash,
    it goes on.
    """
    from clan.vars.people import remove_admin

    clan, graph, store = _opened(option)
    if not yes:
        ask(f"Remove the admin {name} and replace every secret they could read?")
    stamp = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    done = remove_admin(store, graph, name, clan.machines, stamp)
    if as_json:
        say_json(
            {
                "removed": name,
                "rotated": [str(each) for each in done.rotated],
                "machines": list(done.machines),
                "byHand": [{"id": str(id_), "why": why} for id_, why in done.by_hand],
            }
        )
        return
    _tell_removal(done)
    if any(each.module.name == "mesh" for each in clan.instances.values()):
        note("Who signs the map of a mesh is apart from that: `clan mesh admins list`.")


def _tell_removal(done: Removal) -> None:
    say(f"Removed {done.name}.")
    for id_ in done.rotated:
        say(f"Made anew: {id_}")
    if done.machines:
        machines = ", ".join(done.machines)
        say(f"Made anew at the next update: identity, host key and own keys of {machines}")
    for id_, why in done.by_hand:
        say(f"Left to you: {id_} ({why})")
    if done.rotated or done.machines:
        note("`clan machines update` brings it to the machines.")


@keys.command(
    cls=Command,
    short_help="Print a key to keep on paper.",
    examples=("clan vars keys recovery | lpr",),
)
@click.option("--name", default="recovery", show_default=True, help="What it is called.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def recovery(option: str | None, *, name: str, as_json: bool) -> None:
    """Add a new key that can read everything, and print its private half: it is kept nowhere.

    Print it and lock it away. To use it, write the line into `$XDG_CONFIG_HOME/clan/age.key`.
    """
    from clan.errors import ClanError
    from clan.vars.admins import Admin, read_admins
    from clan.vars.age import new_key
    from clan.vars.people import add_admin

    _, graph, store = _opened(option)
    if not read_admins(store.folder):
        raise ClanError(
            "there is no admin yet, whose key this could stand in for",
            hint="`clan vars keys generate` makes you the first",
        )
    secret, public = new_key()
    add_admin(store, graph, Admin(name=name, key=public))
    if as_json:
        say_json({"name": name, "key": public, "secret": secret})
    else:
        say(secret)
        note("This is shown once. Who has it reads every secret of the clan: keep it on paper.")
