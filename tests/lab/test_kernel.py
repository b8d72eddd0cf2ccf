"""The kernel's WireGuard, in a virtual machine: what the lab's machines do over wireguard-go."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab import vm

from clan.deploy.bundle import bundle
from clan.inventory.open import open_source
from clan.inventory.registry import Registry
from clan.lab import image
from clan.model.inventory import Source
from clan.model.plan import WireguardLink

if TYPE_CHECKING:
    from clan.model.exports import Var

pytestmark = pytest.mark.lab

CLAN = b"""
[machines]
server1 = {}
server2 = {}
laptop1 = {}
laptop2 = {}
[instances.vpn]
module.name = "wireguard"
roles.controller.machines.server1.settings.endpoint = "10.0.2.2"
roles.controller.machines.server2.settings.endpoint = "10.0.3.2"
roles.peer.machines.laptop1.settings.controller = "server1"
roles.peer.machines.laptop2.settings.controller = "server2"
"""


class Keys:
    """Keys made for machines that live for some seconds; `wg` need not be here."""

    def __init__(self, folder: Path) -> None:
        self.private: dict[str, bytes] = {}
        self.made: dict[str, str] = {}
        self.folder = folder

    def public(self, var: Var) -> str | None:
        return self.made.get(str(var.machine)) if var.file == "publickey" else None

    def make(self, machine: str) -> None:
        """Make an X25519 key pair by openssl: the last 32 bytes of its DER are the key."""
        file = str(self.folder / machine)
        key = ["openssl", "genpkey", "-algorithm", "x25519", "-outform", "DER", "-out", file]
        subprocess.run(key, check=True)
        words = ["openssl", "pkey", "-inform", "DER", "-in", file, "-pubout", "-outform", "DER"]
        public = subprocess.run(words, capture_output=True, check=True).stdout
        self.private[machine] = base64(Path(file).read_bytes())
        self.made[machine] = base64(public).decode()


def base64(der: bytes) -> bytes:
    from base64 import b64encode

    return b64encode(der[-32:])


@pytest.fixture(scope="module")
def saw(lab_ready: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Return what the program saw in the virtual machine."""
    del lab_ready
    scratch = tmp_path_factory.mktemp("vm")
    source = Source(path=scratch / "clan.toml", language="toml", text=CLAN)
    plan = open_source(source, Registry(scratch))
    instance = plan.instances["vpn"]
    keys = Keys(scratch)
    machines = {name: role for role, members in instance.members.items() for name in members}
    for machine in machines:
        keys.make(machine)
    links, files = {}, {}
    for machine, role in machines.items():
        planned = instance.module.plan(machine, role, instance, plan, keys)
        link = next(each for each in planned if isinstance(each, WireguardLink)).to_json()
        links[machine] = link | {"private_key": f"/keys/{machine}"}
        files[f"keys/{machine}"] = keys.private[machine]
    files["machine.pyz"] = bundle()
    files["links.json"] = json.dumps(links).encode()
    files["kernel.py"] = (Path(__file__).parent / "programs/kernel.py").read_bytes()
    tools = sorted((image.find().repository / "pool").glob("wireguard-tools_*.deb"))
    try:
        console = vm.run("PYTHONPATH=/machine.pyz python3 /kernel.py", files, tools, scratch)
    except vm.NoVmError as missing:
        pytest.skip(str(missing))
    lines = [line for line in console.splitlines() if line.startswith("SAW ")]
    assert lines, console[-3000:]
    found: dict[str, Any] = json.loads(lines[0].removeprefix("SAW "))
    return found


def test_the_kernel_makes_the_interface_and_all_ping_all(saw: dict[str, Any]) -> None:
    assert saw["missing"] == [[], [], [], []]
    assert saw["kind"] == "wireguard"
    assert saw["pings"] == [True] * 12


def test_applying_again_loses_no_packet(saw: dict[str, Any]) -> None:
    assert saw["answered"] > 20
    assert saw["lost"] == 0


def test_it_goes_and_comes_and_tells_who_has_its_port(saw: dict[str, Any]) -> None:
    assert "vpn" not in saw["after"]
    assert saw["taken"].startswith(
        "wireguard: Could not bring up interface vpn: Address already in use: "
        "UDP port 51820 is taken by python3 (process "
    )
    assert (saw["again"], saw["back"]) == ([], True)


def test_an_open_connection_outlives_its_controller_which_comes_back(saw: dict[str, Any]) -> None:
    carried = saw["carried"]
    said = carried["said"]
    sys.stderr.write("".join(f"\n{what}: {seen}" for what, seen in carried.items()))
    assert (carried["before"], carried["dead before"]) == (True, {})

    assert (carried["without"], carried["mended"]) == (True, True)
    assert carried["dead"] == {each: ["server2"] for each in ("server1", "laptop1", "laptop2")}
    assert 0.5 < carried["silence"] < 15
    for laptop in ("laptop1", "laptop2"):
        assert "; server1 carries server2's addresses\n" in said[laptop]

    assert (carried["returned"], carried["after"], carried["as before"]) == (True, True, True)
    assert carried["silence of return"] < 5
    for laptop in ("laptop1", "laptop2"):
        assert said[laptop].endswith("; each controller carries its own addresses\n")
