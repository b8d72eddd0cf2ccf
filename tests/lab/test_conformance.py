"""Each network technology against tests/networks/conformance.py, with real machines."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.networks.conformance import CHECKS, Subject

from clan.model.inventory import Target
from clan.model.route import Jump, Network, Route
from clan.vars.store import HOST_KEY, Store

if TYPE_CHECKING:
    from tests.lab.conftest import Labs

    from clan.lab.lab import Lab

pytestmark = pytest.mark.lab

ROOT = Path(__file__).parents[2]
PLACES = """
[sites.hosting]
router = { nat = "none" }
[sites.home]
router = { nat = "masquerade", forward = ["tcp 2222 nas 22"] }
[machines.vps]
site = "hosting"
[machines.nas]
site = "home"
[machines.desktop]
site = "home"
mdns = "resolved"
[admin]
site = "home"
[names]
"vps.example.com" = "vps"
"""


CLAN = """
[meta]
name = "family"
[machines.vps]
deploy.targetHost = "vps.example.com"
"""


def route(module: str, name: str, host: str, *, port: int = 22) -> Route:
    reference = f"clan.modules.{module}.technology:{name}"
    network = Network(name=module, module=module, technology=reference, priority=1)
    return Route(machine="nas", network=network, hosts=(host,), port=port)


INTERNET = route("internet", "Internet", "vps.example.com")
LAN = route("lan", "Lan", "nas.local")
JUMP = Jump(target=Target(host="vps"), machine="vps.family")
SUBJECTS = {
    "internet": Subject(route=INTERNET, nowhere=replace(INTERNET, hosts=("198.51.100.99",))),
    # An address dropped in silence, not refused: what waits for it must be cancelled cleanly.
    "internet with jump hosts": Subject(
        route=replace(INTERNET, hosts=("203.0.113.10",), jumps=(JUMP,)),
        nowhere=replace(INTERNET, hosts=("198.51.100.99",), jumps=(JUMP,)),
    ),
    "lan, avahi": Subject(route=LAN, nowhere=replace(LAN, hosts=("nobody.local",))),
    "lan, resolved": Subject(
        route=replace(LAN, hosts=("desktop.local",)),
        nowhere=replace(LAN, hosts=("nobody.local",)),
    ),
}
NEEDS_NO_SECRET = {"lan, avahi", "lan, resolved"}


@pytest.fixture(scope="module")
def lab(labs: Labs, tmp_path_factory: pytest.TempPathFactory) -> Lab:
    folder = tmp_path_factory.mktemp("family")
    (folder / "clan.toml").write_text(CLAN)
    lab = labs(PLACES, clan_dir=folder)
    # The jump host has been met before.
    environment = lab.environment()
    Store.of(folder, environment).write("vps", *HOST_KEY, lab.host_key("vps"))
    return lab


@pytest.mark.parametrize("check", CHECKS)
@pytest.mark.parametrize("subject", SUBJECTS)
def test_conformance(lab: Lab, subject: str, check: str) -> None:
    if check == "a_secret_host_is_revealed_when_it_is_used" and subject in NEEDS_NO_SECRET:
        pytest.skip("its hosts are names that every machine announces itself")
    words = [check, SUBJECTS[subject].to_json()]
    done = lab.run(
        ["env", f"PYTHONPATH={ROOT}", sys.executable, "-m", "tests.networks.conformance", *words],
        check=False,
    )
    assert done.returncode == 0, done.stderr
