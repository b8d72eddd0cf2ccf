"""Applies a topology to this computer: namespaces, links, rules, daemons."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

from clan.errors import LabError
from clan.lab.processes import start

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clan.lab.processes import Runner
    from clan.lab.state import State
    from clan.lab.topology import Daemon, Namespace, Topology

_SYSCTLS = 'for set; do [ -e "${set%%=*}" ] && echo "${set#*=}" >"${set%%=*}"; done; :'


def apply(topology: Topology, state: State, run: Runner) -> dict[str, int]:
    """Make all of a lab's network, of which nothing may be there; return its daemons' processes.

    Raises LabError when the kernel refuses a part of it. A daemon may still end by itself when this
    is done: `check` finds out.
    """
    names = [namespace.name for namespace in topology.namespaces]
    run.step(["ip", "-batch", "-"], text="".join(f"netns add {name}\n" for name in names))
    # Some of what is set is a default for devices, so it goes before them.
    for namespace in topology.namespaces:
        paths = [f"/proc/sys/net/{setting}" for setting in namespace.sysctls]
        run.step(inside(namespace.name, ["sh", "-c", _SYSCTLS, "sysctl", *paths]))
    run.step(["ip", "-batch", "-"], text="".join(f"{line}\n" for line in topology.links))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        for done in [pool.submit(_set, namespace, run) for namespace in topology.namespaces]:
            done.result()
    return {daemon.name: begin(daemon, state) for daemon in topology.daemons}


def begin(daemon: Daemon, state: State) -> int:
    """Start a daemon, and return its process."""
    if daemon.config:
        (state.daemons / f"{daemon.name}.conf").write_text(daemon.config)
    return start(
        inside(daemon.namespace, daemon.argv),
        state.group.child("daemons"),
        folder=state.daemons,
        log=Path(state.daemons, f"{daemon.name}.log"),
    )


def check(daemons: Mapping[str, int], state: State) -> None:
    """Raise LabError with the last words of a daemon that has ended."""
    running = set(state.group.processes())
    for name, process in daemons.items():
        if process not in running:
            log = (state.daemons / f"{name}.log").read_text(errors="replace")
            raise LabError(f"the lab's {name} ended: {log.strip()[-500:]}")


def inside(namespace: str, argv: Sequence[str]) -> list[str]:
    """Return a command that runs `argv` in a network namespace."""
    return ["nsenter", f"--net=/run/netns/{namespace}", *argv]


def ip(namespace: str, lines: Sequence[str], run: Runner) -> None:
    """Run lines of `ip -batch` in a namespace, all or up to the first that fails."""
    text = "".join(f"{line}\n" for line in lines)
    run.step(["ip", "-netns", namespace, "-batch", "-"], text=text)


def links_down(namespace: str, run: Runner) -> set[str]:
    """Return the links of a namespace that are set down."""
    listed = json.loads(run.step(["ip", "-netns", namespace, "-json", "link"]))
    return {link["ifname"] for link in listed if "UP" not in link["flags"]}


def _set(namespace: Namespace, run: Runner) -> None:
    ip(namespace.name, namespace.ip, run)
    if namespace.tc:
        lines = "".join(f"{line}\n" for line in namespace.tc)
        run.step(["tc", "-netns", namespace.name, "-batch", "-"], text=lines)
    if namespace.nft:
        run.step(inside(namespace.name, ["nft", "-f", "-"]), text=namespace.nft)
