"""Streams behind a web server, and through a proxy: real ones, as Debian has them."""

from __future__ import annotations

import os
import subprocess
from typing import TYPE_CHECKING

import pytest
from tests.lab.links import until
from tests.lab.stations import Trio, trio
from tests.lab.web import NAME, PROXY_PORT, certified, proxy, site

from clan.mesh.link import Endpoint
from clan.mesh.tls.wants import Listen, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.lab

BEHIND = Endpoint(host="127.0.0.1", port=8443)


@pytest.fixture
def three(lab_ready: None, tmp_path: Path) -> Iterator[Trio]:
    del lab_ready
    with trio(tmp_path) as made:
        made.want()
        yield made


def behind_a_web_server(three: Trio, known: Path) -> None:
    """Everybody finds the relay by the web server's name; only its path leads to the relay."""
    three.relay.want(listen=(Listen(place=BEHIND, web=True),))
    for each in (three.one, three.other):
        relay = three.relay_for(each, certificate=b"", sni=NAME, path="/clan")
        each.want(relays=(relay,))
    os.environ["SSL_CERT_FILE"] = str(known)
    try:
        three.start()
    finally:
        del os.environ["SSL_CERT_FILE"]
    three.make_wireguard()


@pytest.mark.parametrize("server", ["nginx", "caddy"])
def test_one_stanza_of_a_web_server_passes_streams_on(three: Trio, server: str) -> None:
    pem = certified(three.relay.folder)
    with site(three.relay.space, three.relay.folder, server):
        behind_a_web_server(three, pem)
        assert until(lambda: three.one.pings(three.other))
        assert three.relay.pings(three.one)
        # The web site is there as before, and who asks the relay for one gets nothing.
        for path, found in (("", "a web site"), ("clan", "")):
            words = ["curl", "-sk", "--resolve", f"{NAME}:443:{three.outside(three.one)}"]
            page = subprocess.run(
                ["ip", "netns", "exec", three.one.space.name, *words, f"https://{NAME}/{path}"],
                check=True,
                capture_output=True,
                text=True,
            ).stdout
            assert page == found


def test_a_web_server_that_nobody_vouches_for_is_refused(three: Trio) -> None:
    certified(three.relay.folder)
    relay = three.relay_for(three.one, certificate=b"", sni=NAME, path="/clan")
    three.relay.want(listen=(Listen(place=BEHIND, web=True),))
    three.one.want(relays=(relay,))
    with site(three.relay.space, three.relay.folder):
        three.relay.start()
        three.one.start()
        until(lambda: "self-signed" in three.one.ask()["calls"][0]["fault"])


def test_through_a_proxy_that_asks_for_a_password(three: Trio) -> None:
    address = three.outside(three.one)
    secret = three.one.folder / "password"
    secret.write_text("guest:wrong\n")
    secret.chmod(0o644)
    place = Endpoint(host=address, port=PROXY_PORT)
    three.one.want(proxy=Proxy(place=place, credentials=str(secret)))
    # It is the proxy alone that gets to port 443.
    three.one.space.run(f"ip route add blackhole {three.outside(three.other)}/32")
    with three.relay.space.inside():
        rule = (
            "add table inet only\n"
            "add chain inet only in { type filter hook input priority 0; }\n"
            "add rule inet only in iifname eth1 tcp dport 443 drop\n"
        )
        subprocess.run(["nft", "-f", "-"], input=rule.encode(), check=True)
    with proxy(three.relay.space, three.relay.folder, address) as log:
        for each in three.all:
            each.start()
        until(lambda: "chmod 600" in three.one.ask()["calls"][0]["fault"])
        secret.chmod(0o600)
        until(lambda: "the proxy refuses" in three.one.ask()["calls"][0]["fault"])
        assert "wrong" not in three.one.log.read_text() + str(three.one.ask())
        secret.write_text("guest:sesame\n")
        until(lambda: three.relay.has_stream("laptop"), 60)
        three.make_wireguard()
        assert until(lambda: three.one.pings(three.other))
        assert "CONNECT" in log.read_text()
