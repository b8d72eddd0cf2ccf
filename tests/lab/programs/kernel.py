"""Drives clan.machine.wireguard where the kernel has WireGuard, and prints what it saw as JSON.

The machines are network namespaces, each with the program's folders of its own: two controllers and
two peers, joined by one more that routes, and is silent about who is not there.
"""

from __future__ import annotations

import json
import re
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from clan.machine.layout import CURRENT, MANIFEST, PROGRAM, Layout
from clan.machine.wireguard.carriers import TELLING, Known

if TYPE_CHECKING:
    from collections.abc import Callable

LINKS = json.loads(Path("/links.json").read_text())
"""Machine -> its link, whose private key's path is where the key is to be."""

ROUTER = "internet"
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
OWN = 'for each in var/lib run; do mount --bind "/machines/$0/$each/clan" "/$each/clan"; done'
# As the unit has it.
AGENT = ["setpriv", "--no-new-privs", "--bounding-set=-all,+net_admin,+net_raw",
         "/usr/bin/python3", "-I", "/var/lib/clan/current/machine.pyz", "carry", "vpn"]  # fmt: skip
SERVER = """
import socket
stream, _ = socket.create_server(("::", 7000), family=socket.AF_INET6).accept()
while data := stream.recv(4096):
    stream.sendall(data)
"""
CLIENT = """
import socket, sys
stream = socket.create_connection((sys.argv[1], 7000))
for line in sys.stdin:
    stream.sendall(line.encode())
    print(stream.recv(4096).decode(), end="", flush=True)
"""


def run(*words: str, text: str | None = None) -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(words)}: {done.stderr}")
    return done.stdout


def at(machine: str, *words: str) -> list[str]:
    """Return a command as it is run on a machine; the process that begins it becomes it."""
    return ["ip", "netns", "exec", machine, "sh", "-ec", f'{OWN}; exec "$@"', machine, *words]


def inside(machine: str, *words: str, text: str | None = None) -> str:
    return run(*at(machine, *words), text=text)


def apply(machine: str) -> object:
    state = json.dumps(LINKS[machine])
    return json.loads(inside(machine, "python3", "-c", APPLY, text=state))


def pings(machine: str, address: str) -> bool:
    # One whose far end forgot the session shakes hands again after 15 s of silence.
    words = at(machine, "ping", "-6", "-c1", "-w30", address)
    return subprocess.run(words, capture_output=True, check=False).returncode == 0


def address(machine: str, controller: int = 0) -> str:
    """Return a machine's address, a peer's in the subnet of one of the controllers."""
    return str(LINKS[machine]["addresses"][controller].partition("/")[0])


def until(limit: float, happened: Callable[[], bool]) -> bool:
    """Wait for something, at most some seconds; return whether it happened."""
    deadline = time.monotonic() + limit
    while not (done := happened()) and time.monotonic() < deadline:
        time.sleep(0.2)
    return done


def layout(machine: str) -> Layout:
    return Layout(root=Path("/machines", machine))


def lay() -> None:
    """Make the router, and machines with a generation each, and join them."""
    run("ip", "netns", "add", ROUTER)
    run("ip", "netns", "exec", ROUTER, "sysctl", "-qw", "net.ipv4.ip_forward=1")
    run("ip", "-n", ROUTER, "route", "add", "blackhole", "10.0.0.0/16")
    for folder in (Layout().state, Layout().run):
        folder.mkdir(parents=True)
    for machine, link in LINKS.items():
        own = layout(machine)
        own.prepare()
        own.generation(1).mkdir()
        (own.generation(1) / MANIFEST).write_text(json.dumps({"links": [link]}))
        shutil.copy("/machine.pyz", own.generation(1) / PROGRAM)
        own.choose(CURRENT, 1)
        boot(machine)


def device(machine: str) -> str:
    return f"v{sorted(LINKS).index(machine)}"


def boot(machine: str) -> None:
    """Join a machine to the router: the Nth by name is 10.0.N.2."""
    layout(machine).run.mkdir(exist_ok=True)
    there = device(machine)
    run("ip", "netns", "add", machine)
    run("ip", "link", "add", there, "netns", ROUTER, "type", "veth",
        "peer", "name", "eth0", "netns", machine)  # fmt: skip
    for where, name, last in ((ROUTER, there, 1), (machine, "eth0", 2)):
        run("ip", "-n", where, "addr", "add", f"10.0.{there[1:]}.{last}/24", "dev", name)
        run("ip", "-n", where, "link", "set", name, "up")
    run("ip", "-n", machine, "link", "set", "lo", "up")
    run("ip", "-n", machine, "route", "add", "default", "via", f"10.0.{there[1:]}.1")
    if machine.startswith("server"):
        inside(machine, "sysctl", "-qw", "net.ipv6.conf.all.forwarding=1")


def cut_power(machine: str, agent: subprocess.Popen[bytes]) -> None:
    """Have a machine be gone, with all that a boot forgets."""
    run("ip", "-n", ROUTER, "link", "delete", device(machine))
    agent.kill()
    agent.wait()
    run("ip", "netns", "delete", machine)
    shutil.rmtree(layout(machine).run)


class Stream:
    """Packets from laptop1 to laptop2, by one of the controllers."""

    def __init__(self, interval: float, controller: int = 0) -> None:
        words = ["ping", "-6", "-n", "-i", str(interval), address("laptop2", controller)]
        self.interval = interval
        self.process = subprocess.Popen(at("laptop1", *words), stdout=subprocess.PIPE, text=True)

    def end(self) -> None:
        self.process.send_signal(2)
        said = self.process.communicate()[0]
        self.seen = sorted(set(map(int, re.findall(r"icmp_seq=(\d+)", said))))
        self.sent = int(re.findall(r"(\d+) packets transmitted", said)[0])

    def lost(self) -> int:
        """Return how many got no answer, of those before the last that got one."""
        return self.seen[-1] - len(self.seen)

    def silence(self) -> float:
        """Return the longest time without an answer, in seconds."""
        ends = zip([0, *self.seen], [*self.seen, self.sent + 1], strict=True)
        return max(later - sooner for sooner, later in ends) * self.interval


def main() -> dict[str, object]:
    saw: dict[str, object] = {}
    lay()
    saw["missing"] = [apply(machine) for machine in LINKS]
    shown = json.loads(inside("server1", "ip", "-j", "-d", "link", "show", "dev", "vpn"))
    saw["kind"] = shown[0]["linkinfo"]["info_kind"]
    saw["pings"] = [
        pings(machine, address(other)) for machine in LINKS for other in LINKS if machine != other
    ]
    stream = Stream(0.02)
    time.sleep(0.5)
    for machine in LINKS:
        apply(machine)
    stream.end()
    saw["answered"], saw["lost"] = len(stream.seen), stream.lost()
    inside("server1", "python3", "-c", REMOVE)
    saw["after"] = [link["ifname"] for link in json.loads(inside("server1", "ip", "-j", "link"))]
    saw["taken"] = taken()
    saw["again"] = apply("server1")
    saw["back"] = pings("laptop1", address("server1"))
    saw["carried"] = carried()
    return saw


def taken() -> object:
    """Apply while another program has the controller's port."""
    hold = "import socket, time; s = socket.socket(10, 2); s.bind(('::', 51820)); time.sleep(600)"
    with subprocess.Popen(at("server1", "python3", "-c", hold)) as holder:
        while ":51820" not in inside("server1", "ss", "-uln"):
            time.sleep(0.1)
        told = apply("server1")
        holder.kill()
    return told


def carried() -> dict[str, object]:
    """Cut server2's power under a connection that is open, and switch it on again."""
    # server1 was made anew: who has not heard from it since is left with a session of the old one.
    assert all(pings(machine, address("server1")) for machine in LINKS if machine != "server1")
    agents = {machine: begin(machine) for machine in LINKS}
    server = subprocess.Popen(at("laptop2", "python3", "-c", SERVER))
    assert until(60, lambda: ":7000" in inside("laptop2", "ss", "-tln"))
    words = at("laptop1", "python3", "-c", CLIENT, address("laptop2", 1))
    client = subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    # A computer that does much else may have kept one silent for seconds.
    until(60, lambda: not dead())
    saw: dict[str, object] = {"before": echoes(client), "dead before": dead()}
    own = allowed()

    stream = Stream(0.1, 1)
    time.sleep(3)
    cut_power("server2", agents["server2"])
    saw["without"] = echoes(client)
    until(10, lambda: len(dead()) == 3)
    saw["dead"] = dead()
    # What mends leaves this as it is.
    apply("laptop1")
    saw["mended"] = echoes(client)
    stream.end()
    saw["silence"] = stream.silence()

    stream = Stream(0.1, 1)
    boot("server2")
    apply("server2")
    agents["server2"] = begin("server2")
    saw["returned"] = until(150, lambda: not dead())
    saw["after"] = echoes(client)
    stream.end()
    saw["silence of return"] = stream.silence()
    saw["as before"] = until(10, lambda: allowed() == own)
    server.kill()
    for agent in agents.values():
        agent.kill()
    saw["said"] = {machine: Path(f"/{machine}.log").read_text() for machine in LINKS}
    return saw


def begin(machine: str) -> subprocess.Popen[bytes]:
    """Start a machine's agent, and wait until it listens."""
    with Path(f"/{machine}.log").open("ab") as log:
        agent = subprocess.Popen(at(machine, *AGENT), stderr=log)
    assert until(60, lambda: f":{TELLING}" in inside(machine, "ss", "-uln"))
    return agent


def echoes(client: subprocess.Popen[str]) -> bool:
    """Whether a line comes back over the open connection."""
    assert client.stdin is not None
    assert client.stdout is not None
    client.stdin.write("line\n")
    client.stdin.flush()
    return bool(select.select([client.stdout], [], [], 60)[0]) and bool(client.stdout.readline())


def dead() -> dict[str, list[str]]:
    """Return the controllers that machines hold for dead, by machine."""
    found = {
        machine: sorted(Known.read("vpn", layout(machine).run / "wireguard").dead)
        for machine in LINKS
    }
    return {machine: names for machine, names in found.items() if names}


def allowed() -> dict[str, list[str]]:
    """Return which addresses are whose, by machine."""
    words = ["wg", "show", "vpn", "allowed-ips"]
    return {
        machine: sorted(
            " ".join(sorted(line.split())) for line in inside(machine, *words).splitlines()
        )
        for machine in LINKS
    }


sys.stdout.write(f"SAW {json.dumps(main())}\n")
