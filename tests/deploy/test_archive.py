"""The way to package archives through this computer leads there and nowhere else."""

from __future__ import annotations

import asyncio
import socket

import pytest

from clan.deploy.archive import _wanted, proxy, reachable

ALLOWED = ("deb.example", 80)


async def asked(request: str, *sites: tuple[str, int]) -> str:
    """Return the first line that a proxy for some archives answers."""
    async with proxy(sites or [ALLOWED]) as place:
        assert place.stat().st_uid == place.parent.stat().st_uid
        assert place.parent.stat().st_mode & 0o777 == 0o700
        reader, writer = await asyncio.open_unix_connection(place)
        writer.write(request.encode())
        line = (await reader.readline()).decode()
        writer.close()
    assert not place.exists()
    return line


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        ("GET http://other.example/pool HTTP/1.1", "403"),
        ("GET http://deb.example:8080/pool HTTP/1.1", "403"),
        ("CONNECT deb.example:22 HTTP/1.1", "403"),
        ("CONNECT 127.0.0.1:22 HTTP/1.1", "403"),
        ("POST http://deb.example/pool HTTP/1.1", "400"),
        ("GET ftp://deb.example/pool HTTP/1.1", "400"),
        ("GET http://deb.example:x/ HTTP/1.1", "400"),
        ("GET /pool HTTP/1.1", "400"),
        ("CONNECT deb.example HTTP/1.1", "400"),
        ("nonsense", "400"),
    ],
)
def test_what_is_not_one_of_the_machine_s_archives_is_refused(
    request_line: str, status: str
) -> None:
    answer = asyncio.run(asked(f"{request_line}\r\nHost: deb.example\r\n\r\n"))
    assert answer.startswith(f"HTTP/1.1 {status} ")


def test_a_request_without_an_end_is_refused() -> None:
    answer = asyncio.run(asked(f"GET http://deb.example/ HTTP/1.1\r\nX: {'x' * (1 << 18)}"))
    assert answer.startswith("HTTP/1.1 400 ")


@pytest.mark.parametrize("method", ["GET http://localhost:{}/ HTTP/1.1", "CONNECT localhost:{} H"])
def test_services_of_this_computer_are_no_archives(method: str) -> None:
    """Whatever a machine says: it may be in the wrong hands."""
    with socket.create_server(("127.0.0.1", 0)) as service:
        port = service.getsockname()[1]
        answer = asyncio.run(asked(f"{method.format(port)}\r\n\r\n", ("localhost", port)))
        assert answer.startswith("HTTP/1.1 502 ")
        caller, _ = service.accept()
        with caller:
            assert caller.recv(1) == b""
        assert not asyncio.run(reachable([("localhost", port)]))


@pytest.mark.parametrize(
    ("method", "target", "wanted"),
    [
        ("GET", "http://Deb.Example/a/b?c=d/e", (("deb.example", 80), "/a/b?c=d/e")),
        ("GET", "http://deb.example", (("deb.example", 80), "/")),
        ("HEAD", "http://[2001:db8::1]:8080/a", (("2001:db8::1", 8080), "/a")),
        ("CONNECT", "Deb.example:443", (("deb.example", 443), None)),
        ("CONNECT", "[2001:db8::1]:443", (("2001:db8::1", 443), None)),
    ],
)
def test_what_a_request_wants(method: str, target: str, wanted: object) -> None:
    assert _wanted(method, target) == wanted
