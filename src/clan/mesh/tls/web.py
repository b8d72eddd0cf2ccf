"""The little of HTTP that a stream needs: a web server in front, or a proxy on the way. Pure.

A web server in front ends TLS and passes the stream on after an upgrade (RFC 9110, section 7.8).
It calls itself `websocket` and has that protocol's key and answer (RFC 6455, section 4), as web
servers and the boxes before them know that one; what follows are our frames, which nobody between
reads. A proxy is asked for a tunnel by CONNECT (RFC 9110, section 9.3.6).

Heads are read up to LONGEST bytes, and only what is looked for in them; all else is passed over.
"""

from __future__ import annotations

import base64
import hashlib
import secrets
from typing import TYPE_CHECKING

from clan.mesh.errors import MeshError

if TYPE_CHECKING:
    from collections.abc import Generator

LONGEST = 8192
"""Bytes of a head."""
NOT_FOUND = b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
"""What is answered to all that is no upgrade, as a web server answers for what it does not have."""
_MAGIC = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
"""RFC 6455, section 1.3."""
_KEY = 24
"""Characters of such a key: 16 bytes in base64."""
_END = b"\r\n\r\n"
_OK = range(200, 300)
_SWITCHING = 101


def tunnel(
    buffer: bytearray, host: str, port: int, credentials: str
) -> Generator[bytes, None, None]:
    """Ask a proxy for a tunnel; `credentials` are `user:password`, or empty.

    Raises MeshError with the proxy's own line if it refuses.
    """
    to = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {to} HTTP/1.1", f"Host: {to}"]
    if credentials:
        encoded = base64.b64encode(credentials.encode()).decode("ascii")
        lines.append(f"Proxy-Authorization: Basic {encoded}")
    yield _head(lines)
    first, _ = yield from _read(buffer, b"")
    if _status(first) not in _OK:
        raise MeshError(f"the proxy refuses: {_shown(first)}")


def upgrade(buffer: bytearray, host: str, path: str) -> Generator[bytes, None, None]:
    """Ask a web server to pass the stream on. Raises MeshError if it does not."""
    key = base64.b64encode(secrets.token_bytes(16))
    yield _head(
        [
            f"GET {path} HTTP/1.1",
            f"Host: {host}",
            "Connection: Upgrade",
            "Upgrade: websocket",
            "Sec-WebSocket-Version: 13",
            f"Sec-WebSocket-Key: {key.decode('ascii')}",
        ]
    )
    first, fields = yield from _read(buffer, b"")
    if _status(first) != _SWITCHING:
        raise MeshError(f"the web server does not pass the stream on: {_shown(first)}")
    if fields.get(b"sec-websocket-accept") != _accepted(key):
        raise MeshError("what answers behind the web server is no relay")


def upgraded(buffer: bytearray) -> Generator[bytes, None, None]:
    """Agree to an upgrade that a web server passes on.

    Raises MeshError for all else, when NOT_FOUND has been yielded.
    """
    first, fields = yield from _read(buffer, NOT_FOUND)
    key = fields.get(b"sec-websocket-key", b"")
    asked = fields.get(b"upgrade", b"").lower() == b"websocket" and len(key) == _KEY
    if not (first.startswith(b"GET ") and asked):
        yield NOT_FOUND
        raise MeshError("a request that is no stream")
    yield _head(
        [
            "HTTP/1.1 101 Switching Protocols",
            "Connection: Upgrade",
            "Upgrade: websocket",
            f"Sec-WebSocket-Accept: {_accepted(key).decode('ascii')}",
        ]
    )


def _read(
    buffer: bytearray, refusal: bytes
) -> Generator[bytes, None, tuple[bytes, dict[bytes, bytes]]]:
    """Take a head from what comes: its first line, and its fields by their names in lower case."""
    while (end := buffer.find(_END, 0, LONGEST)) < 0:
        if len(buffer) >= LONGEST:
            if refusal:
                yield refusal
            raise MeshError(f"a head of HTTP is longer than {LONGEST} bytes")
        yield b""
    first, *rest = bytes(buffer[:end]).split(b"\r\n")
    del buffer[: end + len(_END)]
    pairs = (line.partition(b":") for line in rest)
    return first, {name.strip().lower(): value.strip() for name, _, value in pairs}


def _head(lines: list[str]) -> bytes:
    return "\r\n".join([*lines, "", ""]).encode("ascii")


def _status(first: bytes) -> int:
    words = first.split(maxsplit=2)
    if len(words) < 2 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():  # noqa: PLR2004
        return 0
    return int(words[1][:3])


def _shown(first: bytes) -> str:
    text = first[:80].decode("ascii", "replace")
    return "".join(each if each.isprintable() else "?" for each in text)


def _accepted(key: bytes) -> bytes:
    return base64.b64encode(hashlib.sha1(key + _MAGIC, usedforsecurity=False).digest())
