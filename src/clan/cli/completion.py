"""`clan completion`: the script that makes a shell complete `clan`."""

from __future__ import annotations

import click

from clan.cli.command import Command
from clan.cli.output import say

INSTALL = {
    "bash": "clan completion bash > ~/.local/share/bash-completion/completions/clan",
    "zsh": 'clan completion zsh > "${fpath[1]}/_clan"',
    "fish": "clan completion fish > ~/.config/fish/completions/clan.fish",
}


@click.command(
    cls=Command,
    examples=(
        "clan completion bash > ~/.local/share/bash-completion/completions/clan",
        'clan completion zsh > "${fpath[1]}/_clan"',
        "clan completion fish > ~/.config/fish/completions/clan.fish",
    ),
)
@click.argument("shell", type=click.Choice(list(INSTALL)))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """Print the script that makes a shell complete commands, options and names."""
    from click.shell_completion import get_completion_class

    maker = get_completion_class(shell)
    if maker is None:
        raise click.UsageError(f"click cannot complete in {shell}")
    script = maker(ctx.find_root().command, {}, "clan", "_CLAN_COMPLETE").source()
    if shell == "zsh":  # `#compdef` must stay the first line
        first, _, rest = script.partition("\n")
        say(f"{first}\n# To install: {INSTALL[shell]}\n{rest}".rstrip())
    else:
        say(f"# To install: {INSTALL[shell]}\n{script}".rstrip())
