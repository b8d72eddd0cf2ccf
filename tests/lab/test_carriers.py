"""A WireGuard controller dies and comes back under connections that are open: they go on."""

from __future__ import annotations

import itertools
import json
import shutil
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest
from tests.lab.test_seed_001 import CLAN, EXAMPLES, Fleet
from tests.lab.test_wireguard import Stream, until

from clan.lab.cuts import Cut
from clan.vars.store import HOST_KEY

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

PLACES = """
[sites.home]
router = { nat = "masquerade", delay = "5ms" }
[sites.cafe]
router = { nat = "masquerade", delay = "5ms", forward = ["tcp 2222 laptop2 22"] }
[sites.hosting]
router = { nat = "none", delay = "2ms" }
[machines]
laptop1 = { site = "home" }
laptop2 = { site = "cafe" }
server1 = { site = "hosting" }
server2 = { site = "hosting" }
[admin]
site = "home"
[names]
"vpn1.example.com" = "server1"
"vpn2.example.com" = "server2"
"cafe.example.com" = "laptop2"
"""
MORE = """
[machines.laptop2]
[instances.wireguard.roles.peer.machines.laptop2]
settings.controller = "server2"
[instances.internet.roles.default.machines]
server1.settings.host = "vpn1.example.com"
server2.settings.host = "vpn2.example.com"
laptop2.settings = { host = "cafe.example.com", port = 2222 }
[instances.lan.roles.default.machines]
laptop1 = {}
"""
UNIT = "clan-carry-wireguard.service"
SERVER = """
import socket
with socket.create_server(("::", 7000), family=socket.AF_INET6) as door:
    while True:
        stream, _ = door.accept()
        with stream:
            while data := stream.recv(4096):
                stream.sendall(data)
"""
# Twenty lines a second, each with its number; what comes back is told with its time.
CLIENT = """
import socket, sys, threading, time
stream = socket.create_connection((sys.argv[1], 7000))
print(stream.getpeername()[0], flush=True)
def send():
    for number in range(int(sys.argv[2]) * 20):
        stream.sendall(b"%d\\n" % number)
        time.sleep(0.05)
    stream.shutdown(socket.SHUT_WR)
threading.Thread(target=send).start()
for line in stream.makefile():
    print(line.strip(), time.monotonic(), flush=True)
"""
LOST = """
table inet lost {
    chain out {
        type filter hook output priority 0
        FAMILY daddr ADDRESS udp dport 51820 drop
    }
}
"""


class Session:
    """A TCP connection from laptop1 to laptop2 by name, with traffic both ways."""

    def __init__(self, fleet: Fleet, seconds: int) -> None:
        words = ["timeout", str(seconds + 60), "python3", "-c", CLIENT, "laptop2.wireguard"]
        self.seconds = seconds
        self.process = subprocess.Popen(
            fleet.lab.command_on("laptop1", [*words, str(seconds)]),
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        self.said = self.process.stdout
        self.said.readline()  # it is connected
        time.sleep(2)

    def longest_gap(self) -> float:
        """Wait for its end, see that all of it came, and return the longest silence in seconds."""
        with self.said:
            lines = [line.split() for line in self.said]
        assert self.process.wait() == 0
        assert [int(number) for number, _ in lines] == list(range(self.seconds * 20))
        times = [float(at) for _, at in lines]
        return max(later - sooner for sooner, later in itertools.pairwise(times))


@pytest.fixture(scope="module")
def fleet(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Fleet:
    """The document's configuration with several controllers: two, and one more laptop."""
    folder = tmp_path_factory.mktemp("carriers") / "clan"
    shutil.copytree(EXAMPLES / "seed-001-multiple/toml", folder)
    clan = folder / "clan.toml"
    text = "".join(
        line for line in clan.read_text().splitlines(keepends=True) if "server3" not in line
    )
    clan.write_text(text + MORE)
    fleet = Fleet(labs(PLACES, clan_dir=folder))
    for machine in fleet.lab.config.machines:
        fleet.store.write(machine, *HOST_KEY, fleet.lab.host_key(machine))
    for machine in fleet.lab.config.machines:
        fleet.clan("machines", "install", machine)
    # The first could not know the keys of the last.
    fleet.clan("machines", "update")
    fleet.lab.exec("laptop2", ["systemd-run", "-q", "--unit=echo", "python3", "-c", SERVER])
    fleet.eventually_pings("laptop1", "laptop2.wireguard")
    return fleet


@pytest.fixture
def whole(fleet: Fleet) -> Iterator[Fleet]:
    yield fleet
    fleet.lab.restore()
    until(120, lambda: not dead(fleet))


def dead(fleet: Fleet) -> set[str]:
    """Return the controllers that any machine holds for dead."""
    found = set()
    for machine in fleet.lab.config.machines:
        words = ["sh", "-c", "cat /run/clan/wireguard/*.carriers.json || true"]
        said = fleet.lab.exec(machine, words).stdout
        found |= set(json.loads(said or '{"since": {}}')["since"])
    return found


def journal(fleet: Fleet, machine: str) -> str:
    words = ["journalctl", "-q", "--no-pager", "-o", "cat", "-u", UNIT]
    return fleet.lab.exec(machine, words).stdout


def doctor(fleet: Fleet, machine: str) -> str:
    return fleet.lab.run([*CLAN, "doctor", machine], check=False).stdout


def kill_agents(fleet: Fleet) -> None:
    """Kill all agents under packets, and see that they start again and that none is lost."""
    running = [m for m in fleet.lab.config.machines if m != "server2" or not dead(fleet)]
    stream = Stream(fleet.lab, "laptop1", "laptop2.wireguard")
    for machine in running:
        fleet.lab.exec(machine, ["systemctl", "kill", "--signal=KILL", UNIT])
    time.sleep(3)
    assert stream.lost() == 0
    for machine in running:
        assert fleet.lab.exec(machine, ["systemctl", "is-active", UNIT]).stdout == "active\n"


def test_an_open_connection_outlives_its_controller(whole: Fleet) -> None:
    session = Session(whole, 30)
    whole.lab.cut(Cut(what="server2"))
    gap = session.longest_gap()
    sys.stderr.write(f"\nsilent for {gap:.2f} s\n")
    assert gap < 6
    assert dead(whole) == {"server2"}
    assert "server2 is dead: it missed " in journal(whole, "laptop1")
    assert "server1 carries server2's addresses" in journal(whole, "laptop2")
    assert "server1 has carried what goes by server2, as laptop1 lost it" in doctor(
        whole, "laptop1"
    )
    assert "server2 has been dead for all, as " in doctor(whole, "server1")

    # Agents that are killed now leave it so, and go on from there.
    kill_agents(whole)

    # It comes back under packets that never pause.
    session = Session(whole, 75)
    whole.lab.restore()
    took = until(75, lambda: not dead(whole))
    gap = session.longest_gap()
    sys.stderr.write(f"back after {took:.0f} s, silent for {gap:.2f} s\n")
    assert took < 75
    assert gap < 2
    assert "server2 is dead for nobody any more" in journal(whole, "laptop2")


def test_who_loses_a_controller_alone_reaches_the_others(whole: Fleet) -> None:
    until(20, lambda: whole.pings("laptop1", "laptop2.wireguard"))
    session = Session(whole, 30)
    key = whole.store.read("server2", "wireguard-keys-wireguard", "publickey")
    ends = whole.lab.exec("laptop1", ["wg", "show", "wireguard", "endpoints"]).stdout.split()
    address = ends[ends.index(str(key).strip()) + 1].rpartition(":")[0].strip("[]")
    rules = LOST.replace("ADDRESS", address).replace("FAMILY", "ip6" if ":" in address else "ip")
    told = journal(whole, "laptop2").count("server1 says that server2 is dead for others")
    whole.lab.exec("laptop1", ["nft", "-f", "-"], text=rules)
    try:
        gap = session.longest_gap()
        sys.stderr.write(f"\nlost by one: silent for {gap:.2f} s\n")
        assert 0.5 < gap < 6
        says = journal(whole, "laptop2").count("server1 says that server2 is dead for others")
        assert says == told + 1
    finally:
        whole.lab.exec("laptop1", ["nft", "delete", "table", "inet", "lost"])


def test_where_nothing_is_sent_it_costs_next_to_nothing(whole: Fleet) -> None:
    lab = whole.lab
    pid = lab.exec("laptop1", ["systemctl", "show", "-P", "MainPID", UNIT]).stdout.strip()

    def used() -> tuple[float, int]:
        """Return the agent's processor time in seconds, and bytes that the interface sent."""
        stat = lab.exec("laptop1", ["cat", f"/proc/{pid}/stat"]).stdout.rpartition(")")[2].split()
        sent = lab.exec("laptop1", ["wg", "show", "wireguard", "transfer"]).stdout.split()
        return sum(map(int, stat[11:13])) / 100, int(sent[2]) + int(sent[5])

    time.sleep(15)
    before = used()
    time.sleep(30)
    spent, sent = (now - then for now, then in zip(used(), before, strict=True))
    sys.stderr.write(f"\nidle for 30 s: {spent:.2f} s of processor time, {sent} bytes\n")
    assert spent < 0.15
    # Keepalives, and a handshake with each controller at most.
    assert sent < 2000


def test_an_agent_that_is_killed_and_started_loses_no_packet(whole: Fleet) -> None:
    kill_agents(whole)
