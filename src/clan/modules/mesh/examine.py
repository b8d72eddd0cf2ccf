"""Looks at a member of a mesh on the machine that it runs on, and tells what it saw.

It is sent there as text by `clan doctor`, to whatever Python 3.11 or later is there, so it imports
the standard library alone. It changes nothing; what it saw means is worked out in `doctor`.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

PROGRAM = "/var/lib/clan/current/machine.pyz"
WELL_KNOWN = "ipv4only.arpa"
"""Has no IPv6 address but where a NAT64 makes one (RFC 7050)."""


def said(*words: str, text: str | None = None) -> tuple[int, str, str]:
    """Return how a program ended, and what it printed; 127 where it is not there."""
    try:
        done = subprocess.run(
            words, input=text, capture_output=True, text=True, check=False, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as fault:
        return 127, "", str(fault)
    return done.returncode, done.stdout, done.stderr


def parsed(*words: str, text: str | None = None) -> Any:
    """Return what a program printed as JSON; None where it failed or printed none."""
    status, printed, _ = said(*words, text=text)
    try:
        return json.loads(printed) if status == 0 else None
    except ValueError:
        return None


def off() -> list[str]:
    """List the interfaces, and `all` and `default`, that have IPv6 switched off."""
    places = sorted(Path("/proc/sys/net/ipv6/conf").glob("*/disable_ipv6"))
    return [place.parent.name for place in places if place.read_text("ascii").strip() == "1"]


def nat64() -> list[str]:
    """Return the addresses that a NAT64 makes for names without any."""
    try:
        found = socket.getaddrinfo(WELL_KNOWN, None, socket.AF_INET6, socket.SOCK_DGRAM)
    except OSError:
        return []
    return sorted({str(address[0]) for *_, address in found})


def wireguard() -> dict[str, bool]:
    """Say what could carry WireGuard: the kernel, or a program and TUN."""
    sent = "/var/lib/clan/current/static/wireguard-go"
    loaded = Path("/sys/module/wireguard").exists()
    return {
        "kernel": loaded or said("modinfo", "wireguard")[0] == 0,
        "program": os.access(sent, os.X_OK) or shutil.which("wireguard-go") is not None,
        "tun": Path("/dev/net/tun").exists(),
    }


def guards(listed: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the chains at the way out that refuse all but what a rule, or an interface, allows.

    The latter as wg-quick(8) advises: a rule refuses what leaves by any other interface.
    """
    chains = [each["chain"] for each in listed if "chain" in each]
    refusing = [
        (each["rule"]["family"], each["rule"]["table"], each["rule"]["chain"])
        for each in listed
        if "rule" in each and _refuses(each["rule"]["expr"])
    ]
    return [
        each
        for each in chains
        if each.get("hook") == "output"
        and (
            each.get("policy") == "drop"
            or (each["family"], each["table"], each["name"]) in refusing
        )
    ]


def _refuses(parts: list[dict[str, Any]]) -> bool:
    matches = [each["match"] for each in parts if "match" in each]
    elsewhere = any(
        each["op"] == "!=" and each["left"] == {"meta": {"key": "oifname"}} for each in matches
    )
    # iptables' own are listed by their names.
    names = [each["xt"].get("name") for each in parts if each.get("xt")]
    refuses = any("reject" in each or "drop" in each for each in parts)
    return elsewhere and (refuses or "REJECT" in names or "DROP" in names)


def answered(instance: str) -> tuple[Any, str]:
    """Return what the agent says, or why it does not.

    Others have tried to reach it as a relay meanwhile.
    """
    ask = ("/usr/bin/python3", "-I", PROGRAM, "mesh", "ask", instance)
    hurried = parsed(*ask, text='{"ask": "outside"}\n') or {}
    end = time.monotonic() + hurried.get("tries", 0) + 1
    while True:
        status, printed, wrong = said(*ask, text='{"ask": "status"}\n')
        answer = json.loads(printed) if status == 0 else None
        places = (answer or {}).get("relay", [])
        if time.monotonic() > end or not any(each.get("trying") for each in places):
            return answer, wrong.strip()
        time.sleep(0.3)


def examine(instance: str) -> dict[str, Any]:
    """Return what there is of a mesh, as JSON values."""
    unit = f"clan-mesh-{instance}.service"
    answer, fault = answered(instance)
    journal = said("journalctl", "-q", "-n", "3", "-o", "cat", "--no-pager", "-u", unit)[1]
    ruleset = parsed("nft", "-j", "list", "ruleset") or {}
    defaults = {
        family: bool(parsed("ip", "-j", f"-{family}", "route", "show", "default"))
        for family in ("4", "6")
    }
    return {
        "told": Path(f"/etc/clan/mesh/{instance}.json").exists(),
        "active": said("systemctl", "is-active", unit)[1].strip(),
        "answer": answer,
        "fault": fault,
        "journal": journal.splitlines(),
        "ipv6_off": off() if Path("/proc/sys/net/ipv6").exists() else None,
        "wireguard": wireguard(),
        "loopback": [
            each.get("local")
            for link in parsed("ip", "-j", "-6", "addr", "show", "dev", "lo") or []
            for each in link.get("addr_info", [])
        ],
        "defaults": defaults,
        "nat64": [] if defaults["4"] else nat64(),
        "rules": [
            {"family": family, **rule}
            for family in ("4", "6")
            for rule in parsed("ip", "-j", f"-{family}", "rule") or []
        ],
        "guards": guards(ruleset.get("nftables", [])),
        "time": time.time(),
    }
