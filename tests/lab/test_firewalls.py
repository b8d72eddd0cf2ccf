"""A machine with a firewall of somebody else's: it is opened in that one's way, or named."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.office import LAB, Office, Wish

if TYPE_CHECKING:
    from tests.lab.conftest import Labs

pytestmark = pytest.mark.lab

MACHINES = ("ufw", "firewalld", "own")
PORT, OTHER = 7001, 7002
# What the usual guides have people write, once for nft and once as iptables leaves it.
OWN = """\
table inet filter {
    chain input {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        ct state established,related accept
        meta l4proto { 1, 58 } accept
        tcp dport { 22, 80 } accept
    }
    chain forward {
        type filter hook forward priority 0; policy drop;
    }
}
"""


@pytest.fixture(scope="module")
def office(labs: Labs) -> Office:
    machines = "".join(f'[machines.{name}]\nsite = "hosting"\n' for name in MACHINES)
    names = "".join(f'"{name}.example" = "{name}"\n' for name in MACHINES)
    made = Office(labs(f"{LAB}{machines}[names]\n{names}"))
    made.install(*MACHINES)
    return made


def opening(*ports: int) -> Wish:
    return Wish(files={"/etc/story/text": "x"}, ports=ports)


def updated(office: Office, machine: str, *ports: int) -> dict[str, Any]:
    office.wants(**{machine: opening(*ports)})
    (outcome,) = office.update(machine, "--confirm-timeout", "60")
    return outcome


def on(office: Office, machine: str, command: str) -> str:
    done = office.lab.exec(machine, ["sh", "-ec", command], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(office: Office, machine: str, port: int) -> bool:
    """Whether what listens at a port is reached from the admin's place."""
    serve = f"systemd-run -q --collect python3 -m http.server {port}; sleep 1"
    on(office, machine, serve)
    done = office.lab.run(
        ["curl", "--silent", "--max-time", "5", f"http://{machine}.example:{port}/"], check=False
    )
    return done.returncode == 0


def installed(office: Office, machine: str, package: str) -> None:
    on(office, machine, f"apt-get -qq update && apt-get -qq -y install {package} >/dev/null")


def test_ufw_is_asked(office: Office) -> None:
    installed(office, "ufw", "ufw iptables")
    on(office, "ufw", f"ufw allow 22/tcp && ufw allow {OTHER}/tcp && ufw --force enable")
    assert updated(office, "ufw", PORT, OTHER)["state"] == "updated"
    shown = on(office, "ufw", "ufw show added")
    assert f"ufw allow {PORT}/tcp comment 'clan'" in shown
    assert f"ufw allow {OTHER}/tcp\n" in shown
    assert answers(office, "ufw", PORT)
    on(office, "ufw", "ufw reload")
    assert answers(office, "ufw", PORT)
    assert updated(office, "ufw")["state"] == "updated"
    shown = on(office, "ufw", "ufw show added")
    assert str(PORT) not in shown
    assert f"ufw allow {OTHER}/tcp" in shown  # it was there before us


def test_firewalld_is_asked(office: Office) -> None:
    installed(office, "firewalld", "firewalld")
    on(office, "firewalld", "systemctl start firewalld && firewall-cmd --state")
    assert updated(office, "firewalld", PORT)["state"] == "updated"
    for when in ("", "--permanent"):
        assert f"{PORT}/tcp" in on(office, "firewalld", f"firewall-cmd {when} --list-ports")
    assert answers(office, "firewalld", PORT)
    on(office, "firewalld", "firewall-cmd --reload")
    assert answers(office, "firewalld", PORT)
    assert updated(office, "firewalld")["state"] == "updated"
    for when in ("", "--permanent"):
        assert str(PORT) not in on(office, "firewalld", f"firewall-cmd {when} --list-ports")


def test_one_that_nobody_manages_is_named(office: Office) -> None:
    assert updated(office, "own", OTHER)["state"] == "updated"
    office.lab.exec("own", ["nft", "-f", "-"], text=OWN)
    outcome = updated(office, "own", OTHER, PORT)
    assert outcome["state"] == "rolled back"
    assert f"TCP port {PORT} is open here, but the chain inet filter input drops it" in str(outcome)
    on(office, "own", f"nft add rule inet filter input tcp dport {{ {PORT}, {OTHER} }} accept")
    assert updated(office, "own", OTHER, PORT)["state"] == "updated"
    assert answers(office, "own", PORT)
