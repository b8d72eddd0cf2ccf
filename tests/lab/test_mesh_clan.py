"""A mesh from the clan's file: three machines reach each other by name, until one leaves."""

from __future__ import annotations

import itertools
import json
import re
import xml.etree.ElementTree as ET
from ipaddress import IPv6Network
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.ailments import (
    ADMIN,
    AILMENTS,
    KILL_SWITCH,
    NO_TUN,
    REFUSES,
    RESTARTS,
    Ailment,
    named,
)
from tests.lab.home import LAB, LEFT, MACHINES, UNIT, Home, clan_file, until

from clan.lab.cuts import Cut
from clan.mesh.hops import labels
from clan.mesh.relay import table
from clan.mesh.relay.ports import PORTS
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    import subprocess

    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

INSTALL = "apt-get -qq update && apt-get -qq -y install {} >/dev/null"


@pytest.fixture(scope="module")
def home(labs: Labs) -> Home:
    """Three machines that were installed and are in the mesh; one had firewalld before."""
    found = Home(labs(LAB))
    found.on("desktop", INSTALL.format("firewalld"))
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
    sides = home.json("mesh", "path", "laptop", "nas")
    assert {name: (each["name"], each["path"]["uplink"]) for name, each in sides.items()} == {
        "laptop": ("nas", "host0"),
        "nas": ("laptop", "host0"),
    }
    entries = home.json("mesh", "log", "laptop", "--peer", "nas")
    assert entries
    assert all(each["peer"] == "nas" and each["why"] for each in entries)
    lines = home.clan("mesh", "log", "laptop", "--lines", "3").stdout.splitlines()
    assert 1 <= len(lines) <= 3
    again = home.json("mesh", "log", "laptop", "--replay")
    assert again["steps"] > 0
    assert again["others"] == []


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


def test_the_graph_is_drawn_again_and_again(home: Home) -> None:
    file = home.folder / "again.svg"
    drawing = home.watch("graph", "-o", file.name)
    for _ in range(2):
        before = file.stat().st_mtime_ns if file.exists() else 0
        until(lambda b=before: file.exists() and file.stat().st_mtime_ns > b)  # type: ignore[misc]
        ET.parse(file)
    drawing.stop()
    done = home.lab.run(home.words("mesh", "graph", "--watch"), check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert "`-o FILE` names it" in done.stderr


def test_watching_goes_on_until_it_is_stopped(home: Home) -> None:
    looks = {
        "nas ": ("status", "nas"),
        "laptop → nas: lan by host0": ("path", "laptop", "nas"),
        "laptop  ": ("ping", "nas", "--from", "laptop", "--count", "1"),
    }
    plain = {head: home.watch(*words) for head, words in looks.items()}
    shapes = [home.watch(*words, "--json") for words in (*looks.values(), ("graph",))]
    for head, each in plain.items():
        until(lambda e=each, h=head: f"\n{e.said()}".count(f"\n{h}") >= 2)  # type: ignore[misc]
    for one in shapes:
        until(lambda e=one: len(e.documents()) >= 2)  # type: ignore[misc]
    for any_ in (*plain.values(), *shapes):
        any_.stop()
        assert "\x1b" not in any_.said()
    assert all(len(each.documents()) >= 2 for each in shapes)


def test_the_log_goes_on_with_all_that_is_decided(home: Home) -> None:
    assert home.pings("laptop", "desktop.home")
    words = ("log", "laptop", "--peer", "desktop", "--lines", "1")
    plain, shapes = home.watch(*words), home.watch(*words, "--json")
    until(lambda: bool(plain.said()) and bool(shapes.documents()))
    before = shapes.documents()
    assert len(before) == len(plain.said().splitlines()) == 1
    (port,) = home.ports("desktop", "lan")
    home.lab.cut(Cut(what="desktop", protocol="udp", port=port))
    until(lambda: home.pings("laptop", "desktop.home") and len(shapes.documents()) > 1)
    home.lab.restore()
    home.on("laptop", f"systemctl stop {UNIT}; sleep 3; systemctl start {UNIT}")
    until(lambda: home.pings("desktop", "laptop.home"))
    decided = home.json("mesh", "log", "laptop", "--peer", "desktop", "--lines", "500")
    new = decided[decided.index(before[0]) :]
    until(lambda: len(shapes.documents()) >= len(new))
    until(lambda: len(plain.said().splitlines()) >= len(new))
    for each in (plain, shapes):
        each.stop()
    assert shapes.documents()[: len(new)] == new


def test_a_member_reaches_the_others_by_the_mesh_as_a_network(home: Home) -> None:
    """By `clan ssh` on an admin's laptop that is in the mesh."""

    def ssh(*words: str) -> subprocess.CompletedProcess[str]:
        return home.lab.exec("laptop", home.words("ssh", *words), check=False)

    order = json.loads(ssh("--dry-run", "--json", "nas").stdout)["order"]
    assert [each["network"]["name"] for each in order] == ["home", "internet"]
    home.lab.cut(Cut(what="laptop", protocol="tcp", port=22))
    done = ssh("nas", "--", "hostname; echo $SSH_CLIENT")
    assert done.returncode == 0, done.stderr
    host, client = done.stdout.splitlines()
    assert (host, client.split()[0]) == ("nas", home.address("laptop"))
    assert f"nas: over home, [{home.address('nas')}]:22" in done.stderr
    # Who answers there has to have the key of the machine that is meant.
    store = Store.of(home.folder, {})
    store.write("nas", *HOST_KEY, home.lab.host_key("desktop"))
    done = ssh("nas", "--", "hostname")
    store.write("nas", *HOST_KEY, home.lab.host_key("nas"))
    assert (done.returncode, done.stdout) == (255, "")
    assert "on network home is not nas: it showed the host key SHA256:" in done.stderr
    assert ssh("nas", "--", "hostname").stdout == "nas\n"
    home.lab.restore()
    # The admin's computer is no member: the network is there, and does not run.
    (network,) = [e for e in home.json("network", "list") if e["network"] == "home"]
    assert network["running"] is False


def test_firewalls_let_the_mesh_in(home: Home) -> None:
    """One that was there before the mesh, and one that comes after it."""
    home.on("nas", INSTALL.format("ufw iptables"))
    home.on("nas", "ufw allow 22/tcp && ufw --force enable")
    rules = {
        "nas": ("ufw show added", "ufw allow in on host0 to any port {} proto udp comment 'clan'"),
        "desktop": ("firewall-cmd --list-ports && firewall-cmd --permanent --list-ports", "{}/udp"),
    }
    for name, (shown, rule) in rules.items():
        asked = {rule.format(port) for port in home.ports(name, "lan", "internet")}
        until(lambda n=name, s=shown, a=asked: all(each in home.on(n, s) for each in a), 90)  # type: ignore[misc]
    for one, other in itertools.permutations(MACHINES, 2):
        until(lambda o=one, p=other: home.pings(o, f"{p}.home"))  # type: ignore[misc]


def test_packets_pass_again_whatever_is_restarted(home: Home) -> None:
    # With one more interface, what links send is led to the first one by rules.
    home.on("desktop", "ip tuntap add spare0 mode tun")
    try:
        until(lambda: "\n4900:" in home.on("desktop", "ip rule"))
        rules = home.on("desktop", "ip rule; ip -6 rule")
        watch = "exec stdbuf -oL ip monitor rule route >/run/changes"
        home.on("desktop", f"systemd-run -q --collect --unit=watching sh -c '{watch}'")
        for name, command in RESTARTS:
            with home.pinging("laptop", f"{name}.home") as answered:
                until(lambda a=answered: a() > 0)  # type: ignore[misc]
                home.on(name, command)
                before = answered()
                until(lambda a=answered, b=before: a() > b + 10)  # type: ignore[misc]
        until(lambda: home.on("desktop", "ip rule; ip -6 rule") == rules)
    finally:
        home.on("desktop", "systemctl stop watching; ip link del spare0")
    changes = home.on("desktop", "cat /run/changes")
    assert "Deleted 4900:" in changes
    assert re.search("^Deleted .* proto 193 ", changes, re.MULTILINE)


def test_wireguard_go_outlives_the_agent_and_its_interface_outlives_it(home: Home) -> None:
    made = "cat /sys/class/net/clan-*/ifindex"
    runs = "systemctl show -P MainPID 'clan-wireguard-*'"
    indexes, before = home.on("laptop", made), home.on("laptop", runs)
    home.on("laptop", f"systemctl kill -s KILL {UNIT}")
    status = home.words("mesh", "status", "laptop")
    until(lambda: home.lab.run(status, check=False).returncode == 0)
    assert home.on("laptop", runs) == before
    home.on("laptop", "systemctl kill -s KILL 'clan-wireguard-*'")
    until(lambda: home.pings("laptop", "nas.home"))
    assert not set(home.on("laptop", runs).split()) & set(before.split())
    assert home.on("laptop", made) == indexes


def test_a_change_reaches_machines_that_the_admin_does_not_talk_to(home: Home) -> None:
    file = home.folder / "clan.toml"
    file.write_text(file.read_text().replace("[machines.nas]\n", "[machines.nas]\ntags = ['a']\n"))
    before = home.json("mesh", "map")["maps"][0]["serial"]
    (outcome,) = home.json("machines", "update", "nas")
    assert outcome["maps"] == {"home": "newer"}
    after = home.json("mesh", "map")["maps"][0]["serial"]
    assert after > before
    until(lambda: {each["map"][1] for each in home.json("mesh", "status").values()} == {after})


def test_the_doctor_says_that_all_is_well(home: Home) -> None:
    assert "home: all is well; map 1." in home.clan("doctor", "laptop").stdout


@pytest.mark.parametrize("ailments", AILMENTS, ids=["one", "other"])
def test_the_doctor_names_what_is_the_matter(home: Home, ailments: list[Ailment]) -> None:
    """Some at a time, as a look at a machine takes a while."""
    if Path("/sys/module/wireguard").exists():
        ailments = [each for each in ailments if each is not NO_TUN]
    try:
        for each in ailments:
            home.on("laptop", each.make)
        until(lambda: named(ailments, home.doctor("laptop")) == ailments)
    finally:
        for each in ailments:
            home.on("laptop", each.undo)
    until(lambda: not named(ailments, home.doctor("laptop")))
    until(lambda: home.pings("laptop", "nas.home"))


def test_the_doctor_names_a_kill_switch_and_what_lets_the_mesh_out(home: Home) -> None:
    what = "lets nothing out but what a rule allows (inet vpn out): a VPN's kill switch does that"

    def pinged() -> set[bool]:
        return {home.pings("laptop", f"{name}.home") for name in ("nas", "desktop")}

    home.lab.exec("laptop", ["nft", "-f", "-"], text=KILL_SWITCH)
    try:
        until(lambda: pinged() == {False})
        (said,) = home.named("laptop", what)
        assert said["wrong"] is True
        for rule in re.findall("`([^`]+)`", said["hint"]):
            home.on("laptop", f"nft add rule inet vpn out '{rule}'")
        until(lambda: pinged() == {True})
        (said,) = home.named("laptop", what)
        assert said["wrong"] is False
    finally:
        home.on("laptop", "nft delete table inet vpn")
    assert home.named("laptop", what) == []


def test_the_doctor_names_the_kill_switch_of_wg_quick_s_manual(home: Home) -> None:
    what = "lets nothing out but what a rule allows (ip filter OUTPUT)"
    home.on("nas", f"iptables -I {REFUSES}; iptables -I {ADMIN}")
    try:
        assert home.named("nas", what)
    finally:
        home.on("nas", f"iptables -D {REFUSES}; iptables -D {ADMIN}")
    assert home.named("nas", what) == []


def test_the_doctor_says_that_a_relay_s_ports_are_closed(home: Home) -> None:
    def is_named() -> bool:
        home.pings("laptop", "nas.home")
        return bool(home.named("nas", "nobody outside reaches nas"))

    home.lab.move("laptop", "away")
    home.lab.cut(Cut(what="home", protocol="udp", port=PORTS.start))
    home.on("nas", f"systemctl restart {UNIT}")
    until(is_named, 90)
    home.lab.restore("home")
    until(lambda: not is_named(), 90)
    home.lab.move("laptop", "home")
    until(lambda: home.pings("nas", "laptop.home"))


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

    def changes_nothing() -> bool:
        before = home.json("mesh", "map")["maps"]
        maps = {each["maps"]["home"] for each in home.json("machines", "update")}
        return maps == {"same"} and home.json("mesh", "map")["maps"] == before

    # Of some they may hear later, but not for ever.
    until(changes_nothing)


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
