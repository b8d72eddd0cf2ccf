"""The package archives of this machine's apt: whether one answers, and the way through the admin's.

That way is a socket of the admin's that ssh forwards; a proxy for these archives is at its other
end. apt speaks to a proxy over TCP alone, so a loopback port leads to the socket while apt runs. It
takes whoever shows a password that is made for the occasion and stands in a file for root alone:
not every user of this machine is to fetch through the admin's computer. apt checks signatures as
ever; none of those on the way can change a package unnoticed.
"""

from __future__ import annotations

import base64
import contextlib
import queue
import re
import secrets
import socket
import tempfile
import threading
import time
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

PORTS = {"http": 80, "https": 443}
PATIENCE = 5.0
"""Seconds that all archives together have to answer."""
LONGEST_HEAD = 65536
"""Bytes of a request before its body."""

_CONFIGURATION = """\
#clear Acquire::http::Proxy;
#clear Acquire::https::Proxy;
#clear Acquire::http::Proxy-Auto-Detect;
#clear Acquire::https::Proxy-Auto-Detect;
Acquire::http::Proxy "{proxy}";
Acquire::https::Proxy "{proxy}";
Acquire::http::Pipeline-Depth "0";
"""


def known() -> list[tuple[str, int]]:
    """Return host and port of each archive that apt would fetch from over the network."""
    return [(host, port) for host, port in _sites() if host]


def reached() -> bool:
    """Whether any of them answers, over the machine's own proxy if it has one."""
    sites = _sites()
    own = run(["apt-config", "shell", "PROXY", "Acquire::http::Proxy"]).partition("=")[2]
    proxy = urlsplit(own.strip().strip("'"))
    if proxy.hostname:
        sites = [(proxy.hostname, proxy.port or PORTS.get(proxy.scheme, 80))]
    # What is on a disk of the machine needs no network.
    return any(not host for host, _ in sites) or _any_answers(sites)


def _sites() -> list[tuple[str, int]]:
    """Return host and port of each archive; of one on a disk, no host."""
    # Not `indextargets`: that lists what was fetched before.
    listed = run(["apt-get", "-q", "--print-uris", "update"])
    found: dict[tuple[str, int], None] = {}
    for address in re.findall(r"(?m)^'([^']+)'", listed):
        site = urlsplit(address)
        # `tor+https` and the like say how it is fetched as well.
        scheme = site.scheme.rpartition("+")[2]
        found[site.hostname or "", site.port or PORTS.get(scheme, 80)] = None
    return list(found)


def _any_answers(sites: Sequence[tuple[str, int]]) -> bool:
    answers: queue.SimpleQueue[bool] = queue.SimpleQueue()

    def look(site: tuple[str, int]) -> None:
        try:
            socket.create_connection(site, timeout=PATIENCE).close()
            answers.put(True)
        except OSError:
            answers.put(False)

    # Daemons: a name server that is silent holds a thread up for longer than anybody waits.
    for site in sites:
        threading.Thread(target=look, args=(site,), daemon=True).start()
    end = time.monotonic() + PATIENCE
    for _ in sites:
        try:
            if answers.get(timeout=max(0.0, end - time.monotonic())):
                return True
        except queue.Empty:
            break
    return False


@contextlib.contextmanager
def through(way: Path) -> Iterator[list[str]]:
    """Yield the options that have apt fetch through the socket `way`. Raises StepError."""
    if not way.is_socket():
        raise StepError(
            "no way to a package archive: the sshd of this machine does not forward a socket "
            "(AllowStreamLocalForwarding in its configuration)"
        )
    password = secrets.token_hex(16)
    with socket.create_server(("127.0.0.1", 0)) as door, tempfile.NamedTemporaryFile("w") as file:
        # Its mode is 0600.
        proxy = f"http://clan:{password}@127.0.0.1:{door.getsockname()[1]}/"
        file.write(_CONFIGURATION.format(proxy=proxy))
        file.flush()
        shown = base64.b64encode(f"clan:{password}".encode())
        keeper = threading.Thread(target=_admit, args=(door, way, shown), daemon=True)
        keeper.start()
        try:
            yield ["--config-file", file.name]
        finally:
            door.shutdown(socket.SHUT_RDWR)
            keeper.join(1.0)


def _admit(door: socket.socket, way: Path, password: bytes) -> None:
    """Lead whoever shows the password from the door to the socket, until the door is shut."""
    while True:
        try:
            caller, _ = door.accept()
        except OSError:
            return
        threading.Thread(target=_lead, args=(caller, way, password), daemon=True).start()


def _lead(caller: socket.socket, way: Path, password: bytes) -> None:
    with caller, socket.socket(socket.AF_UNIX) as far, contextlib.suppress(OSError):
        head = b""
        caller.settimeout(PATIENCE)
        while b"\r\n\r\n" not in head and len(head) < LONGEST_HEAD:
            more = caller.recv(LONGEST_HEAD)
            if not more:
                return
            head += more
        caller.settimeout(None)
        if not _shows(head, password):
            caller.sendall(
                b"HTTP/1.1 407 Proxy Authentication Required\r\nConnection: close\r\n\r\n"
            )
            return
        far.connect(str(way))
        far.sendall(head)
        back = threading.Thread(target=_copy, args=(far, caller), daemon=True)
        back.start()
        _copy(caller, far)
        back.join()


def _shows(head: bytes, password: bytes) -> bool:
    """Whether a request has the password (RFC 7617)."""
    for line in head.partition(b"\r\n\r\n")[0].split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"proxy-authorization":
            scheme, _, given = value.strip().partition(b" ")
            return scheme.lower() == b"basic" and secrets.compare_digest(given.strip(), password)
    return False


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
