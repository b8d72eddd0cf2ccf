"""Streams on TCP 443 between machines that get nothing else out, and who cannot disturb them."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest
from tests.lab.links import until
from tests.lab.stations import Station, Trio, trio
from tests.mesh.signers import machine, signed

from clan.mesh.chart.content import Content
from clan.mesh.link import Endpoint
from clan.mesh.tls import certificate, frames, opening, transport
from clan.mesh.tls.frames import HEAD, Batch
from clan.mesh.tls.stream import Stream
from clan.mesh.tls.wants import Listen

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

ONLY_443 = """\
table inet only {
    chain out {
        type filter hook output priority 0; policy drop;
        oifname "lo" accept
        oifname "wg*" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        tcp dport 443 accept
    }
    chain in {
        type filter hook input priority 0; policy drop;
        iifname "lo" accept
        iifname "wg*" accept
        icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept
        ct state established accept
    }
}
"""


@pytest.fixture
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with a short name: that of a socket has 107 bytes at most."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture
def three(lab_ready: None, folder: Path) -> Iterator[Trio]:
    del lab_ready
    with trio(folder) as made:
        made.want()
        yield made


def wall(station: Station) -> None:
    with station.space.inside():
        subprocess.run(["nft", "-f", "-"], input=ONLY_443.encode(), check=True)


def stream_to(station: Station, name: str) -> dict[str, Any]:
    found: dict[str, Any] = next(
        each for each in station.ask()["streams"] if each["machine"] == name
    )
    return found


def test_machines_that_get_only_tcp_443_out_talk(three: Trio) -> None:
    for each in (three.one, three.other):
        wall(each)
    three.start()
    three.make_wireguard()
    for one, other in (
        (three.one, three.other),
        (three.one, three.relay),
        (three.relay, three.other),
    ):
        assert until(lambda o=one, p=other: o.pings(p))  # type: ignore[misc]
        assert other.pings(one)
    # What is in the stream is what WireGuard sealed: it came from those keys alone.
    assert three.one.wireguard is not None
    seen = three.one.wireguard.read().peers[three.other.public]
    assert seen.received > 0


def test_a_removed_machine_is_cut_off_at_once_and_comes_no_more(three: Trio) -> None:
    three.start()
    three.make_wireguard()
    assert until(lambda: three.one.pings(three.other))
    assert until(lambda: three.relay.pings(three.other))
    before = stream_to(three.relay, "nas")["seconds"]
    left = Content(machines=tuple(machine(name) for name in ("nas", "vps")))
    three.relay.give(signed(left, after=[three.chart]))
    begun = time.monotonic()
    until(lambda: not three.relay.has_stream("laptop"))
    assert time.monotonic() - begun < 2
    assert not three.one.pings(three.other)
    # It goes on calling, as nobody has told it, and is told nothing.
    until(lambda: three.one.ask()["calls"][0]["fault"])
    time.sleep(2)
    assert not three.relay.has_stream("laptop")
    assert stream_to(three.relay, "nas")["seconds"] > before + 2
    assert three.relay.pings(three.other)


def test_a_relay_that_was_removed_is_left_at_once(three: Trio) -> None:
    three.start()
    left = Content(machines=tuple(machine(name) for name in ("laptop", "nas")))
    three.one.give(signed(left, after=[three.chart]))
    until(lambda: not three.one.ask()["streams"])
    assert three.one.ask()["calls"] == []
    assert three.other.has_stream("vps")


@pytest.mark.parametrize("number", [signal.SIGSTOP, signal.SIGKILL])
def test_an_agent_that_hangs_or_dies_ends_no_stream(three: Trio, number: signal.Signals) -> None:
    three.start()
    three.make_wireguard()
    assert until(lambda: three.one.pings(three.other))
    seconds = stream_to(three.one, "vps")["seconds"]
    agents = [agent_of(each) for each in three.all]
    try:
        for each in agents:
            each.send_signal(number)
        # A map comes by the processes that take it in, not by the agent.
        assert three.one.pings(three.other, 5)
        assert stream_to(three.one, "vps")["seconds"] > seconds
        left = Content(machines=tuple(machine(name) for name in ("nas", "vps")))
        three.relay.give(signed(left, after=[three.chart]))
        until(lambda: not three.relay.has_stream("laptop"))
    finally:
        for each in agents:
            each.kill()
            each.wait()


def agent_of(station: Station) -> subprocess.Popen[bytes]:
    """The agent itself, of the same instance."""
    words = [sys.executable, "-m", "clan.mesh", "--root", str(station.folder), "run", "home"]
    with (station.folder / "agent.log").open("ab") as log:
        started = subprocess.Popen(
            ["ip", "netns", "exec", station.space.name, *words],
            stderr=log,
            stdout=log,
            env=os.environ | {"PATH": "/usr/sbin:/usr/bin"},
        )
    until((station.folder / "run/clan/mesh-home.sock").exists)
    return started


def test_the_process_begins_anew_and_wireguard_notices_nothing(three: Trio) -> None:
    three.start()
    three.make_wireguard()
    assert until(lambda: three.one.pings(three.other))
    assert three.one.wireguard is not None
    endpoint = three.one.wireguard.read().peers[three.other.public].endpoint
    for each in (three.one, three.relay):
        each.stop()
        each.start()
        assert until(lambda: three.one.pings(three.other))
    assert three.one.wireguard.read().peers[three.other.public].endpoint == endpoint


def test_what_is_wanted_changes_while_streams_stay(three: Trio) -> None:
    three.start()
    three.make_wireguard()
    three.one.want(slots=(three.one.slot(three.relay),))
    until(lambda: not three.one.pings(three.other))
    assert three.one.pings(three.relay)
    seconds = stream_to(three.one, "vps")["seconds"]
    three.one.want(slots=(three.one.slot(three.relay, three.other),))
    assert until(lambda: three.one.pings(three.other))
    assert stream_to(three.one, "vps")["seconds"] > seconds
    (three.one.state / "tls.json").write_text("{}")
    assert until(lambda: three.one.ask()["faults"])
    assert three.one.pings(three.other)
    three.one.want(slots=())
    until(lambda: not three.one.ask()["streams"])


def test_a_place_that_is_not_there_yet_is_taken_when_it_is(three: Trio) -> None:
    three.relay.want(listen=(Listen(place=Endpoint(host="203.0.113.9", port=443)),))
    there = (Endpoint(host="203.0.113.9", port=443),)
    three.one.space.run(f"ip route add default via {three.outside(three.one)}")
    three.one.want(relays=(three.relay_for(three.one, places=there),))
    for each in (three.one, three.relay):
        each.start()
    assert "203.0.113.9 port 443" in until(lambda: three.relay.ask()["faults"])[0]
    three.relay.space.run("ip addr add 203.0.113.9/32 dev lo")
    until(lambda: three.relay.has_stream("laptop"), 60)
    assert three.relay.ask()["faults"] == []
    # And a machine that is no relay any more carries nobody.
    three.relay.want(listen=())
    until(lambda: not three.relay.ask()["streams"])


def test_another_certificate_than_the_map_has_is_no_relay(three: Trio) -> None:
    wrong = three.relay_for(three.one, certificate=hashlib.sha256(b"another").digest())
    three.one.want(relays=(wrong,))
    for each in three.all:
        each.start()
    fault = until(lambda: three.one.ask()["calls"][0]["fault"])
    assert fault
    until(lambda: "another certificate" in three.one.ask()["calls"][0]["fault"])
    assert not three.relay.has_stream("laptop")


def greeted(three: Trio, station: Station) -> Stream:
    """A stream that a program of a member's own makes."""
    relay = three.relay_for(station)
    context = certificate.calling(pinned=True)
    with station.space.inside():
        made = socket.create_connection((three.outside(station), 443))
    made.setblocking(False)
    opened = opening.Opening(
        made,
        transport.scratch(),
        lambda t, b: opening.calls(
            t, b, key=station.key, slot=station.port.id, relay=relay, tunnel=None, context=context
        ),
        time.monotonic(),
        called=True,
    )
    until(opened.turn)
    assert opened.port is not None
    return Stream(opened.transport, opened.port, 0)


def test_a_member_that_sends_garbage_loses_its_stream_and_nobody_else_does(three: Trio) -> None:
    for each in (three.other, three.relay):
        each.start()
    until(lambda: three.relay.has_stream("nas"))
    three.other.make_wireguard([three.relay])
    three.relay.make_wireguard([three.other])
    assert until(lambda: three.relay.pings(three.other))
    before = stream_to(three.relay, "nas")["seconds"]
    for garbage in (
        b"\xff" * 20000,
        frames._HEAD.pack(1, 0, 0),
        frames.said(frames.Kind.HERE, b"x"),
        bytes(range(256)) * 400,
    ):
        stream = greeted(three, three.one).transport
        until(lambda: three.relay.has_stream("laptop"))
        stream.write(garbage)
        with contextlib.suppress(OSError):
            stream.flush()
        until(lambda: not three.relay.has_stream("laptop"))
        stream.close()
    # Frames to whom it was not told of, or with no kind that there is, reach nobody.
    stream = greeted(three, three.one).transport
    for number in (0, 99, 1 << 31):
        batch = Batch(bytearray(HEAD + 64), HEAD, HEAD + 64, 64, number=number)
        stream.write(batch.piece())
    stream.flush()
    time.sleep(0.5)
    assert three.relay.has_stream("laptop")
    assert stream_to(three.relay, "nas")["seconds"] > before
    assert three.relay.pings(three.other)
    stream.close()


def test_strangers_are_told_nothing_and_keep_nobody_out(three: Trio) -> None:
    three.other.start()
    three.relay.start()
    until(lambda: three.relay.has_stream("nas"))
    with contextlib.ExitStack() as stack, three.one.space.inside():
        place = (three.outside(three.one), 443)
        idle = [stack.enter_context(socket.create_connection(place)) for _ in range(200)]
        noisy = stack.enter_context(socket.create_connection(place))
        noisy.sendall(b"\xff" * 1000)
        noisy.settimeout(5)
        with contextlib.suppress(ConnectionResetError):
            assert len(noisy.recv(100)) < 20  # an alert of TLS, at most
            assert noisy.recv(100) == b""
        plain = stack.enter_context(socket.create_connection(place))
        secure = certificate.calling(pinned=True).wrap_socket(plain)
        secure.settimeout(5)
        assert len(secure.recv(100)) == 32
        secure.sendall(os.urandom(132))
        with contextlib.suppress(ConnectionResetError, ssl.SSLError):
            assert secure.recv(100) == b""
        secure.close()
        # Whoever is listed gets in past all of them.
        three.one.start()
        until(lambda: three.relay.has_stream("laptop"))
        assert three.relay.has_stream("nas")
        # And those that say nothing are let go.
        end = time.monotonic() + 3 * opening.PATIENCE
        for each in idle:
            each.settimeout(max(0.1, end - time.monotonic()))
            with contextlib.suppress(ConnectionResetError):
                assert each.recv(1) == b""


def memory(station: Station) -> int:
    """KiB that a process holds."""
    assert station.process is not None
    with open(f"/proc/{station.process.pid}/status", encoding="ascii") as file:  # noqa: PTH123
        return int(next(line.split()[1] for line in file if line.startswith("VmRSS")))


def test_who_reads_nothing_fills_no_memory_and_slows_nobody(three: Trio) -> None:
    three.start()
    three.make_wireguard()
    three.one.stop()
    until(lambda: not three.relay.has_stream("laptop"))
    deaf = greeted(three, three.one)
    until(lambda: three.relay.has_stream("laptop"))
    assert until(lambda: three.relay.pings(three.other))
    before = memory(three.relay)
    three.other.stop()
    flood(three, 6)
    three.other.start()
    assert stream_to(three.relay, "laptop")["dropped"] > 10 << 20
    assert memory(three.relay) - before < 32 << 10
    assert until(lambda: three.relay.pings(three.other, 5))
    deaf.transport.close()


def flood(three: Trio, seconds: float) -> None:
    """Send to the laptop what WireGuard on the nas might, as fast as it goes."""
    sender = greeted(three, three.other)
    to = three.one.port

    def told() -> int | None:
        with contextlib.suppress(BlockingIOError):
            sender.transport.receive()
        assert list(sender.read(0)) is not None
        return sender.numbers.get(to)

    number = until(told)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        batch = Batch(bytearray(HEAD + 14000), HEAD, HEAD + 14000, 1400, number=number or 0)
        sender.transport.write(batch.piece())
        while not sender.transport.flush():
            time.sleep(0.001)
    sender.transport.close()


def test_a_relay_that_falls_silent_is_replaced_within_seconds(
    lab_ready: None, folder: Path
) -> None:
    """Nothing tells that it is gone: its process hangs, the connections stay."""
    del lab_ready
    with trio(folder) as three:
        three.want()
        second = Station("shop", folder / "second", 4, three.relay.space)
        try:
            names = ("laptop", "nas", "shop", "vps")
            chart = signed(Content(machines=tuple(map(machine, names))), after=[three.chart])
            for each in (*three.all, second):
                each.give(chart)
            second.give(three.chart)
            second.want(listen=(Listen(place=Endpoint(host="0.0.0.0", port=8443)),))
            for each in (three.one, three.other):
                fields = {
                    "identity": second.key.public,
                    "certificate": second.certificate,
                    "places": (Endpoint(host=three.outside(each), port=8443),),
                }
                each.want(relays=(three.relay_for(each), three.relay_for(each, **fields)))
            second.start()
            three.start()
            until(lambda: all(second.has_stream(each.name) for each in (three.one, three.other)))
            for each in (three.one, three.other):
                each.make_wireguard([three.other if each is three.one else three.one])
            assert until(lambda: three.one.pings(three.other))
            assert three.relay.process is not None
            three.relay.process.send_signal(signal.SIGSTOP)
            lost = silence(three)
            three.relay.process.send_signal(signal.SIGCONT)
            assert lost < 5 * 2
        finally:
            second.stop()


def silence(three: Trio) -> float:
    """Seconds until a ping every tenth of a second is answered again."""
    begun = time.monotonic()
    until(lambda: three.one.pings(three.other, 1, 0.2), 60)
    return time.monotonic() - begun


def test_the_name_that_is_asked_for_can_be_chosen(three: Trio) -> None:
    with three.relay.space.inside():
        tap = socket.create_server((three.outside(three.one), 443))
    tap.settimeout(10)
    for name in ("www.example.org", ""):
        three.one.want(relays=(three.relay_for(three.one, sni=name),))
        three.one.start()
        came, _ = tap.accept()
        hello = came.recv(4096)
        assert (b"www.example.org" in hello) is bool(name)
        came.close()
        three.one.stop()
    tap.close()
