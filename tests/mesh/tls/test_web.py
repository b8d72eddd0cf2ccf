"""The little of HTTP: an upgrade through a web server, a tunnel through a proxy."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.mesh.tls.side import Side

from clan.mesh.errors import MeshError
from clan.mesh.tls import web


@given(st.integers(1, 400))
def test_both_ends_agree_to_an_upgrade(size: int) -> None:
    relay, machine = Side(web.upgraded), Side(lambda b: web.upgrade(b, "vpn.example", "/clan"))
    asked = machine.hear(b"")
    assert asked.startswith(b"GET /clan HTTP/1.1\r\nHost: vpn.example\r\n")
    answer = b""
    for begin in range(0, len(asked), size):
        answer += relay.hear(asked[begin : begin + size])
    assert answer.startswith(b"HTTP/1.1 101 ")
    assert relay.done
    for begin in range(0, len(answer), size):
        machine.hear(answer[begin : begin + size])
    machine.hear(b"frames")
    assert machine.done
    assert machine.buffer == b"frames"


def test_the_key_is_answered_as_the_rfc_has_it() -> None:
    assert web._accepted(b"dGhlIHNhbXBsZSBub25jZQ==") == b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="


@pytest.mark.parametrize(
    "asked",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: " + b"a" * 24 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: h2c\r\nSec-WebSocket-Key: " + b"a" * 24 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\nSec-WebSocket-Key: short\r\n\r\n",
        b"\r\n\r\n",
        b"x" * web.LONGEST,
    ],
)
def test_all_else_is_not_found(asked: bytes) -> None:
    relay = web.upgraded(bytearray(asked))
    assert next(relay) == web.NOT_FOUND
    with pytest.raises(MeshError):
        next(relay)


@given(st.binary(max_size=2 * web.LONGEST))
def test_noise_is_not_found_or_waited_for(data: bytes) -> None:
    assert next(web.upgraded(bytearray(data))) in {b"", web.NOT_FOUND}


@pytest.mark.parametrize(
    ("host", "credentials", "asked"),
    [
        ("192.0.2.1", "", b"CONNECT 192.0.2.1:443 HTTP/1.1\r\nHost: 192.0.2.1:443\r\n\r\n"),
        (
            "2001:db8::1",
            "",
            b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n",
        ),
        (
            "relay.example",
            "Aladdin:open sesame",
            (
                b"CONNECT relay.example:443 HTTP/1.1\r\nHost: relay.example:443\r\n"
                b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n"
            ),
        ),
    ],
)
def test_a_proxy_is_asked_for_a_tunnel(host: str, credentials: str, asked: bytes) -> None:
    machine = Side(lambda b: web.tunnel(b, host, 443, credentials))
    assert machine.hear(b"") == asked
    machine.hear(b"HTTP/1.1 200 Connection established\r\nVia: proxy\r\n\r\nTLS")
    assert machine.done
    assert machine.buffer == b"TLS"


@pytest.mark.parametrize(
    ("answer", "shown"),
    [
        (b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407 Proxy Auth"),
        (b"HTTP/1.0 403 Forbidden\r\n\r\n", "403 Forbidden"),
        (b"SSH-2.0-OpenSSH\r\n\r\n", "SSH-2.0"),
        (b"HTTP/1.1 \x1b[2J\r\n\r\n", r"HTTP/1.1 \?\[2J"),
        (b"y" * web.LONGEST, "longer"),
    ],
)
def test_a_proxy_that_refuses_is_quoted(answer: bytes, shown: str) -> None:
    machine = Side(lambda b: web.tunnel(b, "192.0.2.1", 443, ""))
    machine.hear(b"")
    with pytest.raises(MeshError, match=shown):
        machine.hear(answer)


def test_who_answers_to_any_upgrade_is_no_relay() -> None:
    machine = Side(lambda b: web.upgrade(b, "vpn.example", "/"))
    machine.hear(b"")
    with pytest.raises(MeshError, match="no relay"):
        machine.hear(b"HTTP/1.1 101 Switching Protocols\r\n\r\n")
