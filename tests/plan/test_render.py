"""From resources to what is sent: the same bytes each time, and no two wishes at one place."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from clan.errors import ClanError
from clan.model.exports import Var
from clan.model.plan import (
    AuthorizedKey,
    File,
    Forwarding,
    HostName,
    MachinePlan,
    Opening,
    Package,
    Protocol,
    Resource,
    Sysctl,
    Unit,
    User,
)
from clan.plan.render import Generation, render

SECRET = Var(machine="nas", generator="keys", file="private")


def rendered(**instances: tuple[Resource, ...]) -> Generation:
    plan = MachinePlan(machine="nas", full_name="nas.family", resources=instances)
    return render(plan, lambda var: f"age: {var.generator}/{var.file}".encode())


EVERYTHING: tuple[Resource, ...] = (
    Package(name="tree"),
    Package(name="age"),
    Package(name="tree"),
    File(path="/etc/motd", content=b"hello\n"),
    File(path="/etc/key", content=SECRET, mode=0o400, owner="daemon", group="daemon"),
    Unit(name="motd.service", text="[Service]\n", restart_on=("/etc/motd", "/etc/key")),
    Unit(name="later.service", text="[Service]\n", start=False),
    User(name="motd"),
    Opening(protocol=Protocol.TCP, port=22),
    Opening(protocol=Protocol.UDP, port=51820, interface="eth0"),
    Forwarding(interface="vpn"),
    HostName(name="vps.vpn", addresses=("fd00::1", "10.0.0.1")),
    HostName(name="nas.vpn", addresses=("fd00::1",)),
    Sysctl(key="net.ipv6.conf.all.forwarding", value="1"),
    AuthorizedKey(key="ssh-ed25519 AAAA admin"),
)


def test_a_generation_is_all_that_the_machine_gets() -> None:
    generation = rendered(motd=EVERYTHING)
    manifest = generation.manifest
    assert manifest["packages"] == ["age", "tree"]
    assert manifest["hosts"] == [["fd00::1", ["vps.vpn", "nas.vpn"]], ["10.0.0.1", ["vps.vpn"]]]
    assert [file.get("secret") for file in manifest["files"]] == [None, "keys.private"]
    assert generation.files["files/etc/motd"] == b"hello\n"
    assert generation.files["secrets/keys.private.age"] == b"age: keys/private"
    assert generation.files["start"] == b"motd.service\n"
    assert generation.files["hash"] == f"{generation.hash}\n".encode()
    assert json.loads(generation.files["manifest.json"]) == json.loads(json.dumps(manifest))


def test_two_runs_give_the_same_bytes() -> None:
    """In another process too, whose hashes of strings differ."""
    program = (
        "from tests.plan.test_render import EVERYTHING, rendered\n"
        "print(rendered(motd=EVERYTHING).hash)"
    )
    hashes = {
        subprocess.run(
            [sys.executable, "-c", program],
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": "src:."},
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert hashes == {rendered(motd=EVERYTHING).hash}


@pytest.mark.parametrize(
    "changed",
    [
        File(path="/etc/motd", content=b"bye\n"),
        File(path="/etc/motd", content=b"hello\n", mode=0o600),
        Unit(name="motd.service", text="[Unit]\n"),
        Package(name="htop"),
        HostName(name="vps.vpn", addresses=("fd00::2",)),
        Opening(protocol=Protocol.TCP, port=23),
        Sysctl(key="net.ipv6.conf.all.forwarding", value="0"),
    ],
)
def test_every_change_makes_another_generation(changed: Resource) -> None:
    others = tuple(item for item in EVERYTHING if type(item) is not type(changed))
    assert rendered(motd=(*others, changed)).hash != rendered(motd=EVERYTHING).hash


def test_a_unit_runs_again_when_what_it_reads_changes() -> None:
    def stamp(text: bytes, read: tuple[str, ...]) -> str:
        unit = Unit(name="motd.service", text="[Service]\n", restart_on=read)
        manifest = rendered(motd=(File(path="/etc/motd", content=text), unit)).manifest
        return str(manifest["units"][0]["stamp"])

    assert stamp(b"one", ("/etc/motd",)) != stamp(b"two", ("/etc/motd",))
    assert stamp(b"one", ()) == stamp(b"two", ())


@pytest.mark.parametrize(
    ("one", "other", "said"),
    [
        (
            File(path="/etc/motd", content=b"one"),
            File(path="/etc/motd", content=b"two"),
            "file /etc/motd",
        ),
        (
            Unit(name="motd.service", text="one"),
            Unit(name="motd.service", text="two"),
            "unit motd.service",
        ),
        (User(name="motd", home="/one"), User(name="motd", home="/two"), "user motd"),
    ],
)
def test_two_instances_that_contradict_each_other_are_named(
    one: Resource, other: Resource, said: str
) -> None:
    with pytest.raises(ClanError) as caught:
        rendered(first=(one,), second=(other,))
    message = str(caught.value)
    assert "'first' and 'second'" in message
    assert said in message
    assert message.startswith("nas: ")
    assert rendered(first=(one,), second=(one,)).hash == rendered(first=(one,)).hash


def test_the_firewall_opens_what_is_asked_and_forwards_inside_alone() -> None:
    assert (
        rendered(motd=EVERYTHING).manifest["nftables"]
        == """\
table inet clan {
	chain input {
		type filter hook input priority filter;
		tcp dport 22 accept
		iifname "eth0" udp dport 51820 accept
	}
	chain forward {
		type filter hook forward priority filter;
		iifname "vpn" oifname "vpn" accept
		iifname "vpn" drop
		oifname "vpn" drop
	}
}
"""
    )
    assert rendered(motd=(Package(name="tree"),)).manifest["nftables"] == ""
