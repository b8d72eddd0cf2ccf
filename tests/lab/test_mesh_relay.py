"""A relay in the kernel between two symmetric routers, and what breaks it unless it is seen to."""

from __future__ import annotations

import os
import shutil
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.relays import RELAY, RELAY6, WIREGUARD, World, address, rules
from tests.lab.spaces import join

from clan.mesh.agent.firewall import Watch
from clan.mesh.link import Endpoint
from clan.mesh.relay import host, post, table
from clan.mesh.relay.message import Outcome

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab
_SO_NO_CHECK = 11
UNITS = Path(__file__).parent / "programs" / "units"
DOCKER = """\
table ip filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        ct state related,established accept
        iifname "docker0" accept
    }
}
table ip6 filter {
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
    }
}
"""
UFW = """\
table ip filter {
    chain INPUT {
        type filter hook input priority filter; policy drop;
        ct state related,established accept
        udp dport 23600-23663 accept
    }
    chain FORWARD {
        type filter hook forward priority filter; policy drop;
        ct state related,established accept
        reject
    }
}
"""
FIREWALLD = """\
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        ct state invalid drop
        reject with icmpx admin-prohibited
    }
}
"""
LACKING = """\
#!/bin/sh
rules=$(cat)
case "$rules" in
    *"fwd "*) echo "Could not process rule: No such file or directory" >&2; exit 1 ;;
esac
printf %s "$rules" | exec {nft} "$@"
"""
UNTRACKED = """\
table ip raw {
    chain output {
        type filter hook output priority raw;
        udp dport 23600-23663 notrack
    }
}
"""
PUBLISHED = """\
table ip docker {
    chain published {
        type nat hook prerouting priority dstnat;
        udp dport 9999 dnat to 198.51.100.1:9999
    }
}
"""


@pytest.fixture
def world(lab_ready: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    del lab_ready
    daemons = tmp_path / "daemons"
    daemons.mkdir()
    monkeypatch.setenv("PATH", f"{UNITS}:{os.environ['PATH']}")
    monkeypatch.setenv("DAEMONS", str(daemons))
    made = World(tmp_path)
    try:
        yield made
    finally:
        for each in daemons.glob("*.service"):
            os.kill(int(each.read_text()), 9)
        made.remove()


def test_two_behind_symmetric_routers_are_joined(world: World) -> None:
    world.join()
    assert world.passes()
    assert world.one.place(world.other) == world.other.place(world.one)


def test_what_came_before_the_rules_does_not_stay_untranslated(world: World) -> None:
    """WireGuard tries before its agent has registered, and goes on."""
    link = world.one.link(world.other)
    world.one.look(world.other)
    for _ in range(10):
        world.one.send(b"\1 too early", world.one.relaying.endpoints()[link])
        world.wait(0.05)
    world.join()
    assert world.passes()


def test_a_registration_is_answered_while_datagrams_pass(world: World) -> None:
    world.join()
    before = world.flows()
    for _ in range(3):
        assert world.passes()
        world.wait(0.2)
        world.one.look(world.other)
        assert world.one.seat(world.other).outcome is None
        world.drive(lambda: world.one.seat(world.other).outcome is Outcome.READY)
    assert world.flows() == before  # nobody had to come by another port


def test_a_router_that_changes_the_port_is_registered_anew(world: World) -> None:
    world.join()
    assert world.passes()
    before = world.flows()
    world.rebind("r1")
    world.wait(0.2)
    assert not world.passes(tries=2)
    world.one.look(world.other)
    world.drive(lambda: world.flows() != before)
    assert world.passes()


def test_who_was_removed_is_cut_off_at_once(world: World) -> None:
    """While another pair stays, so that the kernel goes on translating."""
    world.join()
    world.join(world.one, world.third)
    assert world.passes()
    kept = {name: node.place(other) for name, node, other in world.ends()}
    world.give(["one", "relay", "third"])
    assert len(world.flows()) == 1
    for _, node, other in world.ends():
        other.heard()
        for _ in range(5):
            node.send(b"\4 still there", kept[node.name])
            world.wait(0.05)
        assert other.heard() == []


def test_a_registration_that_is_played_again_changes_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another place; from the same one; from where it came before the port changed."""
    sent = recorded(monkeypatch)
    world.join()
    before = world.flows()
    for space in ("net", "one"):
        again(world, space, sent)
        assert world.flows() == before
    old = next(leg.endpoint for leg in world.legs() if leg.side[0] == world.one.key.public)
    world.rebind("r1")
    world.wait(0.2)
    world.one.look(world.other)
    world.drive(lambda: world.flows() != before)
    before = world.flows()
    # A member may need a moment to know that somebody plays with its relay.
    rules(world.spaces["r1"], UNTRACKED)
    again(world, "r1", sent, port=old.port)
    assert world.flows() == before
    assert world.passes()


def test_pairs_that_share_a_machine_have_different_ports(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("clan.mesh.relay.seat.first_seat", lambda *_: 5)
    world.join()
    world.join(world.third, world.other)
    assert world.passes()
    assert world.passes(world.third, world.other)
    assert world.one.place(world.other) != world.third.place(world.other)
    world.one.heard()
    assert world.reaches(world.other, world.third)
    assert world.one.heard() == []


@pytest.mark.parametrize("forwards", [True, False])
def test_what_else_is_forwarded_is_let_alone_or_not_begun(world: World, *, forwards: bool) -> None:
    """The relay passes on a port of its own, as Docker does: that is not ours to translate.

    Where it did not forward before, it does not do so now.
    """
    world.relay.space.run(f"sysctl -qw net.ipv4.ip_forward={int(forwards)}")
    world.join()
    assert world.passes()
    rules(world.spaces["relay"], PUBLISHED)
    with world.spaces["net"].inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as heard:
        heard.bind(("198.51.100.1", 9999))
        heard.settimeout(1)
        world.other.send(b"hello", Endpoint(host=RELAY, port=9999))
        if forwards:
            assert heard.recvfrom(99)[1][0] == "192.0.2.2"
        else:
            with pytest.raises(TimeoutError):
                heard.recvfrom(99)


def test_without_its_agent_a_relay_goes_on_and_the_next_one_too(world: World) -> None:
    world.join()
    assert world.passes()
    before = world.flows()
    world.relay.relaying.close()
    world.nodes.remove(world.relay)
    assert world.passes()
    world.relay.start()
    world.nodes.append(world.relay)
    world.relay.settle(world.held, world.records)
    assert world.flows() == before
    assert world.passes(tries=1)
    world.give(["one", "relay", "third"])
    assert world.flows() == []


@pytest.mark.parametrize("rules_", [DOCKER, UFW, FIREWALLD], ids=["docker", "ufw", "firewalld"])
def test_others_rules_for_what_is_forwarded_are_not_asked(world: World, rules_: str) -> None:
    rules(world.spaces["relay"], rules_)
    world.join()
    assert world.passes()
    assert world.pumped() == 0


def test_where_the_kernel_cannot_a_program_passes_on(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one without the part that puts packets into an interface, which nft then says."""
    lacking = tmp_path / "bin" / "nft"
    lacking.parent.mkdir()
    lacking.write_text(LACKING.format(nft=shutil.which("nft")))
    lacking.chmod(0o755)
    monkeypatch.setenv("PATH", f"{lacking.parent}:{os.environ['PATH']}")
    world.join()
    world.drive(lambda: world.passes(tries=1))
    assert world.pumped() == 1
    assert sum("a program does" in line for line in world.relay.said) == 1
    world.relay.relaying.close()
    world.nodes.remove(world.relay)
    assert world.passes()
    host.end(world.relay.folder)
    host.end(world.relay.folder)  # twice is no fault
    assert not world.passes(tries=2)


@pytest.mark.parametrize("six", [False, True], ids=["IPv4", "IPv6"])
def test_what_comes_in_fragments_is_put_together(world: World, *, six: bool) -> None:
    if six:
        for node in (world.one, world.other):
            world.have_ipv6(node, alone=True)
        world.give([node.name for node in world.nodes])
    world.join()
    assert world.passes()
    assert world.pumped() == 0
    data = os.urandom(2500)

    def arrives() -> bool:
        world.one.send(data, world.one.place(world.other))
        world.wait(0.05)
        return data in world.other.heard()

    world.drive(arrives)
    assert world.pumped() == 1
    assert world.passes()


def test_what_has_no_checksum_arrives(world: World) -> None:
    world.join()
    world.one.wireguard.setsockopt(socket.SOL_SOCKET, _SO_NO_CHECK, 1)
    assert world.reaches(world.one, world.other)


def test_rules_that_are_written_anew_are_not_taken_for_gone(world: World) -> None:
    with world.relay.space.inside():
        watch = Watch(table.TABLE)
    world.join()
    assert not watch.gone()
    world.give(["one", "relay", "third"])
    assert world.flows() == []
    assert not watch.gone()
    world.relay.space.run("nft flush ruleset")
    assert watch.gone()
    watch.close()


def test_another_gateway_is_taken(world: World) -> None:
    world.join()
    assert world.passes()
    relay, net = world.relay.space, world.spaces["net"]
    net.run("ip addr del 203.0.113.1/24 dev relay")
    address(net, "relay", "203.0.113.7/24")
    relay.run("ip route replace default via 203.0.113.7")
    relay.run("ip neigh flush all")
    world.relay.settle(world.held, world.records)
    assert world.passes()


def test_an_uplink_that_was_made_anew_passes_on_again(world: World) -> None:
    world.join()
    assert world.passes()
    relay, net = world.relay.space, world.spaces["net"]
    relay.run("ip link del eth0")
    join(net, "relay", relay, "eth0")
    address(net, "relay", "203.0.113.1/24")
    address(relay, "eth0", f"{RELAY}/24", "203.0.113.1")
    world.relay.settle(world.held, world.records)
    assert world.passes()
    assert world.pumped() == 0


def test_one_with_ipv4_and_one_with_ipv6_are_joined(world: World) -> None:
    world.have_ipv6(world.other, alone=True)
    world.give([node.name for node in world.nodes])
    world.join()
    assert world.one.place(world.other).host == RELAY
    assert world.other.place(world.one).host == RELAY6
    assert world.passes()


def test_two_with_ipv6_meet_there_and_in_the_kernel(world: World) -> None:
    world.have_ipv6(world.one, alone=False)
    world.have_ipv6(world.other, alone=True)
    world.give([node.name for node in world.nodes])
    world.join()
    assert world.passes()
    assert world.pumped() == 0


def test_a_machine_offers_itself_when_a_member_elsewhere_reached_it(world: World) -> None:
    for node in world.nodes:
        node.relaying.keep({"one", "other"} - {node.name})
    world.drive(lambda: world.relay.relaying.places)
    hosts = {place.host for place in world.relay.relaying.places}
    assert hosts & {RELAY, RELAY6}
    world.wait(3)
    assert world.one.relaying.places == ()  # behind a router that lets nothing in


def test_a_machine_that_waits_has_the_other_called(world: World) -> None:
    world.one.look(world.other)
    world.drive(lambda: world.one.ready(world.other) and world.other.ready(world.one))
    assert world.other.relaying.called[0] == "one"
    assert world.passes()


def recorded(monkeypatch: pytest.MonkeyPatch) -> list[bytes]:
    """Note each datagram that is sent."""
    sent = []
    send = post.send

    def noted(data: bytes, **more: Any) -> None:
        sent.append(data)
        send(data, **more)

    monkeypatch.setattr(post, "send", noted)
    return sent


def again(world: World, space: str, sent: list[bytes], port: int = WIREGUARD) -> None:
    """Send what was sent once more, from a space, to the port of the flow."""
    place = world.one.place(world.other)
    with world.spaces[space].inside():
        for data in list(sent):
            post.send(data, port=port, to=place)
    world.wait(0.3)
