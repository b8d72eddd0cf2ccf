"""Drives clan.machine.wireguard where the kernel has WireGuard, and prints what it saw as JSON.

Three network namespaces in one machine: a controller and two peers, joined by veth pairs.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import time
from pathlib import Path

LINKS = json.loads(Path("/links.json").read_text())
"""Machine -> its link, whose private key's path is where the key is to be."""

APPLY = """
import json, sys
from clan.machine import wireguard
from clan.machine.system import StepError
try:
    print(json.dumps(wireguard.apply(json.load(sys.stdin))))
except StepError as fault:
    print(json.dumps(str(fault)))
"""
REMOVE = "from clan.machine import wireguard; wireguard.remove('vpn')"


def run(*words: str, text: str | None = None) -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def inside(machine: str, *words: str, text: str | None = None) -> str:
    return run("ip", "netns", "exec", machine, *words, text=text)


def apply(machine: str) -> object:
    state = json.dumps(LINKS[machine])
    return json.loads(inside(machine, "python3", "-c", APPLY, text=state))


def pings(machine: str, address: str) -> bool:
    # One whose far end forgot the session shakes hands again after 15 s of silence.
    words = ["ip", "netns", "exec", machine, "ping", "-6", "-c1", "-w30", address]
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def address(machine: str) -> str:
    return str(LINKS[machine]["addresses"][0].partition("/")[0])


def lay() -> None:
    """Join the peers to the controller, which is 10.0.N.1 to each."""
    for machine in LINKS:
        run("ip", "netns", "add", machine)
        inside(machine, "ip", "link", "set", "lo", "up")
    for number, peer in enumerate(("laptop1", "laptop2")):
        run("ip", "link", "add", f"v{number}", "netns", "server1", "type", "veth",
            "peer", "name", "eth0", "netns", peer)  # fmt: skip
        for machine, device, last in (("server1", f"v{number}", 1), (peer, "eth0", 2)):
            inside(machine, "ip", "addr", "add", f"10.0.{number}.{last}/24", "dev", device)
            inside(machine, "ip", "link", "set", device, "up")
        inside(peer, "ip", "route", "add", "default", "via", f"10.0.{number}.1")
    inside("server1", "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")
    inside("server1", "ip", "addr", "add", "192.0.2.1/32", "dev", "lo")


def main() -> dict[str, object]:
    saw: dict[str, object] = {}
    lay()
    saw["missing"] = [apply(machine) for machine in LINKS]
    shown = json.loads(inside("server1", "ip", "-j", "-d", "link", "show", "dev", "vpn"))
    saw["kind"] = shown[0]["linkinfo"]["info_kind"]
    saw["pings"] = [
        pings(machine, address(other)) for machine in LINKS for other in LINKS if machine != other
    ]
    words = ["ping", "-6", "-n", "-i", "0.02", "-w", "60", address("laptop2")]
    with subprocess.Popen(
        ["ip", "netns", "exec", "laptop1", *words], stdout=subprocess.PIPE, text=True
    ) as stream:
        time.sleep(0.5)
        for machine in LINKS:
            apply(machine)
        stream.send_signal(2)
        seen = set(map(int, re.findall(r"icmp_seq=(\d+)", stream.communicate()[0])))
    saw["answered"], saw["lost"] = len(seen), len(set(range(1, max(seen))) - seen)
    inside("server1", "python3", "-c", REMOVE)
    saw["after"] = [link["ifname"] for link in json.loads(inside("server1", "ip", "-j", "link"))]
    saw["taken"] = taken()
    saw["again"] = apply("server1")
    saw["back"] = pings("laptop1", address("server1"))
    return saw


def taken() -> object:
    """Apply while another program has the controller's port."""
    hold = "import socket, time; s = socket.socket(10, 2); s.bind(('::', 51820)); time.sleep(600)"
    with subprocess.Popen(["ip", "netns", "exec", "server1", "python3", "-c", hold]) as holder:
        while ":51820" not in inside("server1", "ss", "-uln"):
            time.sleep(0.1)
        told = apply("server1")
        holder.kill()
    return told


sys.stdout.write(f"SAW {json.dumps(main())}\n")
