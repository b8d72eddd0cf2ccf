"""A relay under the rules that real firewalls make, as they are in Debian."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from tests.lab.relays import rules
from tests.lab.test_mesh_relay import world  # noqa: F401 (a fixture)

if TYPE_CHECKING:
    from tests.lab.conftest import Labs
    from tests.lab.relays import World

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

PORTS = "23600", "23663"
LAB = """\
[sites.home]
[admin]
site = "home"
[machines.server]
site = "home"
"""
INSTALL = "apt-get -qq update && apt-get -qq -y install {} >/dev/null"
UFW = f"""
ufw allow {":".join(PORTS)}/udp >/dev/null
ufw --force enable >/dev/null
for each in iptables ip6tables; do
    $each-save -t filter >/tmp/saved
    $each-restore-translate -f /tmp/saved
done
ufw disable >/dev/null
"""
FIREWALLD = f"""
systemctl start firewalld
firewall-cmd --add-port {"-".join(PORTS)}/udp >/dev/null
nft list table inet firewalld
systemctl stop firewalld
"""


@pytest.fixture(scope="module")
def server(labs: Labs) -> Lab:
    return labs(LAB)


def made_by(lab: Lab, package: str, command: str) -> str:
    """Return the rules that a firewall makes on a machine."""
    done = lab.exec("server", ["sh", "-ec", INSTALL.format(package) + command], check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.parametrize(
    ("package", "command"),
    [("ufw iptables", UFW), ("firewalld", FIREWALLD)],
    ids=["ufw", "firewalld"],
)
def test_a_relay_passes_on_under_it(
    server: Lab,
    world: World,  # noqa: F811
    package: str,
    command: str,
) -> None:
    rules(world.spaces["relay"], made_by(server, package, command))
    world.join()
    assert world.passes()
    assert world.pumped() == 0
