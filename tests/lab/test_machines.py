"""What can be done with the machines of a lab that is up."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from clan.errors import UsageError
from clan.lab.cuts import Cut, Direction
from clan.lab.place import at_admin
from clan.lab.status import observe

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.lab.conftest import Answer, Ask, Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

LAB = """
[sites]
hosting = { router = { nat = "none" } }
home = {}
cafe = { lan = "10.3.0.0/16" }
[machines]
vps = { site = "hosting", mdns = "off", address = "203.0.113.10" }
my_nas = { site = "home", mdns = "avahi" }
laptop = { site = "home", mdns = "resolved", clan = true }
[admin]
site = "home"
[names]
"vpn.example.com" = "vps"
"""
VPS = "203.0.113.10"
SSH = ("ssh", "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-q")

MDNS = """
import sys
from zeroconf import Zeroconf, IPVersion, AddressResolver
with Zeroconf(ip_version=IPVersion.V4Only) as zeroconf:
    found = AddressResolver(sys.argv[1] + ".local.")
    found.request(zeroconf, 3000)
    print(*found.parsed_addresses())
"""


@pytest.fixture(scope="module")
def lab(labs: Labs, answer: Answer) -> Lab:
    up = labs(LAB)
    answer(up, "vps")
    answer(up, "my_nas")
    return up


def until(seconds: float, happens: Callable[[], object]) -> float:
    """Wait for something to be so, and return how long it took, in seconds."""
    begun = time.monotonic()
    while not happens():
        assert time.monotonic() - begun < seconds, "it did not happen in time"
        time.sleep(0.02)
    return time.monotonic() - begun


def addresses(lab: Lab, name: str) -> tuple[str, ...]:
    return next(seen.addresses for seen in observe(lab).machines if seen.name == name)


def test_every_machine_is_where_its_file_says_with_addresses_by_dhcp(lab: Lab) -> None:
    seen = {machine.name: machine for machine in observe(lab).machines}
    assert {name: machine.state for name, machine in seen.items()} == dict.fromkeys(seen, "running")
    assert seen["vps"].addresses == (VPS, "2001:db8:1::10")
    assert seen["my_nas"].addresses == ("192.168.1.10", "2001:db8:2::11")
    assert seen["laptop"].addresses == ("192.168.1.11", "2001:db8:2::12")
    assert seen["admin"].addresses == ("192.168.1.2", "2001:db8:2::2")
    assert lab.exec("my_nas", ["hostname"]).stdout == "my-nas\n"
    assert "DHCPv4" in lab.exec("my_nas", ["networkctl", "status", "host0"]).stdout


def test_the_name_server_answers_everywhere_and_for_nothing_outside(lab: Lab) -> None:
    for run in (lab.run, lambda argv, check: lab.exec("my_nas", argv, check=check)):
        found = run(["getent", "ahosts", "vpn.example.com"], check=True).stdout
        assert VPS in found
        assert "2001:db8:1::10" in found
        assert run(["getent", "ahosts", "example.org"], check=False).returncode == 2


def test_no_route_leads_out_and_nothing_of_the_computer_shows(lab: Lab) -> None:
    shown = json.loads(lab.run(["ip", "-json", "link"]).stdout)
    assert {link["ifname"] for link in shown} == {"lo", "lan"}
    assert set(lab.run(["ls", "/sys/class/net"]).stdout.split()) == {"lo", "lan"}
    outside = subprocess.run(["ip", "-o", "link"], capture_output=True, text=True, check=True)
    assert "vb-m" not in outside.stdout


def test_the_admin_logs_in_to_every_machine_with_the_labs_key(lab: Lab) -> None:
    assert lab.run([*SSH, "root@vpn.example.com", "hostname"]).stdout == "vps\n"
    assert lab.run([*SSH, "root@my-nas.lan", "hostname"]).stdout == "my-nas\n"
    scanned = lab.run(["ssh-keyscan", "-t", "ed25519", VPS]).stdout
    assert lab.host_key("vps") in scanned
    assert lab.host_key("vps") != lab.host_key("my_nas")


def test_a_command_at_the_admins_place_is_a_process_like_any_other(lab: Lab) -> None:
    done = lab.run(["sh", "-c", "cat; echo oops >&2; exit 3"], text="in", check=False)
    assert (done.returncode, done.stdout, done.stderr) == (3, "in", "oops\n")
    process = subprocess.Popen(at_admin(lab.state, ["sleep", "60"]))
    until(5, lambda: b"sleep" in Path(f"/proc/{process.pid}/cmdline").read_bytes()[:5])
    process.send_signal(signal.SIGTERM)
    assert process.wait(5) == -signal.SIGTERM
    assert lab.exec("vps", ["sh", "-c", "cat; exit 4"], text="in", check=False).returncode == 4


def test_what_clan_writes_in_the_lab_stays_in_the_lab(lab: Lab) -> None:
    script = 'for v in CLAN_VARS_DIR XDG_STATE_HOME XDG_CACHE_HOME; do eval echo \\"\\$$v\\"; done'
    folders = lab.run(["sh", "-c", script]).stdout.split()
    assert len(folders) == 3
    assert all(Path(folder).is_relative_to(lab.state.folder) for folder in folders)
    assert lab.exec("laptop", ["sh", "-c", script]).stdout.split() == folders


def test_a_familys_admin_works_from_the_laptop(lab: Lab) -> None:
    version = lab.run([sys.executable, "-m", "clan", "--version"]).stdout
    assert lab.run(["clan", "--version"]).stdout == version
    assert lab.exec("laptop", ["clan", "--version"]).stdout == version
    assert lab.exec("laptop", [*SSH, "root@vpn.example.com", "hostname"]).stdout == "vps\n"
    lab.exec("laptop", ["sh", "-c", 'echo hello >"$CLAN_DIR/note"'])
    assert (lab.clan_dir / "note").read_text() == "hello\n"
    assert lab.run(["pwd"]).stdout == lab.exec("laptop", ["pwd"]).stdout


@pytest.mark.parametrize("name", ["my-nas", "laptop"])
def test_avahi_and_resolved_answer_for_their_machine(lab: Lab, name: str) -> None:
    lab.move("admin", "home")
    expected = {"my-nas": "192.168.1.10", "laptop": "192.168.1.11"}[name]
    # A machine announces its name about a second after it has its address.
    until(30, lambda: expected in lab.run([sys.executable, "-c", MDNS, name]).stdout.split())


def test_machines_find_each_other_by_mdns(lab: Lab) -> None:
    def found(name: str, host: str) -> str:
        return lab.exec(name, ["getent", "ahostsv4", f"{host}.local"], check=False).stdout

    until(30, lambda: "192.168.1.11" in found("my_nas", "laptop"))
    until(30, lambda: "192.168.1.10" in found("laptop", "my-nas"))


def test_a_package_is_installed_from_the_labs_repository(lab: Lab) -> None:
    lab.exec("my_nas", ["apt-get", "update", "-q"])
    lab.exec("my_nas", ["apt-get", "install", "-q", "-y", "tree"])
    assert lab.exec("my_nas", ["tree", "--version"]).stdout.startswith("tree v")


def test_a_repository_that_was_tampered_with_is_refused(lab: Lab) -> None:
    """A copy of the repository with one changed byte in its signed index."""
    script = """
set -e
mkdir -p /srv/deb/dists/lab && cd /srv/deb/dists/lab
curl -fsS http://deb.lab/12/dists/lab/InRelease | sed 's/^Suite: lab/Suite: bad/' >InRelease
systemd-run --quiet --unit=deb python3 -m http.server 8000 --directory /srv/deb
sed -i 's,http://deb.lab/12,http://localhost:8000,' /etc/apt/sources.list.d/lab.sources
until curl -fsS -o /dev/null http://localhost:8000/; do sleep 0.05; done
apt-get update
"""
    done = lab.exec("vps", ["timeout", "20", "sh", "-c", script], check=False)
    assert "BADSIG" in done.stdout + done.stderr
    refused = lab.exec("vps", ["apt-get", "install", "-y", "tree"], check=False)
    assert refused.returncode == 100


def test_a_cut_is_silent_and_is_restored_exactly(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "home")
    lab.cut(Cut(what="my_nas", protocol="tcp", port=443))
    lab.cut(Cut(what="my_nas", protocol="tcp", port=443))
    begun = time.monotonic()
    assert ask(lab, "connect", "192.168.1.10", "443") is False
    assert time.monotonic() - begun > 0.9  # dropped, not refused
    assert ask(lab, "connect", "192.168.1.10", "8080") is True
    lab.cut(Cut(what="my_nas", protocol="udp", direction=Direction.OUT))
    assert ask(lab, "echo", "192.168.1.10", "2")["share"] == 0
    assert [str(cut) for cut in lab.cuts()] == ["my_nas tcp 443 both", "my_nas udp - out"]
    lab.restore("my_nas")
    assert lab.cuts() == []
    assert ask(lab, "connect", "192.168.1.10", "443") is True
    assert ask(lab, "echo", "192.168.1.10", "2")["share"] == 1


def test_a_site_and_the_admin_can_be_cut_too(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "cafe")
    for what in ("hosting", "cafe", "admin", "vps"):
        assert ask(lab, "connect", VPS, "443") is True
        lab.cut(Cut(what=what))
        assert ask(lab, "connect", VPS, "443") is False
        lab.restore()
    with pytest.raises(UsageError, match="neither a machine nor a site") as caught:
        lab.cut(Cut(what="hostin"))
    assert caught.value.hint == "did you mean 'hosting'?"


def test_a_pulled_cable_is_noticed_and_comes_back(lab: Lab) -> None:
    carrier = ["cat", "/sys/class/net/host0/carrier"]
    lab.cut(Cut(what="my_nas"), carrier=True)
    assert lab.pulled() == {"my_nas"}
    assert lab.exec("my_nas", carrier).stdout == "0\n"
    lab.restore()
    assert lab.pulled() == set()
    until(5, lambda: lab.exec("my_nas", carrier).stdout == "1\n")
    until(20, lambda: addresses(lab, "my_nas") == ("192.168.1.10", "2001:db8:2::11"))


def test_the_admins_cable_can_be_pulled_too(lab: Lab, ask: Ask) -> None:
    lab.move("admin", "home")
    lab.cut(Cut(what="admin"), carrier=True)
    assert lab.pulled() == {"admin"}
    assert ask(lab, "connect", VPS, "443") is False
    lab.restore("admin")
    until(5, lambda: ask(lab, "connect", VPS, "443"))
    until(5, lambda: ask(lab, "connect", "2001:db8:1::10", "443"))


def test_a_machine_moves_while_it_runs(lab: Lab) -> None:
    leader = lab.unit("laptop").leader()
    lab.move("laptop", "cafe")
    until(20, lambda: any(a.startswith("10.3.") for a in addresses(lab, "laptop")))
    until(20, lambda: "2001:db8:3::12" in addresses(lab, "laptop"))
    assert not any(a.startswith("192.168.") for a in addresses(lab, "laptop"))
    assert lab.unit("laptop").leader() == leader
    lab.exec("laptop", ["curl", "-fsS", "http://deb.lab/12/key.asc"])
    lab.move("laptop", "home")
    until(20, lambda: addresses(lab, "laptop") == ("192.168.1.11", "2001:db8:2::12"))


def test_the_admin_moves_at_once(lab: Lab) -> None:
    for site in ("home", "cafe") * 3:
        lab.move("admin", site)
    shown = lab.run(["ip", "-brief", "address", "show", "lan"]).stdout.split()
    assert "10.3.0.2/16" in shown
    assert "2001:db8:3::2/64" in shown
    assert "nameserver 10.3.0.1\n" in lab.run(["cat", "/etc/resolv.conf"]).stdout
    assert lab.run([*SSH, "root@vpn.example.com", "hostname"]).stdout == "vps\n"


def test_a_machine_reboots_into_the_place_it_was_moved_to(lab: Lab) -> None:
    lab.move("my_nas", "cafe")
    leader = lab.unit("my_nas").leader()
    lab.exec("my_nas", ["touch", "/root/kept"])
    lab.exec("my_nas", ["systemctl", "reboot"], check=False)
    until(20, lambda: lab.unit("my_nas").leader() not in {None, leader})
    until(20, lambda: any(a.startswith("10.3.") for a in addresses(lab, "my_nas")))
    lab.exec("my_nas", ["test", "-e", "/root/kept"])
    lab.move("my_nas", "home")
