"""The way of a machine's apt to the admin's socket: for whoever has the password, while it runs."""

from __future__ import annotations

import re
import socket
import threading
from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import pytest

from clan.machine.archives import through
from clan.machine.system import StepError, run

if TYPE_CHECKING:
    from collections.abc import Iterator

REQUEST = b"GET http://deb.example/ HTTP/1.1\r\n%s\r\n"


@pytest.fixture
def way(tmp_path: Path) -> Iterator[Path]:
    """A socket whose other end says back what it hears."""
    place = tmp_path / "way"
    with socket.socket(socket.AF_UNIX) as door:
        door.bind(str(place))
        door.listen()

        def answer() -> None:
            while True:
                try:
                    caller, _ = door.accept()
                except OSError:
                    return
                with caller:
                    caller.sendall(b"heard " + caller.recv(65536))

        keeper = threading.Thread(target=answer)
        keeper.start()
        yield place
        door.shutdown(socket.SHUT_RDWR)
        keeper.join()


def ask(address: tuple[str, int], password: str | None) -> bytes:
    shown = b""
    if password is not None:
        shown = b"Proxy-Authorization: Basic %s\r\n" % b64encode(password.encode())
    with socket.create_connection(address, timeout=10) as caller:
        caller.sendall(REQUEST % shown)
        return caller.recv(65536)


def test_whoever_has_the_password_is_led_to_the_socket(way: Path) -> None:
    with through(way) as (option, file):
        text = Path(file).read_text()
        assert Path(file).stat().st_mode & 0o777 == 0o600
        # As apt itself reads it, whatever its own configuration says of proxies.
        told = run(["apt-config", option, file, "shell", "P", "Acquire::https::Proxy"])
        proxy = urlsplit(re.findall(r"'(.*)'", told)[0])
        assert proxy.hostname is not None
        assert proxy.port is not None
        assert proxy.geturl() in text
        address = (proxy.hostname, proxy.port)
        right = f"{proxy.username}:{proxy.password}"
        assert ask(address, right).startswith(b"heard GET")
        for wrong in (None, "", "clan:", f"{right}x", "clan:" + "0" * 32):
            assert ask(address, wrong).startswith(b"HTTP/1.1 407 ")
    assert not Path(file).exists()
    with pytest.raises(ConnectionRefusedError):
        ask(address, right)


def test_a_way_that_sshd_did_not_make_is_a_clear_error(tmp_path: Path) -> None:
    with pytest.raises(StepError, match="AllowStreamLocalForwarding"), through(tmp_path / "none"):
        pytest.fail("there is no such way")
