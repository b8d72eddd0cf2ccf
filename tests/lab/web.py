"""A web site on 443, and a proxy that asks for a password: real servers, as Debian has them."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from tests.lab.links import until

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.lab.spaces import Space

NAME = "www.example.org"
PROXY_PORT = 3128
REFERENCE = Path(__file__).parents[2] / "docs/reference/mesh.md"
_PATH = "/usr/sbin:/usr/bin"
_NGINX = """\
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
_CADDY = """\
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
_PROXY = """\
User root
Group root
Port {port}
Listen {address}
Timeout 600
MaxClients 20
BasicAuth guest sesame
ConnectPort 443
LogFile "{log}"
LogLevel Connect
"""


def certified(folder: Path) -> Path:
    """Make a certificate of the site's name, in a folder; those who call have to know it."""
    words = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9"
    more = f"-keyout {folder}/web.key -out {folder}/web.pem -subj /CN={NAME}"
    san = ["-addext", f"subjectAltName=DNS:{NAME}"]
    subprocess.run([*words.split(), *more.split(), *san], check=True, capture_output=True)
    return folder / "web.pem"


@contextlib.contextmanager
def site(space: Space, folder: Path, server: str = "nginx") -> Iterator[None]:
    """Run the web site of a folder's certificate, with the reference's stanza for streams."""
    stanza = REFERENCE.read_text().split(f"```{server}\n")[1].split("```")[0]
    conf = folder / "web.conf"
    if server == "nginx":
        conf.write_text(_NGINX.format(folder=folder, stanza=stanza))
        words = ["nginx", "-c", str(conf), "-e", str(folder / "nginx.log")]
    else:
        conf.write_text(_CADDY.format(folder=folder, stanza=stanza))
        words = ["caddy", "run", "--adapter", "caddyfile", "--config", str(conf)]
    with _runs(space, folder, words, 443):
        yield


@contextlib.contextmanager
def proxy(space: Space, folder: Path, address: str) -> Iterator[Path]:
    """Run a proxy at an address, for who knows `guest:sesame`, and only to port 443; give its log.

    The log says what it was asked for.
    """
    conf, log = folder / "proxy.conf", folder / "proxy.log"
    conf.write_text(_PROXY.format(port=PROXY_PORT, address=address, log=log))
    with _runs(space, folder, ["tinyproxy", "-d", "-c", str(conf)], PROXY_PORT):
        yield log


@contextlib.contextmanager
def _runs(space: Space, folder: Path, words: list[str], ready: int) -> Iterator[None]:
    """Run a server until its port answers, and to the end."""
    if shutil.which(words[0], path=_PATH) is None:
        pytest.skip(f"{words[0]} is not installed (scripts/setup installs it)")
    with (folder / "server.log").open("ab") as log:
        server = subprocess.Popen(
            ["ip", "netns", "exec", space.name, *words],
            stdout=log,
            stderr=log,
            env={"PATH": _PATH, "HOME": str(folder)},
        )
    try:
        until(lambda: f":{ready} " in space.run("ss -Htln"))
        yield
    finally:
        server.terminate()
        server.wait()


@contextlib.contextmanager
def found_at(address: str, *spaces: Space) -> Iterator[None]:
    """Have the site's name lead to an address, for what `ip netns exec` starts in these spaces."""
    made = [Path("/etc/netns", each.name) for each in spaces]
    try:
        for folder in made:
            folder.mkdir(parents=True)
            (folder / "hosts").write_text(f"127.0.0.1 localhost\n{address} {NAME}\n")
        yield
    finally:
        for folder in made:
            shutil.rmtree(folder, ignore_errors=True)
