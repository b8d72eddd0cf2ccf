"""Streams behind a web server, and through a proxy: real ones, as Debian has them."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.links import until
from tests.lab.stations import Trio, trio

from clan.mesh.link import Endpoint
from clan.mesh.tls.wants import Listen, Proxy

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.lab

NAME = "www.example.org"
BEHIND = Endpoint(host="127.0.0.1", port=8443)
REFERENCE = Path(__file__).parents[2] / "docs/reference/mesh.md"
NGINX = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/nginx.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen 443 ssl;
        server_name www.example.org;
        ssl_certificate {folder}/web.pem;
        ssl_certificate_key {folder}/web.key;
        location / {{ return 200 "a web site"; }}
{stanza}
    }}
}}
"""
CADDY = """\
{{
    admin off
    auto_https disable_redirects
    skip_install_trust
}}
www.example.org {{
    tls {folder}/web.pem {folder}/web.key
{stanza}
    respond "a web site"
}}
"""


def stanza(language: str) -> str:
    """The stanza that the reference gives."""
    return REFERENCE.read_text().split(f"```{language}\n")[1].split("```")[0]


@pytest.fixture
def three(lab_ready: None, tmp_path: Path) -> Iterator[Trio]:
    del lab_ready
    with trio(tmp_path) as made:
        made.want()
        yield made


@contextlib.contextmanager
def runs(three: Trio, words: list[str], ready: int) -> Iterator[None]:
    """Run a server at the relay's until its port answers, and to the end."""
    if shutil.which(words[0], path="/usr/sbin:/usr/bin") is None:
        pytest.skip(f"{words[0]} is not installed (scripts/setup installs it)")
    command = ["ip", "netns", "exec", three.relay.space.name, *words]
    with (three.relay.folder / "server.log").open("wb") as log:
        server = subprocess.Popen(
            command,
            stdout=log,
            stderr=log,
            env={"PATH": "/usr/sbin:/usr/bin", "HOME": str(three.relay.folder)},
        )
    try:
        until(lambda: f":{ready} " in three.relay.space.run("ss -Htln"))
        yield
    finally:
        server.terminate()
        server.wait()


def certified(three: Trio) -> Path:
    """A certificate for the web server, from an authority that the machines know."""
    folder = three.relay.folder
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9"
    more = f"-keyout {folder}/web.key -out {folder}/web.pem -subj /CN={NAME}"
    san = ["-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run([*words.split(), *more.split(), *san], check=True, capture_output=True)
    return folder / "web.pem"


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
    folder = three.relay.folder
    pem = certified(three)
    if server == "nginx":
        text = NGINX.format(folder=folder, stanza=stanza("nginx"))
        words = ["nginx", "-c", str(folder / "web.conf"), "-e", str(folder / "nginx.log")]
    else:
        text = CADDY.format(folder=folder, stanza=stanza("caddy"))
        words = ["caddy", "run", "--adapter", "caddyfile", "--config", str(folder / "web.conf")]
    (folder / "web.conf").write_text(text)
    with runs(three, words, 443):
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
    folder = three.relay.folder
    certified(three)
    (folder / "web.conf").write_text(NGINX.format(folder=folder, stanza=stanza("nginx")))
    words = ["nginx", "-c", str(folder / "web.conf"), "-e", str(folder / "nginx.log")]
    relay = three.relay_for(three.one, certificate=b"", sni=NAME, path="/clan")
    three.relay.want(listen=(Listen(place=BEHIND, web=True),))
    three.one.want(relays=(relay,))
    with runs(three, words, 443):
        three.relay.start()
        three.one.start()
        until(lambda: "self-signed" in three.one.ask()["calls"][0]["fault"])


PROXY = """\
User root
Group root
Port 3128
Listen {address}
Timeout 600
MaxClients 20
BasicAuth guest sesame
ConnectPort 443
LogFile "{folder}/proxy.log"
LogLevel Connect
"""


def test_through_a_proxy_that_asks_for_a_password(three: Trio) -> None:
    folder = three.relay.folder
    address = three.outside(three.one)
    (folder / "proxy.conf").write_text(PROXY.format(folder=folder, address=address))
    secret = three.one.folder / "password"
    secret.write_text("guest:wrong\n")
    secret.chmod(0o644)
    proxy = Proxy(place=Endpoint(host=address, port=3128), credentials=str(secret))
    three.one.want(proxy=proxy)
    # It is the proxy alone that gets to port 443.
    three.one.space.run(f"ip route add blackhole {three.outside(three.other)}/32")
    with three.relay.space.inside():
        rule = (
            "add table inet only\n"
            "add chain inet only in { type filter hook input priority 0; }\n"
            "add rule inet only in iifname eth1 tcp dport 443 drop\n"
        )
        subprocess.run(["nft", "-f", "-"], input=rule.encode(), check=True)
    with runs(three, ["tinyproxy", "-d", "-c", str(folder / "proxy.conf")], 3128):
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
        assert "CONNECT" in (folder / "proxy.log").read_text()
