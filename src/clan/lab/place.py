"""Running commands in a lab: at the admin's place, and on its machines."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clan.lab.network import inside
from clan.lab.processes import hierarchies
from clan.lab.topology import admin_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import FrameType

    from clan.lab.state import State

RUNS = "runs"
"""The group, in the lab's, of what runs at the admin's place."""

# $1 the group, $2 the place's resolv.conf. The computer's files are all there but for those that
# would show its own network: its interfaces, its resolver, and the sockets of daemons that resolve.
_PLACE = """\
set -e
echo $$ >"$1/cgroup.procs"
mount --rbind /sys/fs/cgroup "$3"
mount -t sysfs sysfs /sys
mount --move "$3" /sys/fs/cgroup
for hidden in /run/systemd/resolve /run/avahi-daemon /run/nscd; do
  [ ! -d "$hidden" ] || mount -t tmpfs tmpfs "$hidden"
done
conf=$(readlink --canonicalize-missing /etc/resolv.conf)
case $conf in
  /run/systemd/resolve/*) : >"$conf" ;;
esac
mount --bind "$2" "$conf"
shift 3
exec "$@"
"""

LAUNCHER = f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m clan "$@"\n'
"""A program that is this `clan`, at the admin's place and on machines that have it."""

_TRIES = 200
_PAUSE = 0.01
"""Seconds between tries to find what nsenter starts."""

_PROXIES = {"http_proxy", "https_proxy", "ftp_proxy", "all_proxy", "no_proxy"}


def at_admin(state: State, argv: Sequence[str]) -> list[str]:
    """Return a command that runs `argv` at the admin's place; it stays one process throughout."""
    group = hierarchies()[0] / state.group.child(RUNS).path
    script = ["sh", "-c", _PLACE, "clan lab run", str(group), str(state.resolver), str(state.mount)]
    mounts = ["unshare", "--mount", "--propagation", "slave"]
    return inside(admin_of(state.name), [*mounts, *script, *argv])


def install(state: State) -> None:
    """Make `clan` at the admin's place this very one, whatever PATH there says."""
    state.programs.mkdir()
    program = state.programs / "clan"
    program.write_text(LAUNCHER)
    program.chmod(0o755)


def environment(state: State, clan_dir: Path, inherited: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a command at the admin's place.

    What the lab has of its own replaces what is inherited. Proxies are left out: none is in reach.
    """
    kept = {name: text for name, text in inherited.items() if name.lower() not in _PROXIES}
    path = f"{state.programs}:{kept.get('PATH', os.defpath)}"
    return kept | variables(state, clan_dir) | {"PATH": path}


def variables(state: State, clan_dir: Path) -> dict[str, str]:
    """Return what every `clan` in the lab is told: its clan, its folders, its agent."""
    return {
        "CLAN_LAB": state.name,
        "CLAN_DIR": str(clan_dir),
        "SSH_AUTH_SOCK": str(state.agent),
        **{name: str(folder) for name, folder in state.private.items()},
    }


def on_machine(
    leader: int,
    argv: Sequence[str],
    *,
    tty: bool = False,
    folder: str = "/root",
    extra: Mapping[str, str] | None = None,
) -> list[str]:
    """Return a command that runs `argv` as root on the machine whose process 1 is `leader`.

    It starts in `folder` with a login's environment and `extra`. With `tty` it gets a terminal of
    the machine's own; without, it shares this process's input and output.
    """
    if tty:
        argv = ["script", "--quiet", "--return", "--command", shlex.join(argv), "/dev/null"]
    flags = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root")
    login = {
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
        "USER": "root",
        "LANG": "C.UTF-8",
        "TERM": os.environ.get("TERM", "dumb"),
        **(extra or {}),
    }
    settings = [f"{name}={text}" for name, text in login.items()]
    env = ["env", "--ignore-environment", f"--chdir={folder}", *settings]
    return ["nsenter", f"--target={leader}", *flags, *env, *argv]


def attend(argv: Sequence[str]) -> int:
    """Run a command made by `on_machine` with this process's input and output; return its status.

    nsenter passes no signals on to what it started, so this does. Ctrl-C reaches both by itself.
    """
    started: list[subprocess.Popen[bytes]] = []
    early: list[int] = []

    def forward(number: int, frame: FrameType | None) -> None:
        del frame
        if started:
            _pass_on(number, started[0].pid)
        else:
            early.append(number)

    def leave(number: int, frame: FrameType | None) -> None:
        """Do nothing; unlike SIG_IGN, this is not inherited."""
        del number, frame

    forwarded = [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2]
    before = {number: signal.signal(number, forward) for number in forwarded}
    before[signal.SIGINT] = signal.signal(signal.SIGINT, leave if sys.stdin.isatty() else forward)
    try:
        started.append(process := subprocess.Popen(argv))
        for number in early:
            _pass_on(number, process.pid)
        status = process.wait()
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    return 128 - status if status < 0 else status


def _pass_on(number: int, nsenter: int) -> None:
    """Send a signal to what nsenter started, which may still be about to start it."""
    children = Path(f"/proc/{nsenter}/task/{nsenter}/children")
    for _ in range(_TRIES):
        try:
            for child in children.read_text().split():
                os.kill(int(child), number)
                return
        except OSError:
            return  # it is over: there is nobody left to tell
        time.sleep(_PAUSE)
