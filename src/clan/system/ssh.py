"""The system's OpenSSH client: where it is, and how it is given a connection and host keys.

`ssh` is handed an open socket instead of an address, and asks for host keys instead of reading
them from files: both over one Unix socket, at which `clan ssh` answers. `askpass`-like helpers of
`ssh` are programs; `RELAY` is that program, kept so small that it starts in a few milliseconds.
Where the key is known beforehand a shell tells it, which starts in one.
"""

from __future__ import annotations

import shlex
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import MissingProgramError

if TYPE_CHECKING:
    from collections.abc import Sequence

RELAY = Path(__file__).with_name("relay.py")
COUNTER, KNOWN, SHOWN, LOG = "counter", "known", "shown", "log"
"""What there is in the folder of a login."""
TELL = 'echo "$@" 1<>"$0/shown"; exec cat "$0/known"'
KEY_TYPE = "ssh-ed25519"
SESSION = b":client_loop():"
"""In lines of ssh's log that it writes from when the session begins: the name of the function.

Only once ssh is in there can the machine have been asked for anything."""
SSH_FAILED = 255
"""The status by which `ssh` reports a failure of its own (ssh(1), EXIT STATUS)."""
HANDSHAKE_LIMIT = 15
"""Seconds ssh waits for greeting and key exchange; a user's own ConnectTimeout goes before."""


def find_ssh() -> str:
    """Return the path of `ssh`. Raises MissingProgramError."""
    found = shutil.which("ssh")
    if found is None:
        raise MissingProgramError(
            "the program `ssh` is not on PATH",
            hint="install OpenSSH's client (Debian: apt install openssh-client)",
        )
    return found


def identity_options(full_name: str) -> list[str]:
    """Return the options that demand a machine's host key under its name, whatever the network."""
    options = {
        "HostKeyAlias": full_name,
        "HostKeyAlgorithms": KEY_TYPE,
        "StrictHostKeyChecking": "yes",
        "UserKnownHostsFile": "none",
        "GlobalKnownHostsFile": "none",
        # What has been asked of ssh elsewhere must not widen or replace the demand.
        "VerifyHostKeyDNS": "no",
        "UpdateHostKeys": "no",
        "CheckHostIP": "no",
        "CanonicalizeHostname": "no",
    }
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def relay_options(folder: Path, *, known: bool) -> list[str]:
    """Return the options that make `ssh` take its connection and host keys from a folder.

    In it are the Unix socket `COUNTER` and, where the key is `known`, the file `KNOWN` that has it
    and the pipe `SHOWN` that hears of the one that is shown.
    """
    relay = _words(sys.executable, "-I", "-S", str(RELAY), str(folder / COUNTER))
    asked = f"{relay} key"
    if known:
        asked = _words("/bin/sh", "-c", TELL, str(folder))
    return [
        *("-o", f"ProxyCommand={relay} connection"),
        *("-o", "ProxyUseFdpass=yes"),
        *("-o", f"KnownHostsCommand={asked} %I %t %K"),
    ]


def _words(*words: str) -> str:
    """Return a command in which ssh finds none of its tokens."""
    return shlex.join(words).replace("%", "%%")


def login_command(
    ssh: str,
    *,
    full_name: str,
    user: str,
    folder: Path,
    known: bool,
    network_options: Sequence[str],
    options: Sequence[str],
    command: Sequence[str],
) -> list[str]:
    """Return the words that log in over the connection served in `folder` (see `relay_options`).

    `network_options` are arguments as a network exports them, `options` are `Key=Value`. ssh keeps
    the first value it is given, so what identity and network say stands before what a user adds.
    """
    return [
        ssh,
        *("-E", str(folder / LOG)),
        # Whatever the level of the log. OpenSSH 8.5 brought it, as it did KnownHostsCommand.
        *("-o", f"LogVerbose=*{SESSION.decode()}*"),
        *relay_options(folder, known=known),
        *identity_options(full_name),
        *network_options,
        *(word for option in options for word in ("-o", option)),
        # A master of the user's would take the session over a network of another hour.
        *("-o", "ControlPath=none"),
        # Until the keys are agreed on; a stream that dies before would be waited for for minutes.
        *("-o", f"ConnectTimeout={HANDSHAKE_LIMIT}"),
        *("-l", user),
        "--",
        full_name,
        *command,
    ]
