"""`clan ssh-config`: the lines that make plain ssh, scp, rsync, git and Ansible reach machines."""

from __future__ import annotations

import json
import shlex
from typing import Any

import click

from clan.cli.command import Command
from clan.cli.reach import Reach, clan_program


@click.command(
    "ssh-config",
    cls=Command,
    examples=(
        "clan ssh-config >> ~/.ssh/config",
        "clan ssh-config > ~/.ssh/clan && echo 'Include clan' >> ~/.ssh/config",
        "clan ssh-config > clan.ssh && rsync -e 'ssh -F clan.ssh' file nas.family:",
    ),
)
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
@click.pass_obj
def ssh_config(clan_dir: str | None, *, as_json: bool) -> None:
    """Print the lines for ~/.ssh/config that make `ssh MACHINE.CLAN` find the best network.

    They hold for all that runs ssh: scp, sftp, rsync, git, Ansible. Each connection goes through
    `clan connect`; options that a network itself asks for apply with `clan ssh` only.
    """
    from clan.cli.context import load_clan
    from clan.networks.routes import login_user

    reach = Reach.of(clan_dir)
    clan = load_clan(clan_dir)
    program = shlex.join([*clan_program(), "--clan", str(reach.clan_file.parent)])
    program = program.replace("%", "%%")
    users = {clan.full_name(name): login_user(clan, name) for name in clan.machines}
    users = {name: user for name, user in users.items() if user is not None}
    everyone: dict[str, Any] = {
        "User": "root",
        "ProxyCommand": f"{program} connect %n %p",
        "ProxyUseFdpass": "yes",
        "KnownHostsCommand": f"{program} known-hosts %I %H %t %K",
        "HostKeyAlgorithms": "ssh-ed25519",
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": "none",
        "GlobalKnownHostsFile": "none",
        "UpdateHostKeys": "no",
        "CanonicalizeHostname": "no",
    }
    pattern = f"*.{clan.meta.domain}"
    if as_json:
        click.echo(json.dumps({"hosts": pattern, "options": everyone, "users": users}, indent=2))
        return
    click.echo(f"# The machines of the clan {clan.meta.name}; printed by `clan ssh-config`.")
    for full_name, user in users.items():
        click.echo(f"Host {full_name}\n  User {user}")
    click.echo(f"Host {pattern}")
    for key, value in everyone.items():
        click.echo(f"  {key} {value}")
