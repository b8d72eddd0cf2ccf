"""`clan vars`: the clan's generated values, made, shown, set and kept in order."""

from __future__ import annotations

import base64
import sys
from typing import TYPE_CHECKING

import click

from clan.cli.command import Command
from clan.cli.complete import machine_names, var_ids
from clan.cli.edits import shown
from clan.cli.output import note, say, say_json, table, terminal_width, warn
from clan.cli.vars_desk import Desk, making, run, tell
from clan.cli.vars_keys import keys

if TYPE_CHECKING:
    from collections.abc import Collection

    from clan.vars.need import Request


@click.group("vars")
def vars_() -> None:
    """Make, show and set the clan's values, secret and public."""


vars_.add_command(keys)


@vars_.command(
    "list",
    cls=Command,
    short_help="List the vars and how each is.",
    examples=("clan vars list", "clan vars list --machine nas --json"),
)
@click.option("--machine", shell_complete=machine_names, help="Only what this machine uses.")
@click.option("--json", "as_json", is_flag=True, help="Print them as JSON.")
@click.pass_obj
def list_vars(option: str | None, machine: str | None, *, as_json: bool) -> None:
    """List the vars and how each is: present, missing, due, or a key that stays on its machine.

    Values are not shown: `clan vars get` shows one.
    """
    from clan.inventory.known import known
    from clan.vars.names import var_id
    from clan.vars.survey import states

    desk = Desk.of(option)
    found = states(desk.store, desk.graph, desk.clan.machines)
    if machine is not None:
        known(machine, desk.clan.machines, "machine")
        used = {entry.id for entry in desk.graph.of_machine(machine)}
        found = [
            each
            for each in found
            if each.var.machine == machine
            or any(id_.var(each.var.file) == each.var for id_ in used)
        ]
    if as_json:
        say_json(
            [
                {
                    "id": var_id(each.var),
                    "secret": each.secret,
                    "state": each.state.value,
                    "why": each.why,
                }
                for each in found
            ]
        )
    elif found:
        rows = [
            (
                var_id(each.var),
                "secret" if each.secret else "public",
                f"{each.state}: {each.why}" if each.why else str(each.state),
            )
            for each in found
        ]
        say(table(("Var", "Kind", "State"), rows, width=terminal_width()))
    else:
        note("No instance declares a generator, so there are no vars.")


@vars_.command(
    cls=Command,
    short_help="Print one var, decrypted if it is secret.",
    examples=("clan vars get nas/openssh/ssh.id_ed25519.pub", "clan vars get shared/wifi/password"),
)
@click.argument("id_", metavar="ID", shell_complete=var_ids)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON; base64 if no text.")
@click.pass_obj
def get(option: str | None, id_: str, *, as_json: bool) -> None:
    """Print one var as it is. A secret is decrypted with your key, and nothing else shows it."""
    from clan.errors import ClanError, printable_lines
    from clan.vars.names import find, generator_of, parse

    desk = Desk.of(option)
    var = parse(id_)
    data = desk.store.value(var)
    if data is None:
        find(id_, desk.graph.vars())
        hint = "`clan vars generate` makes what is missing"
        generator = desk.graph.entries[generator_of(var)].generator
        if generator.born_on_machine and desk.graph.vars()[var].secret:
            hint = "it is born on its machine; private keys never leave that"
        raise ClanError(f"{id_} is not in the clan", hint=hint)
    if as_json:
        try:
            say_json({"id": id_, "value": data.decode()})
        except UnicodeDecodeError:
            say_json({"id": id_, "base64": base64.b64encode(data).decode()})
        return
    if sys.stdout.isatty():  # where a value could be a command to the terminal
        say(printable_lines(data.decode("utf-8", "backslashreplace").removesuffix("\n")))
    else:
        sys.stdout.flush()
        sys.stdout.buffer.write(data)
        sys.stdout.buffer.flush()


@vars_.command(
    "set",
    cls=Command,
    short_help="Give a var its value, or a prompt its answer.",
    examples=(
        "clan vars set shared/wifi/password",
        "pass show wifi | clan vars set shared/wifi/password --stdin",
    ),
)
@click.argument("id_", metavar="ID", shell_complete=var_ids)
@click.option("--stdin", is_flag=True, help="Read it from standard input, not at the terminal.")
@click.option("--json", "as_json", is_flag=True, help="Print what changed as JSON.")
@click.pass_obj
def set_var(option: str | None, id_: str, *, stdin: bool, as_json: bool) -> None:
    """Give a var its value, or a prompt its answer: then its generator runs.

    The value is asked for at the terminal, or read from standard input; never on the command
    line, where other users of the computer can see it.
    """
    from clan.cli.prompt import ask
    from clan.model.generator import PromptKind
    from clan.vars.change import set_answer, set_value, settable

    desk = Desk.of(option)
    var, entry, prompt = settable(desk.graph, id_)
    if stdin:
        data = sys.stdin.buffer.read()
        data = data.removesuffix(b"\n") if prompt else data
    else:
        secret = prompt is not None or desk.graph.vars()[var].secret
        kind = prompt.kind if prompt else PromptKind.HIDDEN if secret else PromptKind.LINE
        data = ask(prompt.description if prompt else id_, kind, id_).encode()
    desk_making = making(desk)
    if prompt is None:
        set_value(desk.store, desk.graph, var, data, desk_making.stamp())
        if as_json:
            say_json({"set": id_, "made": [], "due": []})
        else:
            say(f"Set {id_}.")
        return
    waiting = set_answer(desk.store, desk.graph, var, data, desk_making.stamp())
    if waiting:
        if as_json:
            say_json({"set": id_, "made": [], "due": [], "waitsFor": waiting})
        else:
            say(f"Set {id_}. {entry.id} is made when these are answered too: {', '.join(waiting)}.")
        return
    from clan.vars.need import Request

    outcomes = run(desk, desk_making, Request(only=frozenset({entry.id}), regenerate=True))
    tell(outcomes, [], as_json=as_json, more={"set": id_})


@vars_.command(
    cls=Command,
    short_help="Make what is missing, or anew what is asked for.",
    examples=(
        "clan vars generate",
        "clan vars generate --dry-run",
        "clan vars generate --service wireguard-keys-vpn --regenerate --machine laptop",
        "clan vars generate --service openssh --regenerate --machine nas",
    ),
)
@click.option(
    "--machine",
    "machines",
    multiple=True,
    shell_complete=machine_names,
    help="Only what this machine uses; repeatable.",
)
@click.option("--service", "services", multiple=True, help="Only this generator; repeatable.")
@click.option(
    "--regenerate",
    is_flag=True,
    help="Replace values that are there; with --machine only its own, no shared ones.",
)
@click.option("--dry-run", is_flag=True, help="Show what would be made, and why; change nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def generate(
    option: str | None,
    *,
    machines: tuple[str, ...],
    services: tuple[str, ...],
    regenerate: bool,
    dry_run: bool,
    as_json: bool,
) -> None:
    """Make the values that are missing; what depends on a new one follows.

    A secret that is there is replaced only with --regenerate. A key that is born on a machine is
    asked of the machine; where that does not answer it is made at its next update. So are, always,
    a machine's host key (`openssh`) and what it decrypts with (`identity`).
    """
    from clan.errors import UsageError
    from clan.inventory.known import known
    from clan.vars.need import Request
    from clan.vars.renewal import OWN_KEYS, postpone

    if regenerate and not (machines or services):
        raise UsageError(
            "--regenerate replaces every secret of the clan unless it is told which",
            hint="name a generator with --service, or a machine with --machine, or both",
        )
    desk = Desk.of(option)
    names = {id_.name for id_ in desk.graph.entries} | set(OWN_KEYS)
    asked = frozenset(known(each, names, "generator") for each in services)
    request = Request(
        machines=frozenset(known(each, desk.clan.machines, "machine") for each in machines) or None,
        services=asked - set(OWN_KEYS) if asked else None,
        regenerate=regenerate,
    )
    own = asked & set(OWN_KEYS)
    if own and not regenerate:
        raise UsageError(
            f"a machine has its {' and '.join(sorted(own))} from its installation",
            hint="--regenerate has it make a new one",
        )
    if dry_run:
        _show_steps(desk, request, own, as_json=as_json)
        return
    made_with = making(desk)
    outcomes = postpone(desk.store, request.machines or desk.clan.machines, own, made_with.stamp())
    outcomes += run(desk, made_with, request)
    tell(outcomes, _encrypted_anew(desk), as_json=as_json)
    _warn_of_single_admin(desk)


def _show_steps(desk: Desk, request: Request, own: Collection[str], *, as_json: bool) -> None:
    from clan.vars.generate import kept_of
    from clan.vars.need import steps
    from clan.vars.renewal import with_own

    found = [
        (str(step.entry.id), step.action.value, step.why)
        for step in steps(desk.graph, kept_of(desk.store, desk.graph), request)
    ]
    machines = request.machines or desk.clan.machines
    found += [(str(id_), "update", "asked for") for id_, _ in with_own(desk.store, machines, own)]
    if as_json:
        say_json([{"id": id_, "action": action, "why": why} for id_, action, why in found])
    elif found:
        rows = [(id_, _WORDS[action], why) for id_, action, why in found]
        say(table(("Generator", "What", "Why"), rows, width=terminal_width()))
    else:
        say("Nothing would change.")


_WORDS = {
    "make": "would be made",
    "ask": "would be asked of its machine",
    "due": "is due, and left as it is without --regenerate",
    "update": "would be made at its next update",
}


def _encrypted_anew(desk: Desk) -> list[str]:
    """Encrypt anew what others should read than do; what this admin cannot read is warned of."""
    from clan.errors import ClanError
    from clan.vars.admins import read_admins
    from clan.vars.readers import reencrypt

    if not read_admins(desk.store.folder):
        return []
    try:
        return [str(each) for each in reencrypt(desk.store, desk.graph)]
    except ClanError as fault:
        warn(f"not all is encrypted to those who should read it: {fault}")
        return []


def _warn_of_single_admin(desk: Desk) -> None:
    from clan.vars.admins import read_admins
    from clan.vars.survey import SINGLE_ADMIN

    admins = list(read_admins(desk.store.folder))
    if len(admins) == 1:
        warn(f"{admins[0]} is {SINGLE_ADMIN}")


@vars_.command(
    cls=Command,
    short_help="Say what is wrong with the vars.",
    examples=("clan vars check", "clan vars check --json"),
)
@click.option("--json", "as_json", is_flag=True, help="Print it as JSON.")
@click.pass_obj
def check(option: str | None, *, as_json: bool) -> None:
    """Say what is missing, damaged, or encrypted to the wrong readers, and what is due.

    Exits with 1 when something is wrong; what is only due is not.
    """
    from clan.vars.survey import check as look

    desk = Desk.of(option)
    found = look(desk.store, desk.graph, desk.clan.machines)
    wrong = any(each.wrong for each in found)
    if as_json:
        findings = [{"id": each.id, "message": each.message, "wrong": each.wrong} for each in found]
        say_json({"ok": not wrong, "findings": findings})
    else:
        for each in found:
            say(f"{'wrong' if each.wrong else 'note'}: {each.id}: {each.message}")
        if not wrong:
            say("All vars are as they should be.")
    if wrong:
        raise click.exceptions.Exit(1)


@vars_.command(
    cls=Command,
    short_help="Remove what nothing declares.",
    examples=("clan vars prune --dry-run", "clan vars prune --yes"),
)
@click.option("--dry-run", is_flag=True, help="Show what would be removed; change nothing.")
@click.option("--yes", "-y", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print what was removed as JSON.")
@click.pass_obj
def prune(option: str | None, *, dry_run: bool, yes: bool, as_json: bool) -> None:
    """Remove the vars of machines, generators and files that are not in the clan any more."""
    from clan.cli.edits import ask as confirm
    from clan.vars.survey import leftovers
    from clan.vars.survey import prune as remove

    desk = Desk.of(option)
    found = leftovers(desk.store, desk.graph, desk.clan.machines)
    if found and not dry_run:
        if not yes:
            confirm("Remove these vars?", [shown(path) for path in found])
        found = remove(desk.store, desk.graph, desk.clan.machines)
    if as_json:
        say_json({"removed": [] if dry_run else [str(p) for p in found], "unclaimed": len(found)})
        return
    for path in found:
        say(f"{'Would remove' if dry_run else 'Removed'} {shown(path)}")
    if not found:
        say("Everything that is kept is declared.")
