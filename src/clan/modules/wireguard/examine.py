"""Looks at a WireGuard interface on the machine that it runs on, and tells what it saw.

It is sent there as text by `clan doctor`, to whatever Python 3.11 or later is there, so it imports
the standard library alone. It changes nothing; what it saw means is worked out in `doctor`.
"""

from __future__ import annotations

import json
import re
import shutil
import socket
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

PATIENCE = 20
"""Seconds that a far end has to answer. One that forgot the session is shaken hands with anew after
15 s of silence (WireGuard paper, section 6.5: KEEPALIVE_TIMEOUT and REKEY_TIMEOUT)."""


def said(*words: str) -> str | None:
    """Return what a program printed; None when it failed or is not there."""
    try:
        done = subprocess.run(words, capture_output=True, text=True, check=False, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return None if done.returncode else done.stdout


def fields(printed: str | None) -> list[list[str]]:
    """Split what `wg show` printed into lines, and those at tabs."""
    return [line.split("\t") for line in (printed or "").splitlines()]


def answers(address: str) -> float | None:
    """Return the round trip to an address in milliseconds, None when nothing came back."""
    words = ("ping", "-6", "-n", "-c", "1", "-w", str(PATIENCE), address)
    found = re.search(r"time=([\d.]+) ms", said(*words) or "")
    return float(found[1]) if found else None


def resolved(endpoint: str) -> list[str] | str:
    """Return the addresses of `host:port`, or why there are none."""
    host, _, port = endpoint.rpartition(":")
    try:
        found = socket.getaddrinfo(host.strip("[]"), int(port), type=socket.SOCK_DGRAM)
    except OSError as fault:
        return str(fault.strerror)
    return sorted({str(address[0]) for _, _, _, _, address in found})


def carriers(interface: str) -> dict[str, Any] | None:
    """Return which controllers are dead, as the agent there left it; None where it left nothing."""
    try:
        found = json.loads(Path(f"/run/clan/wireguard/{interface}.carriers.json").read_bytes())
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def examine(wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Return what there is of an interface, as JSON values.

    `wanted` has its `name`, its `port` or None, `endpoints` to look up, and `addresses` to ping, by
    machine.
    """
    name, port = wanted["name"], wanted["port"]
    before = said("wg", "show", name, "transfer")
    with ThreadPoolExecutor(max_workers=64) as pool:
        looked_up = pool.map(resolved, wanted["endpoints"])
        pinged = pool.map(answers, wanted["addresses"].values())
        pings = dict(zip(wanted["addresses"], pinged, strict=True))
        endpoints = dict(zip(wanted["endpoints"], looked_up, strict=True))
    shown = said("ip", "-j", "-d", "address", "show", "dev", name)
    routes = said("ip", "-j", "-6", "route", "show", "dev", name)
    dump = said("wg", "show", name, "dump")
    ports = said("wg", "show", "all", "listen-port")
    listening = said("ss", "-Hulnp", f"sport = :{port}") if port else None
    journal = said(
        "journalctl", "-q", "-n", "3", "-o", "cat", "--no-pager",
        "-u", "clan-links.service", "-u", f"clan-wireguard-{name}.service",
    )  # fmt: skip
    return {
        "time": time.time(),
        "wg": shutil.which("wg") is not None,
        "interface": json.loads(shown)[0] if shown else None,
        "routes": [route["dst"] for route in json.loads(routes or "[]")],
        # The first field of the first line is the private key: it stays here.
        "device": dump.splitlines()[0].split("\t")[1:] if dump else None,
        "peers": dump.splitlines()[1:] if dump else [],
        "received_before": {key: int(received) for key, received, _ in fields(before)},
        "listening": re.findall(r'\("([^"]+)",pid=(\d+)', listening or ""),
        "ports": {other: int(port) for other, port in fields(ports) if other != name},
        "forwarding": (said("sysctl", "-n", "net.ipv6.conf.all.forwarding") or "").strip(),
        "endpoints": endpoints,
        "pings": pings,
        "carriers": carriers(name),
        "journal": (journal or "").splitlines(),
    }
