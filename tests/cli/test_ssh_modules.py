"""`clan ssh` with networks whose code is not ours, and does what it should not."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.cli.family import Family
    from tests.sshd import Sshd


def test_a_network_module_that_crashes_costs_only_itself(family: Family, nas: Sshd) -> None:
    family.write(internet=(2000, nas.port))
    family.knows(nas.key)
    (family.folder / "modules").mkdir()
    (family.folder / "modules/carrier.py").write_text(CRASHING)
    with (family.folder / "clan.toml").open("a") as file:
        file.write("[instances.carrier.roles.default.machines.nas]\n")
    done = family.ssh("--explain", "nas", "echo in")
    assert done.stdout == "in\n"
    assert "crashed: ZeroDivisionError" in done.stderr
    pinged = family.run("network", "ping", "nas")
    assert "crashed: ZeroDivisionError" in pinged.stdout
    listed = family.run("network", "list")
    assert listed.returncode == 0
    assert "carrier   9000      carrier   ?        nas" in listed.stdout
    assert "carrier: crashed: ZeroDivisionError" in listed.stderr


def test_a_network_that_knows_one_address_is_not_asked_for_it_again(
    family: Family, nas: Sshd, impostor: Sshd
) -> None:
    family.write()
    family.knows(nas.key)
    (family.folder / "modules").mkdir()
    head, _, tail = CRASHING.partition("        return 1 / 0\n\n\nclass module")
    dial = f"""
        sock = socket.create_connection(("127.0.0.1", {impostor.port}))
        sock.setblocking(False)
        return Connection(sock=sock, address="there", rtt=0.0)


class module"""
    imports = "import socket\nfrom clan.networks.technology import Connection\n"
    (family.folder / "modules/carrier.py").write_text(imports + head + dial + tail)
    with (family.folder / "clan.toml").open("a") as file:
        file.write("[instances.carrier.roles.default.machines.nas]\n")
    done = family.ssh("nas", "echo in")
    assert (done.stdout, done.returncode) == ("", 255)
    assert done.stderr.count("warning: there on network carrier is not nas") == 1
    assert "carrier  set aside: there showed another host key, or none" in done.stderr


CRASHING = """
import contextlib

from clan.model.exports import Exports, Networking, Peer
from clan.model.module import Module, Role
from clan.networks.technology import NetworkTechnology, Session, Throughput, Traits


class Carrier(NetworkTechnology):
    traits = Traits(throughput=Throughput.HIGH)

    def running(self, network, context):
        return 1 / 0

    def patience(self, route):
        return 1 / 0

    @contextlib.asynccontextmanager
    async def session(self, network, context):
        yield Crashing()


class Crashing(Session):
    async def dial(self, route, aim):
        return 1 / 0


class module(Module):
    name = "carrier"
    description = "Crashes."
    roles = {"default": Role(description="Anyone.")}

    def exports(self, instance, clan):
        peers = {name: Peer(name=name, hosts=("x",)) for name in instance.members["default"]}
        return Exports(networking=Networking(priority=9000, technology=":Carrier", peers=peers))
"""
