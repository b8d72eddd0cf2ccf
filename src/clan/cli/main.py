"""The `clan` command: which groups there are, loaded only when named; errors become exit codes."""

from __future__ import annotations

import io
import os
import sys
from typing import TYPE_CHECKING

import click

from clan import __version__
from clan.cli.group import LazyGroup
from clan.errors import ClanError, printable_lines

if TYPE_CHECKING:
    from collections.abc import Sequence


# name -> (module:attribute, one line of help); the module is imported when the command runs.
COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("clan.cli.clan:init", "Write a first clan file."),
    "show": ("clan.cli.clan:show", "Show the clan: machines, networks, instances."),
    "check": ("clan.cli.clan:check", "Say what is wrong with the clan's file."),
    "select": ("clan.cli.select:select", "Print any part of the resolved clan as JSON."),
    "machines": ("clan.cli.machines:machines", "List, create, install and update machines."),
    "instances": ("clan.cli.instances:instances", "List, add and remove networks and services."),
    "vars": ("clan.cli.vars:vars_", "Make, show and set the clan's values, secret and public."),
    "network": ("clan.cli.network:network", "Show the networks and who answers on them."),
    "mesh": ("clan.cli.mesh:mesh", "Look after a mesh: its map, and the paths in it."),
    "doctor": ("clan.cli.doctor:doctor", "Say what is wrong with a machine's networks, in words."),
    "ssh": ("clan.cli.ssh:ssh", "Log in to a machine over whichever network works now."),
    "run": ("clan.cli.run:run", "Run a command on many machines at once."),
    "connect": ("clan.cli.connect:connect", "Open a stream to a machine (for ProxyCommand)."),
    "ssh-config": ("clan.cli.ssh_config:ssh_config", "Print the lines for ~/.ssh/config."),
    "known-hosts": ("clan.cli.known_hosts:known_hosts", "Answer ssh's questions for host keys."),
    "completion": ("clan.cli.completion:completion", "Print the script for a shell's completion."),
    "lab": ("clan.cli.lab:lab", "Run the clan's machines on this computer, with real networks."),
}


@click.group(cls=LazyGroup, lazy=COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="clan")
@click.option(
    "--clan",
    "clan_dir",
    metavar="DIR",
    help="The clan's folder (default: CLAN_DIR, else upwards from here).",
)
@click.pass_context
def cli(ctx: click.Context, clan_dir: str | None) -> None:
    """One private network for your machines, and one place to run it."""
    ctx.obj = clan_dir


def main(args: Sequence[str] | None = None) -> None:
    """Run the command line and exit with the code that docs/reference/exit-codes.md gives."""
    for stream in (sys.stdout, sys.stderr):
        # A letter that the terminal's encoding lacks is escaped; no command fails for it.
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    try:
        code = cli.main(args=args, prog_name="clan", standalone_mode=False)
        sys.exit(code if isinstance(code, int) else 0)
    except click.exceptions.Exit as stop:
        sys.exit(stop.exit_code)
    except click.ClickException as fault:
        fault.show()
        sys.exit(fault.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except ClanError as fault:
        print_error(fault)
        sys.exit(fault.exit_code)


def print_error(error: ClanError) -> None:
    """Print an error to standard error: what happened, and the next step below it."""
    color = False if os.environ.get("NO_COLOR") else None
    label = click.style("error:", fg="red", bold=True)
    for text in [str(fault) for fault in getattr(error, "faults", ())] or [str(error)]:
        click.echo(f"{label} {printable_lines(text)}", err=True, color=color)
    if error.hint:
        hint = f"{click.style('hint:', fg='cyan')} {printable_lines(error.hint)}"
        click.echo(hint, err=True, color=color)
