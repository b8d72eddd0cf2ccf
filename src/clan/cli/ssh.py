"""`clan ssh`: a shell on a machine, over whichever network works now."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from typing import TYPE_CHECKING, Any

import click

from clan.cli.ask import confirm, has_terminal
from clan.cli.command import Command
from clan.cli.complete import instance_names, machine_names
from clan.cli.output import USUAL_WIDTH, note, say, say_json, terminal_width, warn
from clan.cli.progress import Waiting
from clan.cli.reach import Reach, only, straight_to
from clan.errors import ClanError
from clan.system.ssh import SSH_FAILED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clan.networks.connect import Reached
    from clan.networks.hostkeys import Meeting
    from clan.networks.routes import Destination
    from clan.networks.shell import Request


class SshCommand(Command):
    """A command whose own failures exit with 255, so that every other status is the remote's."""

    def make_context(self, *args: Any, **kwargs: Any) -> click.Context:
        """Parse the arguments; wrong ones are a failure of ours too."""
        with _failing_as_ssh_does():
            return super().make_context(*args, **kwargs)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Read options before and after the machine; from COMMAND on, all words are COMMAND's."""
        if not ctx.resilient_parsing:
            before, rest = self._parted(ctx, args)
            after, command = self._parted(ctx, rest[1:])
            args = [*before, *after, "--", *rest[:1], *command]
        return super().parse_args(ctx, args)

    def _parted(self, ctx: click.Context, args: list[str]) -> tuple[list[str], list[str]]:
        """Part the options at the beginning from the words that follow them, or a `--`."""
        parser = self.make_parser(ctx)
        parser.allow_interspersed_args = False
        found, _, _ = parser.parse_args(list(args))
        first, others = found.get("destination"), found.get("command")
        # What is not there is some mark of click's.
        rest = [first] if isinstance(first, str) else []
        rest += others if isinstance(others, tuple) else ()
        options = args[: len(args) - len(rest)]
        return options[:-1] if options[-1:] == ["--"] else options, rest

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command."""
        with _failing_as_ssh_does():
            return super().invoke(ctx)


@contextlib.contextmanager
def _failing_as_ssh_does() -> Iterator[None]:
    from clan.cli.main import print_error

    try:
        yield
    except click.UsageError as fault:
        fault.show()
        raise click.exceptions.Exit(SSH_FAILED) from fault
    except ClanError as fault:
        print_error(fault)
        raise click.exceptions.Exit(SSH_FAILED) from fault


@click.command(
    cls=SshCommand,
    examples=(
        "clan ssh nas",
        "clan ssh admin@nas -- systemctl status",
        "clan ssh --explain --action bulk nas true",
        "clan ssh --network tor nas",
        "clan ssh --ssh-option 'LocalForward=8080 localhost:80' nas",
    ),
)
@click.argument("destination", metavar="[USER@]MACHINE", shell_complete=machine_names)
@click.argument("command", nargs=-1)
@click.option(
    "--network",
    "-n",
    metavar="NETWORK",
    shell_complete=instance_names,
    help="Use this network only.",
)
@click.option(
    "--target-host", metavar="[USER@]HOST[:PORT]", help="Go to this address instead of choosing."
)
@click.option(
    "--action",
    type=click.Choice(["interactive", "bulk", "private"]),
    default="interactive",
    help="What it is for: low latency, high throughput, or only networks that hide location.",
)
@click.option(
    "--host-key",
    type=click.Choice(["ask", "accept-new", "strict"]),
    default="ask",
    help="What to do at first contact, while the machine's host key is not known.",
)
@click.option(
    "--ssh-option", "-o", multiple=True, metavar="KEY=VALUE", help="Another option for ssh."
)
@click.option("--explain", is_flag=True, help="Show what was tried, and why this one won.")
@click.option("--dry-run", is_flag=True, help="Show the order of the networks; connect to none.")
@click.option("--json", "as_json", is_flag=True, help="Show --explain or --dry-run as JSON.")
@click.option("--quiet", "-q", is_flag=True, help="Do not say which network is used.")
@click.pass_obj
def ssh(
    clan_dir: str | None,
    *,
    destination: str,
    command: tuple[str, ...],
    network: str | None,
    target_host: str | None,
    action: str,
    host_key: str,
    ssh_option: tuple[str, ...],
    explain: bool,
    dry_run: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Log in to MACHINE over the best network that works now, or run COMMAND there.

    The exit status is the remote command's; 255 is a failure of ssh or of clan.
    """
    user, at, name = destination.rpartition("@")
    if not name or (at and not user) or user.startswith("-"):
        raise click.UsageError(f"{destination!r} is not [USER@]MACHINE")
    reach = Reach.of(clan_dir)
    found = reach.destination(name)
    found = straight_to(found, target_host) if target_host else only(found, network)
    if dry_run:
        _dry_run(reach, found, action=action, as_json=as_json)
        return

    from clan.networks.choose import Action
    from clan.networks.hostkeys import FirstContact
    from clan.networks.shell import Request

    request = Request(
        action=Action(action),
        user=user or None,
        policy=FirstContact(host_key),
        options=ssh_option,
        command=command,
    )

    def tell(reached: Reached) -> None:
        from clan.cli import explain as shown

        race = (found.machine, reached.attempts, reached.excluded)
        if explain and as_json:
            note(json.dumps(shown.explain_json(*race, action=action)))
        elif explain:
            width = terminal_width() or USUAL_WIDTH
            note(shown.explain(*race, action=action, width=width))
        elif not quiet:
            place = f"{reached.route.network.name}, {reached.connection.address}"
            remark = reached.connection.remark
            note(f"{found.machine}: over {place}{f' ({remark})' if remark else ''}")

    sys.exit(asyncio.run(_log_in(reach, found, request, tell)))


async def _log_in(
    reach: Reach, found: Destination, request: Request, tell: Callable[[Reached], None]
) -> int:
    from clan.networks.shell import Desk, shell

    waiting = Waiting(f"{found.machine}: looking for a way")

    def reached(by: Reached) -> None:
        waiting.stop()
        tell(by)

    desk = Desk(
        ask=_ask if has_terminal() else None,
        tell=reached,
        warn=warn,
        record=lambda key: reach.record_host_key(found.machine, key),
    )
    try:
        return await shell(
            found,
            request,
            host_key=reach.host_key(found.machine),
            context=reach.context(interactive=desk.ask is not None, progress=waiting.say),
            memories=reach.memories,
            desk=desk,
        )
    finally:
        waiting.stop()


async def _ask(meeting: Meeting, key: str) -> bool:
    from clan.networks.hostkeys import question

    return await confirm(question(meeting, key))


def _dry_run(reach: Reach, found: Destination, *, action: str, as_json: bool) -> None:
    """Show the order in which the networks would be tried."""
    import time

    from clan.networks.choose import Action
    from clan.networks.connect import order

    context = reach.context(interactive=False)
    ranking, _ = order(
        found.routes,
        action=Action(action),
        memory=reach.memories.read(found.machine),
        underlay=context.locate().key,
        now=time.time(),
    )
    if as_json:
        shape = {
            "machine": found.machine,
            "name": found.full_name,
            "action": action,
            "order": [{"why": ranked.why, **ranked.route.to_json()} for ranked in ranking.allowed],
            "excluded": [
                {"network": ranked.route.network.name, "why": ranked.why}
                for ranked in ranking.excluded
            ],
        }
        say_json(shape)
        return
    say(f"{found.full_name} would be tried over, in this order:")
    for ranked in ranking.allowed:
        hosts = ", ".join(str(host) for host in ranked.route.hosts if isinstance(host, str))
        hidden = "" if hosts else "a secret name"
        via = "".join(f" via {jump}" for jump in ranked.route.jumps)
        say(f"  {ranked.route.network.name}: {hosts}{hidden}{via} ({ranked.why})")
    for ranked in ranking.excluded:
        say(f"  not {ranked.route.network.name}: {ranked.why}")
