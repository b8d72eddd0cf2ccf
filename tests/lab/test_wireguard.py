"""The WireGuard service on real machines: from the clan's file to machines that ping each other."""

from __future__ import annotations

import itertools
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.members import Members

from clan.lab.cuts import Cut
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

CLAN = [sys.executable, "-m", "clan"]
EXAMPLES = Path(__file__).parents[2] / "examples"

SITES = """
[sites]
hosting = { router = { nat = "none", delay = "2ms" } }
cloud = { router = { nat = "none", delay = "2ms" } }
home = { router = { delay = "2ms" } }
cafe = { router = { nat = "symmetric", delay = "2ms", forward = FORWARD } }
[admin]
site = "home"
"""
SINGLE = """
[machines]
server1 = { site = "hosting", mdns = "off" }
laptop1 = { site = "home", mdns = "off" }
[names]
"vpn.example.com" = "server1"
"""
MULTIPLE = """
[machines]
server1 = { site = "hosting", mdns = "off" }
server2 = { site = "cloud", mdns = "off" }
server3 = { site = "hosting", mdns = "off" }
laptop1 = { site = "home", mdns = "off" }
laptop2 = { site = "cafe", mdns = "off" }
[names]
"vpn1.example.com" = "server1"
"vpn2.example.com" = "server2"
"vpn3.example.com" = "server3"
"cafe.example.com" = "laptop2"
"""
SECOND_PEER = """
[machines.laptop2]
[instances.vpn.roles.peer.machines.laptop2]
settings.controller = "server2"
[instances.internet.roles.default.machines]
server1.settings.host = "vpn1.example.com"
server3.settings.host = "vpn3.example.com"
laptop2.settings = { host = "cafe.example.com", port = 2222 }
"""


def bring_up(labs: Labs, folder: Path, clan: str, places: str) -> Members:
    folder.mkdir()
    (folder / "clan.toml").write_text(clan)
    forward = '["tcp 2222 laptop2 22"]' if "laptop2" in places else "[]"
    members = Members(labs(SITES.replace("FORWARD", forward) + places, clan_dir=folder))
    members.prepare()
    for machine in members.machines:
        assert members.apply(machine) == []
    return members


@pytest.fixture(scope="module")
def single(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The document's configuration with one controller, as it is written."""
    text = (EXAMPLES / "seed-001-single/toml/clan.toml").read_text()
    return bring_up(labs, tmp_path_factory.mktemp("lab") / "single", text, SINGLE)


@pytest.fixture(scope="module")
def several(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Members:
    """The document's configuration with three, called vpn, and one more laptop."""
    text = (EXAMPLES / "seed-001-multiple/toml/clan.toml").read_text()
    text = text.replace("instances.wireguard", "instances.vpn") + SECOND_PEER
    return bring_up(labs, tmp_path_factory.mktemp("lab") / "several", text, MULTIPLE)


@pytest.fixture
def members(several: Members) -> Iterator[Members]:
    yield several
    several.lab.restore()


def until(seconds: float, happens: Callable[[], bool]) -> float:
    """Wait for something to be so, and return how long it took, in seconds."""
    begun = time.monotonic()
    while not happens():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.1)
    return time.monotonic() - begun


def pings(lab: Lab, machine: str, target: str) -> bool:
    return lab.exec(machine, ["ping", "-6", "-c1", "-W1", target], check=False).returncode == 0


def all_ping_all(members: Members) -> None:
    domain = members.instance.name
    for machine, other in itertools.permutations(members.machines, 2):
        # The first packet waits for a handshake, which comes after 15 s where a far end forgot one.
        until(20, lambda m=machine, o=other: pings(members.lab, m, f"{o}.{domain}"))  # type: ignore[misc]


def let_in(lab: Lab, machine: str, others: list[str]) -> None:
    """Let a machine's root log in to others as root."""
    make = "cd /root/.ssh && { [ -e id ] || ssh-keygen -q -t ed25519 -N '' -f id; } && cat id.pub"
    key = lab.exec(machine, ["sh", "-c", make]).stdout
    for other in others:
        lab.exec(other, ["sh", "-c", "cat >>/root/.ssh/authorized_keys"], text=key)


def ssh(lab: Lab, machine: str, target: str, *words: str) -> subprocess.CompletedProcess[str]:
    options = ["-i", "/root/.ssh/id", "-o", "BatchMode=yes", "-o", "ConnectTimeout=3"]
    return lab.exec(machine, ["ssh", *options, f"root@{target}", *words], check=False)


def sessions(lab: Lab, machine: str) -> list[str]:
    """Return a machine's far ends, what they are allowed, and when they last shook hands."""
    shown = [lab.exec(machine, ["wg", "show", "vpn", what]).stdout for what in SHOWN]
    return [line for lines in shown for line in sorted(lines.splitlines())]


SHOWN = ("allowed-ips", "latest-handshakes", "listen-port")


class Stream:
    """Packets from one machine to another, a hundred a second, while something is done."""

    def __init__(self, lab: Lab, machine: str, target: str) -> None:
        words = ["ping", "-6", "-n", "-i", "0.01", "-w", "60", target]
        self.process = subprocess.Popen(
            lab.command_on(machine, ["timeout", "--foreground", "-s", "INT", "60", *words]),
            stdout=subprocess.PIPE,
            text=True,
        )
        self.lab, self.machine = lab, machine
        time.sleep(0.3)

    def lost(self) -> int:
        """End it, and return how many packets did not come back."""
        time.sleep(0.3)
        self.lab.exec(self.machine, ["pkill", "-INT", "-x", "ping"])
        said, _ = self.process.communicate(timeout=10)
        answered = set(map(int, re.findall(r"icmp_seq=(\d+)", said)))
        assert len(answered) > 50
        # Those after the last were under way as it ended.
        return len(set(range(1, max(answered))) - answered)


def test_with_one_controller_all_ping_and_ssh_each_other_by_name(single: Members) -> None:
    all_ping_all(single)
    for machine, other in itertools.permutations(single.machines, 2):
        single.check(machine)
        let_in(single.lab, machine, [other])
        done = ssh(single.lab, machine, f"{other}.wireguard", "hostname")
        assert done.stdout == f"{other}\n", done.stderr


def test_with_several_controllers_all_ping_each_other_by_every_address(members: Members) -> None:
    all_ping_all(members)
    for machine, other in itertools.permutations(members.machines, 2):
        for written in members.link(other).addresses:
            address = written.partition("/")[0]
            until(20, lambda m=machine, a=address: pings(members.lab, m, a))  # type: ignore[misc]


def test_the_documents_commands_work(members: Members) -> None:
    on = members.lab.exec
    assert "latest handshake" in on("laptop1", ["wg", "show"]).stdout
    shown = on("server1", ["ip", "addr", "show", "dev", "vpn"]).stdout
    assert members.link("server1").addresses[0] in shown
    assert "mtu 1420" in shown
    routes = on("laptop1", ["ip", "-6", "route", "show", "dev", "vpn"]).stdout.splitlines()
    assert sorted(line.split()[0] for line in routes) == sorted(members.link("laptop1").routes)
    assert "51820" in on("server1", ["ss", "-ulnp"]).stdout


def test_a_name_gives_the_own_controllers_address_first(members: Members) -> None:
    found = members.lab.exec("laptop1", ["getent", "ahostsv6", "laptop2.vpn"]).stdout
    listed = list(dict.fromkeys(line.split()[0] for line in found.splitlines()))
    one, two, three = (each.partition("/")[0] for each in members.link("laptop2").addresses)
    assert listed == [two, one, three]


def test_applying_again_loses_no_packet_and_changes_nothing(members: Members) -> None:
    before = sessions(members.lab, "server1")
    stream = Stream(members.lab, "laptop1", "laptop2.vpn")
    for machine in members.machines:
        assert members.apply(machine) == []
    assert stream.lost() == 0
    assert sessions(members.lab, "server1") == before


def test_a_controller_dies_and_by_name_the_rest_goes_on(members: Members) -> None:
    let_in(members.lab, "laptop1", ["laptop2"])
    assert ssh(members.lab, "laptop1", "laptop2.vpn", "hostname").stdout == "laptop2\n"
    # Its name resolves in the subnet of server2 first.
    members.lab.cut(Cut(what="server2"))
    begun = time.monotonic()
    done = ssh(members.lab, "laptop1", "laptop2.vpn", "hostname")
    assert done.stdout == "laptop2\n", done.stderr
    assert time.monotonic() - begun < 60
    for address in (members.link("laptop2").addresses[0], members.link("laptop2").addresses[2]):
        assert pings(members.lab, "laptop1", address.partition("/")[0])
    assert not pings(members.lab, "laptop1", members.link("laptop2").addresses[1].partition("/")[0])
    members.lab.restore()
    until(30, lambda: pings(members.lab, "laptop1", "laptop2.vpn"))


def test_one_machines_new_key_cuts_no_other_off(members: Members) -> None:
    old = members.keys["laptop1"]
    streams = [
        Stream(members.lab, "laptop2", "server1.vpn"),
        Stream(members.lab, "server3", "laptop2.vpn"),
    ]
    members.make_key("laptop1", "anew")
    assert members.keys["laptop1"] != old
    for machine in members.machines:
        members.apply(machine)
    assert [stream.lost() for stream in streams] == [0, 0]
    assert old not in members.lab.exec("server1", ["wg", "show", "vpn", "peers"]).stdout
    took = until(20, lambda: pings(members.lab, "laptop1", "laptop2.vpn"))
    assert took < 20


def test_a_machine_forwards_and_keeps_its_own_default_route(members: Members) -> None:
    """It learnt that from its router's advertisements, which a router would ignore."""
    assert "default" in members.lab.exec("server1", ["ip", "-6", "route"]).stdout
    forwards = members.lab.exec("server1", ["sysctl", "-n", "net.ipv6.conf.all.forwarding"]).stdout
    assert forwards == "1\n"


def test_a_port_that_is_taken_is_told_with_who_has_it(members: Members) -> None:
    lab = members.lab
    members.remove("server3")
    assert "vpn" not in lab.exec("server3", ["ip", "-o", "link"]).stdout
    taker = "import socket, time; s = socket.socket(10, 2); s.bind(('::', 51820)); time.sleep(60)"
    lab.exec("server3", ["systemd-run", "--quiet", "--unit=taker", "python3", "-c", taker])
    until(5, lambda: "51820" in lab.exec("server3", ["ss", "-uln"]).stdout)
    with pytest.raises(subprocess.CalledProcessError) as failed:
        members.apply("server3")
    assert (
        "wireguard: Could not bring up interface vpn: Address already in use: "
        "UDP port 51820 is taken by python3 (process "
    ) in failed.value.stderr
    lab.exec("server3", ["systemctl", "stop", "taker"])
    assert members.apply("server3") == []
    until(20, lambda: pings(lab, "laptop1", "server3.vpn"))


def test_a_daemon_that_died_comes_back_as_applying_is_repeated(members: Members) -> None:
    lab = members.lab
    kind = lab.exec("laptop2", ["ip", "-d", "link", "show", "dev", "vpn"]).stdout
    if "tun" not in kind:
        pytest.skip("this computer's kernel has WireGuard: there is no daemon")
    lab.exec("laptop2", ["systemctl", "kill", "-s", "KILL", "clan-wireguard-vpn.service"])
    until(5, lambda: "vpn" not in lab.exec("laptop2", ["ip", "-o", "link"]).stdout)
    assert members.apply("laptop2") == []
    until(20, lambda: pings(lab, "laptop1", "laptop2.vpn"))


def test_a_name_that_nobody_knows_now_is_asked_for_again(members: Members) -> None:
    lab = members.lab
    members.remove("laptop2")
    lab.exec("laptop2", ["sed", "-i.kept", "s/^hosts:.*/hosts: files/", "/etc/nsswitch.conf"])
    try:
        missing = members.apply("laptop2")
        assert [word.split(": ")[:2] for word in missing] == [
            [f"server{n}", f"vpn{n}.example.com:51820"] for n in (1, 2, 3)
        ]
    finally:
        lab.exec("laptop2", ["mv", "/etc/nsswitch.conf.kept", "/etc/nsswitch.conf"])
    assert members.apply("laptop2") == []
    until(20, lambda: pings(lab, "laptop2", "laptop1.vpn"))


def test_the_doctor_says_what_is_wrong(members: Members) -> None:
    lab = members.lab
    store = Store.of(lab.clan_dir, lab.environment())
    for machine in members.machines:
        store.write(machine, *HOST_KEY, lab.host_key(machine))
        store.write(machine, "wireguard-keys-vpn", "publickey", members.keys[machine])

    def doctor(machine: str) -> subprocess.CompletedProcess[str]:
        return lab.run([*CLAN, "doctor", machine], check=False)

    well = doctor("server1")
    assert well.returncode == 0, well.stdout + well.stderr
    assert well.stdout.startswith("vpn: all is well; these answer: server2 ")

    # Where it is no UDP gets out; over TCP it is reached as before.
    lab.cut(Cut(what="laptop2", protocol="udp", port=51820))
    blocked = doctor("laptop2")
    assert blocked.returncode == 1
    said = blocked.stdout
    assert said.count(" does not answer any more; its handshake was ") == 3, said
    assert "no controller answers laptop2: UDP may be blocked where it is" in said
    lab.restore()

    members.remove("server3")
    missing = doctor("server3")
    assert missing.returncode == 1
    assert "vpn: wrong: there is no interface vpn on server3" in missing.stdout
    members.apply("server3")
