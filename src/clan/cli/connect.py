"""`clan connect`: a stream to a machine; what plain `ssh` uses as its ProxyCommand."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import sys
import threading
import time
from typing import TYPE_CHECKING

import click

from clan.cli.ask import has_terminal
from clan.cli.command import Command
from clan.cli.complete import instance_names, machine_names
from clan.cli.reach import Reach, only, straight_to
from clan.errors import ClanError

if TYPE_CHECKING:
    from clan.cli.keeper import Give
    from clan.networks.choose import Action
    from clan.networks.routes import Destination

SSH_PORT = 22
CHUNK = 1 << 16


@click.command(
    cls=Command,
    examples=(
        "clan connect nas 5432",
        "ssh -o ProxyUseFdpass=yes -o ProxyCommand='clan connect %n %p' nas.family",
    ),
)
@click.argument("machine", shell_complete=machine_names)
@click.argument("port", type=click.IntRange(1, 65535), default=SSH_PORT)
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
    "--stdio", is_flag=True, help="Carry the bytes, even where the stream could be handed over."
)
@click.option("--explain", is_flag=True, help="Show what was tried, and why this one won.")
@click.pass_obj
def connect(
    clan_dir: str | None,
    *,
    machine: str,
    port: int,
    network: str | None,
    target_host: str | None,
    action: str,
    stdio: bool,
    explain: bool,
) -> None:
    """Connect standard input and output to PORT of MACHINE (22, its ssh port, by default).

    Where standard output is a socket of ssh's (ProxyUseFdpass), the stream itself is handed over
    and nothing stands between ssh and the machine. Only ssh's port proves by its host key that
    the machine answers: other ports are as trustworthy as the network they are reached over.
    """
    from clan.cli.keeper import kept
    from clan.networks.choose import Action

    reach = Reach.of(clan_dir)
    found = reach.destination(machine)
    found = straight_to(found, target_host) if target_host else only(found, network)
    handing_over = not stdio and _ssh_waits_for_descriptor()
    caller = os.getppid()

    async def work(give: Give) -> None:
        await _connect(
            reach,
            found,
            give,
            caller=caller,
            port=None if port == SSH_PORT else port,
            action=Action(action),
            explain=explain,
        )

    stream = kept(work, apart=_may_keep(found))
    if stream is None:
        return  # this process kept it, and it is over
    if handing_over:
        with socket.socket(fileno=1) as ssh:
            socket.send_fds(ssh, [b"\0"], [stream.fileno()])
            ssh.detach()
    else:
        carry(stream)


def _may_keep(found: Destination) -> bool:
    """Whether a way to the machine may need something that has to live as long as the stream."""
    from clan.networks.registry import technology

    for reference in {route.network.technology for route in found.routes}:
        # One that cannot be loaded rules itself out, in the words that the race has for it.
        with contextlib.suppress(ClanError):
            if technology(reference).traits.keeps:
                return True
    return False


async def _connect(
    reach: Reach,
    found: Destination,
    give: Give,
    *,
    caller: int,
    port: int | None,
    action: Action,
    explain: bool,
) -> None:
    from clan.networks.connect import reach as reach_machine
    from clan.networks.memory import Used

    async with reach_machine(
        found.machine,
        found.routes,
        host_key=reach.host_key(found.machine),
        context=reach.context(interactive=has_terminal()),
        memories=reach.memories,
        action=action,
        port=port,
    ) as reached:
        if explain:
            from clan.cli.explain import explain as shown

            text = shown(found.machine, reached.attempts, reached.excluded, action=action)
            click.echo(text, err=True)
        used = Used(
            process=caller,
            network=reached.route.network.name,
            address=reached.connection.address,
            by_multicast=reached.by_multicast,
            at=time.time(),
        )
        # `clan known-hosts`, run by the same ssh, has to know where the key it is shown came from.
        reach.memories.update(found.machine, lambda known: known.handed(used))
        await give(reached.connection.sock, keeps=reached.keeps)


def _ssh_waits_for_descriptor() -> bool:
    """Whether standard input and output are one Unix socket: ssh's ProxyUseFdpass."""
    try:
        standard_input, standard_output = os.fstat(0), os.fstat(1)
    except OSError:
        return False
    one = standard_input.st_ino == standard_output.st_ino
    return one and stat.S_ISSOCK(standard_output.st_mode)


def carry(stream: socket.socket) -> None:
    """Carry bytes between standard input and output and the stream until the far end closes."""

    def send() -> None:
        try:
            while data := os.read(0, CHUNK):
                stream.sendall(data)
            stream.shutdown(socket.SHUT_WR)
        except OSError:
            return  # the other direction sees the end too, and ends the program

    threading.Thread(target=send, daemon=True).start()
    try:
        while data := stream.recv(CHUNK):
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()
    except BrokenPipeError:
        # Nobody reads us any more. Python would complain of it again when it flushes at the end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except ConnectionResetError:
        sys.exit(1)
