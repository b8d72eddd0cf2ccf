from __future__ import annotations

import asyncio
import socket
import time

import pytest

from clan.system.names import ResolveError, SystemResolver, literal


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("192.0.2.1", (socket.AF_INET, ("192.0.2.1", 22))),
        ("2001:db8::1", (socket.AF_INET6, ("2001:db8::1", 22, 0, 0))),
        ("fe80::1%1", (socket.AF_INET6, ("fe80::1", 22, 0, 1))),
        ("fe80::1%lo", (socket.AF_INET6, ("fe80::1", 22, 0, 1))),
        ("fe80::1%nothere", None),
        ("nas.local", None),
        ("192.0.2", None),
    ],
)
def test_numbers_need_no_name_server(host: str, address: object) -> None:
    assert literal(host, 22) == address


def test_a_name_that_is_not_there_says_so() -> None:
    with pytest.raises(ResolveError, match=r"nothing\.invalid does not resolve"):
        asyncio.run(SystemResolver().resolve("nothing.invalid", 22, limit=20))


def test_a_name_that_cannot_be_one_is_no_crash() -> None:
    with pytest.raises(ResolveError):
        asyncio.run(SystemResolver().resolve("x" * 70 + ".example", 22, limit=20))


def test_a_silent_name_server_is_not_waited_for_at_the_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def silent(*_: object, **__: object) -> list[object]:
        time.sleep(3)  # as glibc does: three servers, five seconds, twice
        return []

    monkeypatch.setattr(socket, "getaddrinfo", silent)
    begin = time.monotonic()
    with pytest.raises(ResolveError, match=r"no name server answered for nas\.example in 0\.2 s"):
        asyncio.run(SystemResolver().resolve("nas.example", 22, limit=0.2))
    assert time.monotonic() - begin < 2
