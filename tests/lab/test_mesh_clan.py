"""A mesh from the clan's file: three machines reach each other by name, until one leaves."""

from __future__ import annotations

import base64
import io
import itertools
import signal
import subprocess
import tarfile
import xml.etree.ElementTree as ET
from ipaddress import IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.home import LAB, MACHINES, UNIT, Home, clan_file, until

import clan
from clan.lab.cuts import Cut
from clan.lab.place import at_admin
from clan.mesh.hops import labels
from clan.mesh.relay import table

if TYPE_CHECKING:
    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def home(labs: Labs) -> Home:
    """Three machines that were installed and are in the mesh."""
    found = Home(labs(LAB))
    found.begin()
    found.clan("vars", "keys", "generate")
    found.clan("vars", "keys", "recovery")
    found.clan("mesh", "root")
    # What makes an identity comes to this one through the admin's computer.
    for port in (80, 443, 53):
        found.lab.cut(Cut(what="laptop", port=port))
    made = found.json("vars", "generate")["made"]
    assert [each["id"] for each in made if each["id"].endswith("mesh-home")] == [
        f"{name}/mesh-home" for name in MACHINES
    ]
    found.lab.restore()
    for name in MACHINES:
        found.clan("machines", "install", name)
    # Those that were there first learn the names of the others.
    found.clan("machines", "update")
    return found


def test_each_machine_runs_the_agent_and_has_its_address_and_names(home: Home) -> None:
    for name in MACHINES:
        assert home.on(name, f"systemctl is-active {UNIT}") == "active\n"
        assert home.address(name) in home.on(name, "ip -6 addr show dev lo")
        hosts = home.on(name, "cat /etc/hosts")
        for other in MACHINES:
            assert f"{home.address(other)} {other}.home" in hosts.replace("\t", " ")
        assert home.on(name, "stat -c %a /var/lib/clan/mesh/home") == "700\n"


def test_they_ping_and_ssh_each_other_by_name(home: Home) -> None:
    for one, other in itertools.permutations(MACHINES, 2):
        until(lambda o=one, p=other: home.pings(o, f"{p}.home"))  # type: ignore[misc]
    key = "cd /root/.ssh && { [ -e id ] || ssh-keygen -q -t ed25519 -N '' -f id; } && cat id.pub"
    public = home.on("laptop", key)
    for other in ("nas", "desktop"):
        home.lab.exec(other, ["sh", "-c", "cat >>/root/.ssh/authorized_keys"], text=public)
        ssh = (
            f"ssh -i /root/.ssh/id -o BatchMode=yes root@{other}.home 'hostname; echo $SSH_CLIENT'"
        )
        host, client = home.on("laptop", ssh).splitlines()
        assert host == other
        assert client.split()[0] == home.address("laptop")


def test_status_path_ping_and_log_tell_of_it(home: Home) -> None:
    # From everywhere to everywhere, so that all pairs are awake.
    for name in MACHINES:
        answers = home.json("mesh", "ping", name)["from"]
        assert all(each["roundTrips"][-1] is not None for each in answers.values()), answers
    seen = home.json("mesh", "status")
    assert {name: sorted(each["peers"]) for name, each in seen.items()} == {
        name: sorted(set(MACHINES) - {name}) for name in MACHINES
    }
    said = home.clan("mesh", "status").stdout.splitlines()
    assert max(map(len, said)) <= 80
    (row,) = [line.split() for line in said if line.startswith("nas")]
    assert row[-3:] == ["ago", "2", "0"] or row[2:] == ["just", "now", "2", "0"]
    one = home.clan("mesh", "status", "laptop").stdout
    assert home.address("laptop") in one
    assert "lan by host0" in one
    assert all(each["why"] for each in seen["laptop"]["peers"].values())
    both = home.clan("mesh", "path", "laptop", "nas").stdout
    assert "laptop → nas: lan by host0" in both
    assert "nas → laptop: lan by host0" in both
    assert "in use" in both
    entries = home.json("mesh", "log", "laptop", "--peer", "nas")
    assert entries
    assert all(each["peer"] == "nas" and each["why"] for each in entries)
    lines = home.clan("mesh", "log", "laptop", "--lines", "3").stdout.splitlines()
    assert 1 <= len(lines) <= 3
    again = home.json("mesh", "log", "laptop", "--replay")
    assert again["steps"] > 0
    assert again["others"] == []


def test_watching_goes_on_until_it_is_stopped(home: Home) -> None:
    words = at_admin(home.lab.state, home.words("mesh", "status", "nas", "--watch"))
    watching = subprocess.Popen(
        words,
        env=home.lab.environment(),
        cwd=home.folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert watching.stdout is not None
    heads = 0
    while heads < 2:
        heads += watching.stdout.readline().startswith("nas ")
    watching.send_signal(signal.SIGINT)
    said, _ = watching.communicate(timeout=30)
    assert "\x1b" not in said
    assert watching.returncode == 130


def test_the_graph_shows_every_pair(home: Home) -> None:
    pairs = home.json("mesh", "graph")["pairs"]
    assert sorted(sorted(each["machines"]) for each in pairs) == [
        ["desktop", "laptop"],
        ["desktop", "nas"],
        ["laptop", "nas"],
    ]
    assert {(each["state"], each["kind"]) for each in pairs} == {("connected", "lan")}
    home.clan("mesh", "graph", "-o", "mesh.svg")
    picture = ET.parse(home.folder / "mesh.svg").getroot()
    shown = ["".join(each.itertext()) for each in picture.iter("{http://www.w3.org/2000/svg}text")]
    assert {*MACHINES, "lan"} <= set(shown)


DIAL = """
import asyncio, sys
sys.path.insert(0, "/opt/src")
from clan.model.route import Network, Route
from clan.modules.mesh.technology import Mesh, leads_inside
from clan.networks.technology import Aim, Context, DialError
network = Network(name="home", module="mesh", technology="", priority=1)
route = Route(machine="nas", network=network, hosts=(sys.argv[1],))
async def main():
    async with Mesh().session(network, None) as session:
        session.context = None
        return (await session.dial(route, Aim())).address
assert Mesh().running(network, None)
assert leads_inside(sys.argv[1]) and not leads_inside("fd12:3456:789a::1")
print(asyncio.run(main()))
"""


def test_a_member_reaches_the_others_by_the_mesh_as_a_network(home: Home) -> None:
    """As `clan ssh` does on an admin's laptop that is in the mesh."""
    data = io.BytesIO()
    top = Path(clan.__file__).parent
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for file in top.rglob("*.py"):
            archive.add(file, f"src/clan/{file.relative_to(top)}")
    text = base64.b64encode(data.getvalue()).decode()
    home.lab.exec("laptop", ["sh", "-c", "base64 -d | tar -xz -C /opt"], text=text)
    words = ["python3", "-I", "-", home.address("nas")]
    done = home.lab.exec("laptop", words, text=DIAL, check=False)
    assert done.returncode == 0, done.stderr
    assert home.address("nas") in done.stdout
    # The admin's computer is no member: the network is there, and does not run.
    (network,) = [e for e in home.json("network", "list") if e["network"] == "home"]
    assert network["running"] is False


def test_a_change_reaches_machines_that_the_admin_does_not_talk_to(home: Home) -> None:
    file = home.folder / "clan.toml"
    file.write_text(file.read_text().replace("[machines.nas]\n", "[machines.nas]\ntags = ['a']\n"))
    before = home.json("mesh", "map")["maps"][0]["serial"]
    (outcome,) = home.json("machines", "update", "nas")
    assert outcome["maps"] == {"home": "newer"}
    after = home.json("mesh", "map")["maps"][0]["serial"]
    assert after > before
    until(lambda: {each["map"][1] for each in home.json("mesh", "status").values()} == {after})


def test_the_doctor_says_that_all_is_well_or_what_is_not(home: Home) -> None:
    said = home.clan("doctor", "nas").stdout
    assert "home: all is well; map 1." in said
    home.on("desktop", "sysctl -qw net.ipv6.conf.lo.disable_ipv6=1")
    done = home.lab.run(home.words("doctor", "desktop"), check=False)
    home.on("desktop", "sysctl -qw net.ipv6.conf.lo.disable_ipv6=0")
    assert done.returncode == 1
    assert "IPv6 is switched off on desktop" in done.stdout
    address = home.address("desktop")
    until(lambda: address in home.on("desktop", "ip -6 addr show dev lo"))
    until(lambda: home.pings("nas", "desktop.home"))


def test_an_agent_that_is_off_is_told_of(home: Home) -> None:
    home.on("desktop", f"systemctl stop {UNIT}")
    done = home.lab.run(home.words("mesh", "status"), check=False)
    home.on("desktop", f"systemctl start {UNIT}")
    assert done.returncode == 1
    assert "desktop: the agent of the mesh home does not run here" in done.stderr
    (row,) = [line.split() for line in done.stdout.splitlines() if line.startswith("desktop")]
    # The others know which map it had.
    assert row[2] == "by"
    assert row[-5:] == ["-", "-", "-", "no", "answer"]
    # What it left carries on.
    assert home.pings("nas", "desktop.home")


def test_an_update_of_what_is_as_it_should_be_changes_nothing(home: Home) -> None:
    before = home.json("mesh", "map")["maps"]
    outcomes = home.json("machines", "update")
    assert {each["state"] for each in outcomes} == {"unchanged"}
    assert {each["maps"]["home"] for each in outcomes} <= {"same", "newer"}
    after = home.json("mesh", "map")["maps"]
    # Interfaces that were heard of meanwhile are in the next map, if there were any.
    assert after[0]["serial"] - before[0]["serial"] <= 1
    again = home.json("machines", "update")
    assert {each["maps"]["home"] for each in again} == {"same"}
    assert home.json("mesh", "map")["maps"] == after


def test_who_leaves_the_clan_s_file_is_out_of_the_map_and_cut_off(home: Home) -> None:
    address = home.address("laptop")
    (home.folder / "clan.toml").write_text(clan_file("nas", "desktop"))
    # It is not told: it may be stolen.
    outcomes = home.json("machines", "update", "nas", "desktop")
    # Whoever is updated first tells the other.
    assert {each["maps"]["home"] for each in outcomes} <= {"newer", "same"}
    there = home.json("mesh", "map")
    assert [each["name"] for each in there["machines"]] == ["desktop", "nas"]
    assert there["removed"] == 1
    for name in ("nas", "desktop"):
        assert "laptop.home" not in home.on(name, "cat /etc/hosts")
        assert not home.pings(name, address)
        assert not home.pings("laptop", f"{name}.home")
    assert home.pings("nas", "desktop.home")


LEFT = """
ip -o link | grep -o 'clan-[0-9]*' || true
ip -6 addr show dev lo scope global | grep -o fd.* || true
ip route show table all proto 193; ip -6 route show table all proto 193
ip rule | grep '^4900' || true; ip -6 rule | grep '^4900' || true
nft list tables | grep clan_ || true
systemctl list-units --all --plain --no-legend 'clan-mesh-*' 'clan-relay-*' 'clan-wireguard-*'
"""


def test_a_machine_that_loses_the_role_is_left_as_it_was(home: Home) -> None:
    # Without an agent, which would take away some of it before.
    ways = labels.prefix(IPv6Network((home.address("desktop"), 48), strict=False))
    home.on("desktop", f"systemctl stop {UNIT}; ip addr replace {ways.network_address} dev lo")
    left = home.on("desktop", LEFT)
    assert str(ways.network_address) in left
    assert table.TABLE in left
    (home.folder / "clan.toml").write_text(clan_file("nas"))
    home.clan("machines", "update", "desktop", "nas")
    assert home.on("desktop", LEFT) == ""
    assert [each["name"] for each in home.json("mesh", "map")["machines"]] == ["nas"]
    # It comes back with the address that it had.
    (home.folder / "clan.toml").write_text(clan_file("nas", "desktop"))
    home.clan("machines", "update", "desktop", "nas")
    until(lambda: home.pings("nas", "desktop.home"))
