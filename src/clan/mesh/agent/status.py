"""A Unix socket on which the agent answers root: one line of JSON asks, one line answers.

Each connection asks once. Who asks and then does not read, or asks too much, is hung up on: the
agent waits for nobody.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

LONGEST = 65536
"""Bytes of a question."""
PATIENCE = 0.2
"""Seconds that who asks may take: it is a program on this machine."""
ROOM = 4 << 20
"""Bytes of an answer that wait until they are read."""


class Status:
    """The socket. Raises OSError where it cannot be made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileNotFoundError):
            path.unlink()
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        before = os.umask(0o077)
        try:
            self._socket.bind(str(path))
        finally:
            os.umask(before)
        self._socket.listen(16)

    def fileno(self) -> int:
        """Return the descriptor to wait on."""
        return self._socket.fileno()

    def close(self) -> None:
        """Answer no more."""
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def turn(self, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> None:
        """Answer who asks now."""
        with contextlib.suppress(OSError):
            asker, _ = self._socket.accept()
            with asker:
                asker.settimeout(PATIENCE)
                asker.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, ROOM)
                line = b""
                while not line.endswith(b"\n") and len(line) < LONGEST:
                    part = asker.recv(LONGEST)
                    if not part:
                        return
                    line += part
                asker.sendall(json.dumps(_answered(line, answer)).encode("ascii") + b"\n")


def ask(path: Path, question: dict[str, Any], patience: float = 10.0) -> dict[str, Any]:
    """Ask an agent. Raises OSError where none answers."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asked:
        asked.settimeout(patience)
        asked.connect(str(path))
        asked.sendall(json.dumps(question).encode("ascii") + b"\n")
        with asked.makefile("rb") as answer:
            found: dict[str, Any] = json.loads(answer.readline() or b"{}")
    return found


def _answered(line: bytes, answer: Callable[[dict[str, Any]], dict[str, Any]]) -> dict[str, Any]:
    try:
        question = json.loads(line)
    except ValueError:
        question = None
    if not isinstance(question, dict):
        return {"error": "a question is one line with a JSON object"}
    return answer(question)
