"""Links between two machines over wireguard-go: what the mesh does with them."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import struct
import threading
import time
from ipaddress import ip_address, ip_network
from typing import TYPE_CHECKING

import pytest
from tests.lab.links import PROBES, Ends, answered, private, two_machines, until

from clan.mesh.agent import marks, probes
from clan.mesh.agent.kernel import Events
from clan.mesh.agent.rtnetlink import Interface, Route
from clan.mesh.agent.wireguard import Change, Endpoint, fingerprint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.lab.links import End

    from clan.mesh.agent.probes import Prober

pytestmark = pytest.mark.lab

# firewalld's (IPv6_rpfilter=yes) and NixOS's way to be strict.
STRICT = """\
table inet strict {
    chain in {
        type filter hook prerouting priority -290;
        fib saddr . mark . iif oif missing counter drop
    }
}
"""


@pytest.fixture
def ends(lab_ready: None) -> Iterator[Ends]:
    del lab_ready
    with two_machines() as made:
        made.start()
        yield made


@contextlib.contextmanager
def probers(*ends: End) -> Iterator[list[Prober]]:
    made = [end.prober() for end in ends]
    yield made
    for each in made:
        each.close()


def talk(ends: Ends, uplink: str) -> bool:
    here, there = ends[0, uplink], ends[1, uplink]
    with probers(here, there) as (one, other):
        return answered(one, other, there.inner)


def test_an_interface_is_what_it_was_told_to_be(ends: Ends) -> None:
    own, peer = ends[0, "eth0"], ends[1, "eth0"]
    own.wireguard.configure(private=own.private, port=51007, mark=marks.mark(3))
    device = own.wireguard.read()
    assert (device.port, device.mark, device.key) == (
        51007,
        marks.mark(3),
        fingerprint(own.private),
    )
    assert own.private.hex() not in repr(device)
    addresses = [each for each in own.kernel.addresses() if each.index == own.index]
    assert [each.address.ip for each in addresses] == [own.inner]  # none of its own making
    (key,) = device.peers
    seen = device.peers[key]
    assert key == peer.public
    assert (seen.endpoint, seen.handshake, seen.keepalive) == (peer.outer, 0, 0)
    assert seen.allowed == {ip_network(peer.inner), ip_network(peer.stable)}
    # Something of a peer is changed, and nothing else of it.
    elsewhere = Endpoint(ip_address("fe80::9"), 7, own.kernel.interface("eth0").index)  # type: ignore[union-attr]
    with own.space.inside():
        own.wireguard.change([Change(key=key, endpoint=elsewhere, keepalive=25)])
        seen = own.wireguard.read().peers[key]
    assert (seen.endpoint, seen.keepalive, len(seen.allowed)) == (elsewhere, 25, 2)
    own.wireguard.change([Change(key=key, remove=True)])
    # One that was removed does not come back by a change that was meant for the old one.
    own.wireguard.change([Change(key=key, endpoint=peer.outer)])
    assert own.wireguard.read().peers == {}
    own.wireguard.change(
        Change(key=private(), allowed=frozenset({ip_network((0xFDCC << 112 | each, 128))}))
        for each in range(300)
    )
    assert len(own.wireguard.read().peers) == 300


def test_each_link_is_probed_by_itself_and_says_when(ends: Ends) -> None:
    for uplink in ("eth0", "wlan0"):
        assert talk(ends, uplink)
    device = ends[0, "eth0"].wireguard.read()
    (peer,) = device.peers.values()
    assert time.time() - 30 < peer.handshake <= time.time()
    assert peer.received > 0
    assert peer.sent > 0
    here, there = ends[0, "eth0"], ends[1, "eth0"]
    with probers(here, there) as (one, other):
        sent = time.monotonic()
        one.send(b"late", str(there.inner))
        time.sleep(0.5)  # the agent was busy
        (heard,) = other.receive()
        assert heard.source == str(here.inner)
        assert 0 <= heard.at - sent < 0.25


def test_a_cut_link_says_nothing_and_the_other_goes_on(ends: Ends) -> None:
    assert talk(ends, "eth0")
    ends[1, "wlan0"].space.run("ip link set wlan0 down")
    here, there = ends[0, "wlan0"], ends[1, "wlan0"]
    with probers(here, there) as (one, other):
        for _ in range(5):
            one.send(b"probe", str(there.inner))
        time.sleep(0.5)
        assert other.receive() == []
    assert talk(ends, "eth0")


def test_a_probe_to_the_stable_address_needs_a_route_and_one_inside_the_link_does_not(
    ends: Ends,
) -> None:
    here, there = ends[0, "wlan0"], ends[1, "wlan0"]
    # The path is the other link.
    path = Route(to=ip_network(there.stable), index=ends[0, "eth0"].index, source=here.stable)
    here.kernel.set_route(path)
    with here.space.inside(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, here.name.encode())
        with pytest.raises(OSError) as refused:  # noqa: PT011 (its number follows)
            bound.sendto(b"probe", (str(there.stable), PROBES))
    assert refused.value.errno == errno.ENETUNREACH
    assert talk(ends, "wlan0")


def test_strict_reverse_path_filters_let_probes_of_a_standby_pass(ends: Ends) -> None:
    here, there = ends[0, "wlan0"], ends[1, "wlan0"]
    for machine in (0, 1):
        end, other = ends[machine, "eth0"], ends[1 - machine, "eth0"]
        end.kernel.set_route(Route(to=ip_network(other.stable), index=end.index, source=end.stable))
    with there.space.inside():
        nft(STRICT)
    assert talk(ends, "wlan0")
    # What goes to the stable address is dropped there on a link that is not the path.
    with there.space.inside():
        listening = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
        listening.bind((str(there.stable), PROBES + 1))
        listening.settimeout(1)
    here.kernel.set_route(Route(to=ip_network(there.stable), index=here.index, source=here.stable))
    with here.space.inside(), socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sender:
        sender.sendto(b"probe", (str(there.stable), PROBES + 1))
        with pytest.raises(TimeoutError):
            listening.recv(9)
        there.kernel.set_route(
            Route(to=ip_network(here.stable), index=there.index, source=there.stable)
        )
        sender.sendto(b"probe", (str(there.stable), PROBES + 1))
        assert listening.recv(9) == b"probe"
    listening.close()


def test_a_daemon_that_died_comes_back_to_its_interface(ends: Ends) -> None:
    own, peer = ends[0, "eth0"], ends[1, "eth0"]
    own.kernel.set_route(Route(to=ip_network(peer.stable), index=own.index, source=own.stable))
    assert talk(ends, "eth0")
    with own.space.inside():
        events = Events()
    own.stop_daemon()
    told = until(
        lambda: [
            each
            for each in events.read()
            if isinstance(each.what, Interface) and each.what.name == own.name
        ]
    )
    events.close()
    assert isinstance(told[-1].what, Interface)
    assert not told[-1].what.carrier
    routes = own.kernel.routes(protocol=193)
    assert [route.to for route in routes] == [ip_network(peer.stable)]
    own.start()
    own.configure()
    own.meet(peer)
    assert own.kernel.routes(protocol=193) == routes
    assert talk(ends, "eth0")


def test_what_has_to_be_cut_into_fragments_goes_by_the_link(ends: Ends) -> None:
    """As by an overlay with an MTU of 1280: the kernel takes no batch of such datagrams."""
    for own, peer in ((ends[0, "eth0"], ends[1, "eth0"]), (ends[1, "eth0"], ends[0, "eth0"])):
        own.space.run("ip link set eth0 mtu 1280")
        own.kernel.set_mtu(own.index, 1400)
        own.kernel.set_route(Route(to=ip_network(peer.stable), index=own.index, source=own.stable))
    assert talk(ends, "eth0")
    sent = os.urandom(4 << 20)
    with ends[1, "eth0"].space.inside():
        listening = socket.create_server(("::", 7), family=socket.AF_INET6)
    with ends[0, "eth0"].space.inside():
        sender = socket.create_connection((str(ends[1, "eth0"].stable), 7))
    receiver, _ = listening.accept()
    receiver.settimeout(20)

    def send() -> None:
        with contextlib.closing(sender):
            sender.sendall(sent)

    threading.Thread(target=send, daemon=True).start()
    came = bytearray()
    end = time.monotonic() + 20
    while part := receiver.recv(1 << 16):
        came += part
        assert time.monotonic() < end  # one datagram of a batch alone comes in two minutes
    assert came == sent
    receiver.close()
    listening.close()


def test_a_peer_that_is_made_anew_shakes_hands_at_once(ends: Ends) -> None:
    """WireGuard sends a lost initiation again after 5 s."""
    own, peer = ends[0, "eth0"], ends[1, "eth0"]
    for anew, seconds in ((False, 3.0), (True, 0.0)):
        nowhere = Endpoint(ip_address("192.0.2.77"), 9)
        own.wireguard.change([Change(key=peer.public, endpoint=nowhere, remove=True)])
        own.meet(peer)
        own.wireguard.change([Change(key=peer.public, endpoint=nowhere)])
        with probers(own, peer) as (one, other):
            one.send(b"first", str(peer.inner))  # its initiation goes nowhere
            time.sleep(0.3)
            own.meet(peer, fresh=anew)
            begun = time.monotonic()
            until(lambda o=one, p=peer, q=other: _sent(o, p, q))  # type: ignore[misc]
            took = time.monotonic() - begun
        assert took >= seconds
        assert not anew or took < 2.5


def _sent(one: Prober, peer: End, other: Prober) -> bool:
    one.send(b"again", str(peer.inner))
    time.sleep(0.05)
    return bool(other.receive())


def initiation(end: End, begin: Callable[[], object]) -> bytes:
    """Sniff WireGuard's first message to an end, as anyone on its LAN could."""
    ETH_P_IP = 0x0800  # noqa: N806
    with (
        end.space.inside(),
        socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(ETH_P_IP)) as tap,
    ):
        tap.bind((end.uplink, ETH_P_IP))
        tap.settimeout(10)
        begin()
        while True:
            packet = tap.recv(2000)
            (port,) = struct.unpack_from("!H", packet, 22)
            payload = packet[28:]
            if (
                packet[9] == socket.IPPROTO_UDP
                and port == end.outer.port
                and payload[:1] == b"\x01"
            ):
                return payload


@pytest.mark.parametrize("shared", [True, False])
def test_an_initiation_of_one_link_moves_no_other_as_each_has_its_own_key(
    lab_ready: None, *, shared: bool
) -> None:
    """With one key on all links, as is usual, the attacker gets the link."""
    del lab_ready
    common = [private(), private()]
    with two_machines((lambda machine, _: common[machine]) if shared else None) as ends:
        ends.start()
        for uplink in ("eth0", "wlan0"):
            assert talk(ends, uplink)
        own, peer = ends[0, "eth0"], ends[1, "eth0"]

        def begin() -> None:
            own.meet(peer, fresh=True)
            with probers(own) as (one,):
                one.send(b"probe", str(peer.inner))

        sniffed = initiation(peer, begin)
        other = ends[1, "wlan0"]
        with own.space.inside(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as attacker:
            attacker.bind(("198.51.100.1", 6666))
            attacker.settimeout(1)
            attacker.sendto(sniffed, (str(other.outer.address), other.outer.port))
            with contextlib.suppress(TimeoutError):
                attacker.recv(2000)
        (seen,) = other.wireguard.read().peers.values()
        assert seen.endpoint is not None
        assert (seen.endpoint.port == 6666) is shared


@pytest.mark.parametrize("address", ["198.51.100.2", "2001:db8::2"])
def test_holes_are_opened_from_wireguards_own_port_by_its_uplink(ends: Ends, address: str) -> None:
    own, peer = ends[0, "wlan0"], ends[1, "wlan0"]
    for machine in (0, 1):
        ends[machine, "wlan0"].space.run(f"ip addr add 2001:db8::{machine + 1}/64 dev wlan0")
    with peer.space.inside():
        listening = socket.socket(
            socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_DGRAM
        )
        listening.bind((address, 5555))
        listening.settimeout(5)
    with own.space.inside():
        to = Endpoint(ip_address(address), 5555)
        nobody = Endpoint(ip_address("203.0.113.1"), 9)
        failed = probes.open_holes(own.outer.port, marks.mark(2), [nobody, to], b"open")
    assert len(failed) == 1
    assert failed[0].startswith("203.0.113.1: Network is unreachable")
    data, source = listening.recvfrom(99)
    assert (data, source[1]) == (b"open", own.outer.port)
    # The mark leads it: without a table for it there is no way.
    own.kernel.settle_rules(marks.rules({marks.mark(2): 9}))
    own.kernel.settle_routes(
        [
            Route(to=ip_network(each), table=marks.table(9), kind=7)
            for each in ("::/0", "0.0.0.0/0")
        ],
        table=marks.table(9),
    )
    with own.space.inside():
        assert len(probes.open_holes(own.outer.port, marks.mark(2), [to], b"open")) == 1
    listening.close()
    assert talk(ends, "wlan0")


def nft(text: str) -> None:
    import subprocess

    subprocess.run(["nft", "-f", "-"], input=text, text=True, check=True)
