"""The mesh's hold on a whole machine: systemd, its network daemon, and its firewalls."""

from __future__ import annotations

import base64
import io
import json
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

import clan

if TYPE_CHECKING:
    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

MACHINES = ("plain", "ufw", "firewalld")
LAB = '[sites.home]\n[admin]\nsite = "home"\n' + "".join(
    f'[machines.{name}]\nsite = "home"\n' for name in MACHINES
)

HEAD = """
import json, os, select, subprocess, sys, time
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
sys.path.insert(0, "/opt")
from clan.mesh.agent import firewall, marks, uplinks
from clan.mesh.agent.kernel import Events, Kernel
from clan.mesh.agent.rtnetlink import UNREACHABLE, Address, Interface, Route, Rule
from clan.mesh.agent.wireguard import Change, Endpoint, fingerprint, make
kernel = Kernel()
KEY, FAR = bytes(range(32)), b"\\x07" * 32
def until(found):
    end = time.monotonic() + 30
    while not found():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.05)
def done(what):
    print(json.dumps(what))
"""


@pytest.fixture(scope="module")
def lab(labs: Labs) -> Lab:
    up = labs(LAB)
    data = io.BytesIO()
    top = Path(clan.__file__).parent
    with tarfile.open(fileobj=data, mode="w:gz") as archive:
        for package in ("machine", "mesh"):
            for file in (top / package).rglob("*.py"):
                archive.add(file, f"clan/{file.relative_to(top)}")
    text = base64.b64encode(data.getvalue()).decode()
    for name in MACHINES:
        up.exec(name, ["sh", "-c", "base64 -d | tar -xz -C /opt"], text=text)
    return up


def on(lab: Lab, machine: str, program: str) -> Any:
    """Run a program as the agent on a machine, and return what it found."""
    done = lab.exec(machine, ["python3", "-I", "-"], check=False, text=HEAD + program)
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def shell(lab: Lab, machine: str, command: str) -> str:
    done = lab.exec(machine, ["sh", "-ec", command], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


WIREGUARD = """
made = make(kernel, "clan1")
made.configure(private=KEY, port=51001, mark=marks.mark(1))
made.change([Change(key=FAR, allowed=frozenset({ip_network("fdcc::2/128")}))])
kernel.set_up(kernel.interface("clan1").index)
"""
AGAIN = """
made = make(kernel, "clan1")
device = made.read()
done([device.port, device.key == fingerprint(KEY), [key.hex() for key in device.peers]])
"""


def test_wireguard_go_outlives_the_agent_and_its_interface_outlives_it(lab: Lab) -> None:
    shell(lab, "plain", "apt-get -qq update && apt-get -qq -y install wireguard-go >/dev/null")
    on(lab, "plain", f"{WIREGUARD}\ndone(1)")
    configured = [51001, True, ["07" * 32]]
    assert on(lab, "plain", AGAIN) == configured  # the next agent's
    unit = "clan-wireguard-clan1.service"
    before = on(lab, "plain", 'done(kernel.interface("clan1").index)')
    shell(lab, "plain", f"systemctl kill -s KILL {unit}")
    shell(lab, "plain", f"while systemctl -q is-active {unit}; do sleep 0.05; done")
    assert on(lab, "plain", AGAIN)[1:] == [False, []]
    assert on(lab, "plain", f"{WIREGUARD}\n{AGAIN}") == configured
    assert on(lab, "plain", 'done(kernel.interface("clan1").index)') == before
    gone = on(
        lab, "plain", 'make(kernel, "clan1").remove()\ndone(kernel.interface("clan1") is None)'
    )
    assert gone
    assert unit not in shell(lab, "plain", "systemctl list-units --all")


STEERING = """
index = kernel.interface("host0").index
number = marks.table(index)
def uphold():
    table = uplinks.table(index, kernel.routes())
    return [
        *kernel.settle_rules(marks.rules({marks.mark(1): index})),
        *kernel.settle_routes(table, table=number),
        *kernel.settle_routes([Route(to=ip_network("fdcc::/16"), kind=UNREACHABLE)], table=254),
    ]
uphold()
assert uphold() == []
"""
RECONFIGURE = """
events = Events()
# In Debian 12 a restart leaves them; this does not, nor does whatever else configures it anew.
subprocess.run(["networkctl", "reconfigure", "host0"], check=True)
deleted = []
def noticed():
    deleted.extend(
        type(each.what).__name__
        for each in events.read()
        if each.gone and each.port != kernel.port and getattr(each.what, "protocol", 0) == 193
    )
    return {"Rule", "Route"} <= set(deleted)
until(noticed)
until(lambda: any(route.gateway for route in kernel.routes() if route.index == index))
time.sleep(2)
put_back = uphold()
done([sorted(set(deleted)), len(put_back) > 0, uphold(), len(kernel.routes(table=number)) > 2])
"""


def test_what_systemd_networkd_deletes_is_noticed_and_put_back(lab: Lab) -> None:
    deleted, put_back, again, has_routes = on(lab, "plain", STEERING + RECONFIGURE)
    assert deleted == ["Route", "Rule"]
    assert put_back
    assert again == []
    assert has_routes


def test_the_uplink_of_a_machine_with_its_addresses_and_gateways(lab: Lab) -> None:
    found = on(
        lab,
        "plain",
        """
[uplink] = uplinks.look(kernel, {"clan1"})
versions = sorted(route.to.version for route in uplink.defaults)
done([uplink.name, uplink.works, uplink.metered, versions,
      sorted({each.version for each in uplink.addresses})])
""",
    )
    assert found == ["host0", True, False, [4, 6], [4, 6]]


LET_IN = """
ports = {ports}
firewall.let_in(ports)
firewall.let_in(ports)
done(1)
"""


def let_in(lab: Lab, machine: str, *ports: tuple[str, int, str]) -> None:
    on(lab, machine, LET_IN.format(ports=list(ports)))


def test_ufw_lets_the_mesh_in_and_keeps_what_is_others(lab: Lab) -> None:
    shell(lab, "ufw", "apt-get -qq update && apt-get -qq -y install ufw iptables >/dev/null")
    shell(lab, "ufw", "ufw allow 22/tcp && ufw --force enable")
    let_in(lab, "ufw", ("udp", 51001, ""), ("udp", 7777, "clan1"))
    shown = shell(lab, "ufw", "ufw show added")
    assert "ufw allow 51001/udp comment 'clan'" in shown
    assert "ufw allow in on clan1 to any port 7777 proto udp comment 'clan'" in shown
    let_in(lab, "ufw")
    shown = shell(lab, "ufw", "ufw show added")
    assert "clan" not in shown
    assert "ufw allow 22/tcp" in shown


def test_firewalld_lets_the_mesh_in(lab: Lab) -> None:
    shell(lab, "firewalld", "apt-get -qq update && apt-get -qq -y install firewalld >/dev/null")
    shell(lab, "firewalld", "systemctl start firewalld && firewall-cmd --state")
    let_in(lab, "firewalld", ("udp", 51001, ""))
    for when in ("", "--permanent"):
        assert "51001/udp" in shell(lab, "firewalld", f"firewall-cmd {when} --list-ports")
    let_in(lab, "firewalld")
    assert "51001" not in shell(lab, "firewalld", "firewall-cmd --list-ports")
